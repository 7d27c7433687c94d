// SPDX-License-Identifier: Apache-2.0
#include "listener.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <stdexcept>

namespace vgpu::hypervisor::http {
namespace {

constexpr int kBacklog = 128;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SocketAddress to_socket_address(const ListenAddress& address) {
  SocketAddress out;
  if (address.host.empty()) {
    auto& unix_address = reinterpret_cast<sockaddr_un&>(out.storage);
    unix_address.sun_family = AF_UNIX;
    std::memcpy(unix_address.sun_path, address.path.c_str(), address.path.size() + 1);
    out.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.path.size() + 1);
    return out;
  }
  auto& four = reinterpret_cast<sockaddr_in&>(out.storage);
  if (inet_pton(AF_INET, address.host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(address.port);
    out.size = sizeof(sockaddr_in);
    return out;
  }
  auto& six = reinterpret_cast<sockaddr_in6&>(out.storage);
  inet_pton(AF_INET6, address.host.c_str(), &six.sin6_addr);
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(address.port);
  out.size = sizeof(sockaddr_in6);
  return out;
}

[[noreturn]] void fail(const ListenAddress& address, const char* what) {
  throw std::runtime_error(
      fmt::format("can't {} {}: {}", what, address.text(), std::strerror(errno)));
}

// A socket left behind by a daemon that was killed refuses; one that is served answers.
bool is_served(SocketAddress& address) {
  const Descriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe && (connect(probe.get(), address.get(), address.size) == 0 || errno == EAGAIN);
}

void clear_way(const ListenAddress& address, SocketAddress& where) {
  struct stat there {};
  if (lstat(address.path.c_str(), &there) != 0) return;
  if (!S_ISSOCK(there.st_mode))
    throw std::runtime_error(
        fmt::format("can't listen on {}: there is a file that is no socket", address.text()));
  if (is_served(where))
    throw std::runtime_error(
        fmt::format("can't listen on {}: another process serves it", address.text()));
  unlink(address.path.c_str());
}

}  // namespace

bool ListenAddress::is_loopback() const {
  if (host.empty()) return true;
  in_addr four{};
  if (inet_pton(AF_INET, host.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
  in6_addr six{};
  return inet_pton(AF_INET6, host.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six) != 0;
}

std::string ListenAddress::text() const {
  if (host.empty()) return path;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

ListenAddress parse_listen_address(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return std::invalid_argument(fmt::format(
        "{}: {}; write it as 127.0.0.1:8001, [::1]:8001 or unix:/path/to/socket", text, why));
  };
  ListenAddress address;
  if (text.substr(0, 5) == "unix:" || text.substr(0, 1) == "/") {
    address.path = text.substr(text.front() == '/' ? 0 : 5);
    if (address.path.empty() || address.path.front() != '/')
      throw wrong("a Unix socket needs an absolute path");
    if (address.path.size() >= sizeof(sockaddr_un::sun_path))
      throw wrong(fmt::format("a Unix socket's path has at most {} characters",
                              sizeof(sockaddr_un::sun_path) - 1));
    return address;
  }
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    const bool is_number = text.find_first_not_of("0123456789") == std::string_view::npos;
    throw wrong(is_number ? "an address is missing" : "a port is missing");
  }
  const std::string_view digits = text.substr(colon + 1);
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (digits.empty() || parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size())
    throw wrong("the port is no number from 0 to 65535");
  address.host = text.substr(0, colon);
  if (address.host.size() > 1 && address.host.front() == '[' && address.host.back() == ']')
    address.host = address.host.substr(1, address.host.size() - 2);
  else if (address.host.find(':') != std::string::npos)
    throw wrong("an IPv6 address stands in brackets");
  if (address.host == "localhost") address.host = "127.0.0.1";
  in6_addr ignored{};
  if (inet_pton(AF_INET, address.host.c_str(), &ignored) != 1 &&
      inet_pton(AF_INET6, address.host.c_str(), &ignored) != 1)
    throw wrong("the host is no IP address");
  return address;
}

Descriptor listen_on(const ListenAddress& address) {
  SocketAddress where = to_socket_address(address);
  const int family = where.storage.ss_family;
  Descriptor listening(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening) fail(address, "make a socket for");
  if (family == AF_UNIX) {
    clear_way(address, where);
    fchmod(listening.get(), 0600);  // what bind gives the file
  } else {
    const int on = 1;
    setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6) setsockopt(listening.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (bind(listening.get(), where.get(), where.size) != 0) fail(address, "listen on");
  if (family == AF_UNIX && (address.group || address.mode != 0600)) {
    // Nobody can connect before listen().
    const auto group = address.group.value_or(static_cast<gid_t>(-1));
    if (lchown(address.path.c_str(), static_cast<uid_t>(-1), group) != 0 ||
        chmod(address.path.c_str(), address.mode) != 0) {
      const int error = errno;
      unlink(address.path.c_str());
      errno = error;
      fail(address, "let others connect to");
    }
  }
  if (listen(listening.get(), kBacklog) != 0) fail(address, "listen on");
  return listening;
}

ListenAddress address_of(int listening) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  ListenAddress address;
  if (getsockname(listening, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return address;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
    inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
    address.host = text.data();
    address.port = ntohs(in.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
    inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
    address.host = text.data();
    address.port = ntohs(in.sin6_port);
  } else if (storage.ss_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
    address.path = reinterpret_cast<const sockaddr_un&>(storage).sun_path;
  }
  return address;
}

}  // namespace vgpu::hypervisor::http
