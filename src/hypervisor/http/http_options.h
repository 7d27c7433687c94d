// SPDX-License-Identifier: Apache-2.0
// What the HTTP side is told at its start, as plain values with their defaults. settings/ fills it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vgpu::hypervisor {

// Which tenant a pod is, where its name isn't NAMESPACE.POD.
struct DeclaredPod {
  std::string name_space;
  std::string name;
  std::string tenant;  // its name
};

enum class SocketAccess : unsigned char { owner, group, all };

struct HttpOptions {
  // "127.0.0.1:8001", "[::1]:8001", "unix:/path"; "none" alone: nothing.
  std::vector<std::string> listen = {"127.0.0.1:8001"};
  // Nobody asked for these addresses: one that is taken is said and left out, not fatal.
  bool listen_is_default = true;
  // "10.1.2.3:8002": there a pod asks about itself, in the clear, and nothing else is answered.
  std::vector<std::string> listen_for_pods;
  // The Unix socket for whoever may change things; empty: hypervisor.sock in the state directory.
  std::string socket;
  // In place of that default; its folder is made where it isn't there.
  std::string default_socket;
  // Who may connect to it, by the mode and group of its file.
  SocketAccess socket_access = SocketAccess::owner;
  std::optional<gid_t> socket_group;  // of SocketAccess::group
  bool containers_are_users = false;  // auth.h
  std::vector<int> sockets;           // that listen already (systemd)

  std::string tls_certificate_file, tls_key_file;  // both, for addresses beyond loopback

  std::string token_key_file;   // PEM of an RSA or P-256 key or certificate, or an HS256 secret
  std::string token_jwks_file;  // a JSON web key set
  std::string token_audience = "vgpu";
  std::string token_issuer;  // empty: any

  // Anybody on this machine may read over loopback, not only the daemon's user and root.
  bool open_reads = false;

  double requests_per_second = 100;  // of one peer; bursts of four times as many
  std::uint32_t connections = 96;    // at a time, of TCP; as many again of the socket

  std::vector<DeclaredPod> pods;
};

}  // namespace vgpu::hypervisor
