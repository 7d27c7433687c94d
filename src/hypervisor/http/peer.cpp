// SPDX-License-Identifier: Apache-2.0
#include "peer.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "containment.h"

namespace vgpu::hypervisor::http {
namespace {

// "::ffff:10.0.0.1" is 10.0.0.1.
bool to_ipv4(const in6_addr& address, in_addr& out) {
  if (!IN6_IS_ADDR_V4MAPPED(&address)) return false;
  std::copy_n(address.s6_addr + 12, 4, reinterpret_cast<std::uint8_t*>(&out));
  return true;
}

struct Endpoint {
  std::string address;
  std::uint16_t port = 0;
  bool loopback = false;
};

std::string text_of(const in_addr& address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  inet_ntop(AF_INET, &address, text.data(), text.size());
  return text.data();
}

std::optional<Endpoint> endpoint_of(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(from);
    return Endpoint{text_of(in.sin_addr), ntohs(in.sin_port),
                    (ntohl(in.sin_addr.s_addr) >> 24) == 127};
  }
  if (from.ss_family != AF_INET6) return std::nullopt;
  const auto& in = reinterpret_cast<const sockaddr_in6&>(from);
  in_addr mapped{};
  if (to_ipv4(in.sin6_addr, mapped))
    return Endpoint{text_of(mapped), ntohs(in.sin6_port), (ntohl(mapped.s_addr) >> 24) == 127};
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
  return Endpoint{text.data(), ntohs(in.sin6_port), IN6_IS_ADDR_LOOPBACK(&in.sin6_addr) != 0};
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const auto begin = line.find_first_not_of(' ');
    if (begin == std::string_view::npos) return words;
    const auto end = line.find(' ', begin);
    words.push_back(line.substr(begin, end - begin));
    if (end == std::string_view::npos) return words;
    line.remove_prefix(end);
  }
}

// "0100007F:1F90": the address in the kernel's byte order, the port as a number.
bool is_loopback_at(std::string_view word, std::uint16_t port) {
  const auto colon = word.find(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view address = word.substr(0, colon), digits = word.substr(colon + 1);
  unsigned value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (parsed.ec != std::errc{} || value != port) return false;
  if (address.size() == 8) return address.substr(6) == "7F";
  return address == "00000000000000000000000001000000" ||
         (address.size() == 32 && address.substr(0, 24) == "0000000000000000FFFF0000" &&
          address.substr(30) == "7F");
}

}  // namespace

std::string Peer::limit_key() const {
  if (by_unix_socket) return fmt::format("uid {}{}", uid, container ? " in containers" : "");
  in6_addr wide{};
  if (inet_pton(AF_INET6, address.c_str(), &wide) != 1) return address;
  std::fill_n(wide.s6_addr + 8, 8, std::uint8_t{0});
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, &wide, text.data(), text.size());
  return fmt::format("{}/64", text.data());
}

namespace {

// As the kernel noted them when it connected; without that, its own group alone.
std::vector<gid_t> groups_of(int socket, gid_t own) {
  constexpr std::size_t kUsual = 64;
  std::vector<gid_t> groups(kUsual);
  socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int failed = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (failed != 0 && errno == ERANGE) {
    groups.resize(size / sizeof(gid_t));
    failed = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  groups.resize(failed == 0 ? size / sizeof(gid_t) : 0);
  groups.push_back(own);
  return groups;
}

}  // namespace

std::optional<Peer> peer_of(int socket) {
  sockaddr_storage remote{}, local{};
  socklen_t remote_size = sizeof remote, local_size = sizeof local;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&local), &local_size) != 0) return {};
  Peer peer;
  if (local.ss_family == AF_UNIX) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return {};
    peer.by_unix_socket = true;
    peer.uid = credentials.uid;
    peer.gid = credentials.gid;
    peer.groups = groups_of(socket, credentials.gid);
    peer.pid = credentials.pid;
    peer.process = PeerProcess::of(socket, credentials.pid);
    // Where it can't be seen, or is gone by now, nobody knows: as from a container.
    peer.container = "";
    if (peer.process != nullptr) {
      auto container = container_around(credentials.pid);
      if (peer.process->is_alive()) peer.container = std::move(container);
    }
    return peer;
  }
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&remote), &remote_size) != 0) return {};
  const auto theirs = endpoint_of(remote), ours = endpoint_of(local);
  if (!theirs || !ours) return {};
  peer.address = theirs->address;
  peer.port = theirs->port;
  peer.local_port = ours->port;
  peer.loopback = theirs->loopback && ours->loopback;
  return peer;
}

std::optional<uid_t> owner_in_table(std::string_view table, std::uint16_t its_port,
                                    std::uint16_t our_port) {
  constexpr std::size_t kLocal = 1, kRemote = 2, kUid = 7;
  while (!table.empty()) {
    const auto end = table.find('\n');
    const auto words = words_of(table.substr(0, end));
    table.remove_prefix(end == std::string_view::npos ? table.size() : end + 1);
    if (words.size() <= kUid || !is_loopback_at(words[kLocal], its_port) ||
        !is_loopback_at(words[kRemote], our_port))
      continue;
    uid_t uid = 0;
    const auto parsed =
        std::from_chars(words[kUid].data(), words[kUid].data() + words[kUid].size(), uid);
    if (parsed.ec == std::errc{}) return uid;
  }
  return std::nullopt;
}

std::optional<uid_t> owner_of_loopback(const Peer& peer) {
  if (!peer.loopback) return std::nullopt;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(path);
    const std::string table{std::istreambuf_iterator<char>(file), {}};
    if (const auto uid = owner_in_table(table, peer.port, peer.local_port)) return uid;
  }
  return std::nullopt;
}

}  // namespace vgpu::hypervisor::http
