// SPDX-License-Identifier: Apache-2.0
// Who is at the other end of a connection, as the kernel tells it. Nothing in here comes from what
// the other end says.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "peer_process.h"

namespace vgpu::hypervisor::http {

struct Peer {
  bool by_unix_socket = false;
  uid_t uid = 0;  // of a Unix socket's peer when it connected (SO_PEERCRED)
  gid_t gid = 0;
  std::vector<gid_t> groups;  // its supplementary ones (SO_PEERGROUPS) and `gid`
  pid_t pid = 0;
  std::shared_ptr<const PeerProcess> process{};  // null: it can't be seen from here
  // Of a Unix socket's peer that is in a container, or may be: which (containment.h); may be empty.
  std::optional<std::string> container{};
  std::string address;  // "127.0.0.1", "2001:db8::1"; empty for a Unix socket
  std::uint16_t port = 0;
  std::uint16_t local_port = 0;
  bool loopback = false;  // both ends are on this machine
  bool for_pods = false;  // it came to an address for pods only

  // What its limits are counted by: a user, one in containers, an IPv4 address, an IPv6 network of
  // 64 bits.
  std::string limit_key() const;
};

// Of a socket that was accepted; none: the kernel doesn't say.
std::optional<Peer> peer_of(int socket);

// The user who owns the other end of a TCP connection within this machine and network namespace.
std::optional<uid_t> owner_of_loopback(const Peer& peer);
// The same from the text of /proc/net/tcp or tcp6. Pure.
std::optional<uid_t> owner_in_table(std::string_view table, std::uint16_t its_port,
                                    std::uint16_t our_port);

}  // namespace vgpu::hypervisor::http
