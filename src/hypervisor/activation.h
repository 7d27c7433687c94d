// SPDX-License-Identifier: Apache-2.0
// Sockets that systemd opened for the daemon (LISTEN_FDS, sd_listen_fds(3)).
#pragma once

#include <vector>

namespace vgpu::hypervisor {

// Descriptors of listening stream sockets that are meant for this process; the caller owns them.
// They are closed on exec, and the variables are gone afterwards, so that no child takes them for
// its own. Throws survey::Problem for what isn't a listening stream socket. Before any thread is.
std::vector<int> take_activated_sockets();

}  // namespace vgpu::hypervisor
