// SPDX-License-Identifier: Apache-2.0
// The two kinds of data source, and what chooses between them. One thread each.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vgpu/client/address.h"
#include "vgpu/client/daemon.h"
#include "vgpu/tui/model.h"

namespace vgpu::tui {

// The tenants' segments and NVML: this user's tenants, without a daemon. Histories grow from the 15
// seconds that seats remember; events are what differs from one look to the next.
std::unique_ptr<DataSource> segments_source(bool simulated);

// A daemon by its API. look() and change() throw client::Unreachable when it doesn't answer.
std::unique_ptr<DataSource> daemon_source(client::Daemon daemon);

struct SourceOptions {
  std::vector<client::Address> addresses;  // where a daemon may be, in this order
  std::string token;
  bool simulated = false;
  // Only a daemon that looks after this user's state directory, and those GPUs, simulated or not.
  bool of_this_user = false;
  // No daemon: the segments (true), or an error (false), as where an address was typed.
  bool segments_will_do = true;
  bool say_so = false;  // that it is the segments; a daemon that was lost is said anyway
};
// The daemon while it answers, else the segments, and the daemon again when it is back. Throws
// survey::Problem where the daemon is needed and doesn't answer.
std::unique_ptr<DataSource> open_source(const SourceOptions& options);

// What happened between two looks, as the daemon would call it; sequences count on from `sequence`.
std::vector<Event> differences(const Model& before, const Model& now, std::uint64_t& sequence);

}  // namespace vgpu::tui
