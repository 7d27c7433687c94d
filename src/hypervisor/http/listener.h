// SPDX-License-Identifier: Apache-2.0
// Where the server is reached. An address other than loopback needs TLS: what it serves and what it
// takes orders by (tokens) would otherwise cross the network in the clear. But for one that is for
// pods only, which ask about themselves, by limiters that speak no TLS.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "wire.h"

namespace vgpu::hypervisor::http {

struct ListenAddress {
  std::string host;              // "127.0.0.1", "::1"; empty: a Unix socket
  std::uint16_t port = 0;        // 0: any that is free
  std::string path;              // of the Unix socket
  mode_t mode = 0600;            // of its file, which decides who may connect
  std::optional<gid_t> group{};  // of its file; none: the process's own
  bool for_pods = false;         // no more than a pod asks about itself, in the clear
  bool is_loopback() const;
  std::string text() const;
};

// "127.0.0.1:8001", "[::1]:8001", "localhost:8001", "unix:/run/vgpu/http.sock",
// "/run/vgpu/http.sock". Throws std::invalid_argument that says what is wrong with it and what
// would be right. Pure.
ListenAddress parse_listen_address(std::string_view text);

// A socket that listens there. A Unix socket that nobody listens on any more is replaced, one that
// is served is not. Throws std::runtime_error.
Descriptor listen_on(const ListenAddress& address);

// Where a socket really listens ("127.0.0.1:40123"), also one that came from systemd.
ListenAddress address_of(int listening);

}  // namespace vgpu::hypervisor::http
