// SPDX-License-Identifier: Apache-2.0
// Where a daemon listens, as people write it, and where one is looked for. Reads the environment,
// touches nothing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vgpu::client {

struct Address {
  std::string path;  // of a Unix socket; empty: TCP
  std::string host;
  std::string port;
  bool is_unix() const { return !path.empty(); }
  std::string text() const;  // "unix:/run/vgpu/hypervisor.sock", "http://127.0.0.1:8001"
};

// "/PATH", "unix:/PATH", "http://HOST[:PORT][/]", "HOST:PORT"; port 8001 where none is given.
// Throws survey::Problem (usage) for anything else, https included: there is no TLS in here.
Address parse_address(std::string_view typed);

// Where to look, in this order: VGPU_SOCKET alone, where it is set (`none`: nowhere); else the
// socket of this user's own daemon, in the state directory, and that of the machine's.
std::vector<Address> usual_addresses();

}  // namespace vgpu::client
