// SPDX-License-Identifier: Apache-2.0
#include "vgpu/pod/fetch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/pod/answer.h"
#include "vgpu/pod/http_reply.h"
#include "vgpu/settings/text.h"

namespace vgpu::pod {
namespace {

constexpr std::size_t kMostToken = 16 * 1024;
constexpr std::size_t kMostRequest = kMostToken + 2048;

// Too large for a stack that may be the program's.
struct Exchange {
  HttpReply reply;
  FixedString<kMostToken> token;
  FixedString<kMostRequest> request;
};

// One that unmaps itself.
class MappedExchange {
 public:
  MappedExchange() {
    void* const memory = platform::map_private_zeroed(sizeof(Exchange));
    if (memory != nullptr) exchange_ = new (memory) Exchange;
  }
  ~MappedExchange() {
    if (exchange_ != nullptr) platform::unmap(exchange_, sizeof(Exchange));
  }
  MappedExchange(const MappedExchange&) = delete;
  MappedExchange& operator=(const MappedExchange&) = delete;
  Exchange* get() const { return exchange_; }

 private:
  Exchange* exchange_ = nullptr;
};

bool refuse(Why& why, std::string_view text) {
  why = Why(text);
  return false;
}
bool refuse_errno(Why& why, std::string_view text, int error) {
  why = Why(text);
  why.append(" (errno ").append_number(static_cast<std::uint64_t>(error)).append(")");
  return false;
}

bool read_token(const char* path, FixedString<kMostToken>& token, Why& why) {
  const platform::File file(::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  char bytes[kMostToken];
  ssize_t got = file.is_open() ? ::read(file.fd(), bytes, sizeof bytes) : -1;
  if (got < 0) {
    why = Why("the token can't be read: ");
    why.append(path).append(" (errno ");
    why.append_number(static_cast<std::uint64_t>(errno)).append(")");
    return false;
  }
  const std::string_view text =
      settings::Piece{{bytes, static_cast<std::size_t>(got)}, 0}.trimmed().text;
  const bool is_token =
      !text.empty() && text.size() < sizeof bytes &&
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (!is_token) {
    why = Why("no token is in ");
    why.append(path);
    return false;
  }
  token = text;
  return true;
}

template <std::size_t N>
void append_encoded(FixedString<N>& out, std::string_view text) {
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || settings::is_digit(c) ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out.append(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.append('%').append("0123456789ABCDEF"[byte >> 4]).append("0123456789ABCDEF"[byte & 15]);
    }
  }
}

bool write_request(const Variables& variables, std::string_view method, std::string_view path,
                   std::int32_t pid, Exchange& exchange, Why& why) {
  FixedString<kMostRequest>& out = exchange.request;
  out.append(method).append(" ").append(path).append("?container_pid=");
  out.append_number(static_cast<std::uint64_t>(pid));
  if (!variables.container.empty()) {
    out.append("&container_name=");
    append_encoded(out, variables.container.view());
  }
  out.append(" HTTP/1.1\r\nHost: ");
  for (const char c : variables.host.view()) {
    if (c <= ' ' || c >= '\x7f') return refuse(why, "HYPERVISOR_IP is no address");
    out.append(c);
  }
  out.append(":").append(variables.port.view());
  out.append("\r\nAuthorization: Bearer ").append(exchange.token.view());
  out.append("\r\nAccept: application/json\r\nUser-Agent: vgpu\r\nConnection: close\r\n");
  if (method == "POST") out.append("Content-Length: 0\r\n");
  out.append("\r\n");
  return !out.truncated() || refuse(why, "the request is too long");
}

// A connection that the program may have closed, with all descriptors that it doesn't know, and
// whose number may be another file's by now: then it is left alone.
class Connection {
 public:
  Connection() = default;
  explicit Connection(platform::File file)
      : identity_(platform::identity_of(file.fd())), file_(std::move(file)) {}
  Connection(Connection&& other) noexcept
      : identity_(other.identity_), file_(std::move(other.file_)) {}
  Connection& operator=(Connection&& other) noexcept {
    std::swap(identity_, other.identity_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~Connection() {
    if (!is_ours()) file_.take();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return file_.fd(); }
  bool is_open() const { return file_.is_open(); }
  bool is_ours() const { return is_open() && platform::identity_of(fd()) == identity_; }

 private:
  platform::FileIdentity identity_;
  platform::File file_;
};

// False at the deadline.
bool wait_for(int fd, short events, std::uint64_t until_ns) {
  for (;;) {
    const std::uint64_t now = platform::monotonic_ns();
    if (now >= until_ns) return false;
    pollfd ready{fd, events, 0};
    const auto left_ms = static_cast<int>((until_ns - now) / 1'000'000 + 1);
    const int got = ::poll(&ready, 1, left_ms);
    if (got > 0) return true;
    if (got < 0 && errno != EINTR) return false;
  }
}

Connection connect_to(const sockaddr* address, socklen_t size, std::uint64_t until_ns, Why& why) {
  Connection connection(
      platform::File(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  const int fd = connection.fd();
  int error = connection.is_open() && ::connect(fd, address, size) == 0 ? 0 : errno;
  if (connection.is_open() && error == EINPROGRESS) {
    socklen_t length = sizeof error;
    if (!wait_for(fd, POLLOUT, until_ns)) {
      error = ETIMEDOUT;
    } else if (!connection.is_ours() ||
               ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
      error = EBADF;
    }
  }
  if (error == 0) return connection;
  if (error == ETIMEDOUT) {
    refuse(why, "no connection in time");
  } else if (error == ECONNREFUSED) {
    refuse(why, "connection refused");
  } else {
    refuse_errno(why, "no connection", error);
  }
  return {};
}

Connection connect_to(const Variables& variables, std::uint64_t until_ns, Why& why) {
  std::uint32_t port = 0;
  for (const char c : variables.port.view()) {
    port = settings::is_digit(c) && port < 65536 ? port * 10 + static_cast<std::uint32_t>(c - '0')
                                                 : 65536;
  }
  if (port == 0 || port > 65535) {
    refuse(why, "HYPERVISOR_PORT is no port");
    return {};
  }
  const std::uint16_t network_port = htons(static_cast<std::uint16_t>(port));
  sockaddr_in v4{};
  if (::inet_pton(AF_INET, variables.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = network_port;
    return connect_to(reinterpret_cast<const sockaddr*>(&v4), sizeof v4, until_ns, why);
  }
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET6, variables.host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = network_port;
    return connect_to(reinterpret_cast<const sockaddr*>(&v6), sizeof v6, until_ns, why);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(variables.host.c_str(), variables.port.c_str(), &hints, &found) != 0) {
    refuse(why, "HYPERVISOR_IP is no address, and no name that is known");
    return {};
  }
  Connection connection;
  for (const addrinfo* one = found; one != nullptr && !connection.is_open(); one = one->ai_next)
    connection = connect_to(one->ai_addr, one->ai_addrlen, until_ns, why);
  ::freeaddrinfo(found);
  return connection;
}

bool send_all(const Connection& connection, std::string_view text, std::uint64_t until_ns) {
  while (!text.empty()) {
    if (!connection.is_ours()) return false;
    const ssize_t sent = ::send(connection.fd(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      text.remove_prefix(static_cast<std::size_t>(sent));
    } else if (sent < 0 && errno != EINTR &&
               (errno != EAGAIN || !wait_for(connection.fd(), POLLOUT, until_ns))) {
      return false;
    }
  }
  return true;
}

bool receive(const Connection& connection, HttpReply& reply, std::uint64_t until_ns, Why& why) {
  char bytes[4096];
  while (reply.state() == HttpReply::State::more) {
    const ssize_t got = connection.is_ours() ? ::recv(connection.fd(), bytes, sizeof bytes, 0) : -1;
    const int error = errno;
    if (got > 0) {
      reply.feed({bytes, static_cast<std::size_t>(got)});
    } else if (got == 0) {
      reply.end();
    } else if (!connection.is_ours()) {
      return refuse(why, "the program has closed the connection");
    } else if (error == EAGAIN) {
      if (!wait_for(connection.fd(), POLLIN, until_ns)) return refuse(why, "no answer in time");
    } else if (error != EINTR) {
      return refuse_errno(why, "the answer broke off", error);
    }
  }
  return reply.state() == HttpReply::State::complete ||
         refuse(why, "the answer is no HTTP, too long, or breaks off");
}

bool exchange_with(const Variables& variables, std::string_view method, std::string_view path,
                   std::int32_t pid, Exchange& exchange, Why& why) {
  const std::uint64_t now = platform::monotonic_ns();
  const std::uint64_t until_ns = now + variables.request_ns;
  if (!read_token(variables.token_file.c_str(), exchange.token, why) ||
      !write_request(variables, method, path, pid, exchange, why))
    return false;
  const Connection connection =
      connect_to(variables, std::min(until_ns, now + variables.connect_ns), why);
  if (!connection.is_open()) return false;
  if (!send_all(connection, exchange.request.view(), until_ns))
    return refuse(why, "the request couldn't be sent");
  if (!receive(connection, exchange.reply, until_ns, why)) return false;
  const unsigned status = exchange.reply.status();
  if (status >= 200 && status < 300) return true;
  why = Why("the daemon answers ");
  why.append_number(status);
  if (status == 401 || status == 403) why.append(": it doesn't take the pod's token");
  return false;
}

template <class Parse>
bool ask(const Variables& variables, std::string_view method, std::string_view path,
         std::int32_t pid, Why& why, Parse parse) {
  const MappedExchange memory;
  if (memory.get() == nullptr) return refuse(why, "there is no memory");
  return exchange_with(variables, method, path, pid, *memory.get(), why) &&
         parse(memory.get()->reply.body());
}

}  // namespace

bool get_pod(const Variables& variables, std::int32_t pid, Limits& limits, Why& why) {
  return ask(variables, "GET", "/api/v1/pod", pid, why,
             [&](std::string_view body) { return parse_answer(body, limits, why); });
}

bool post_process(const Variables& variables, std::int32_t pid, Why& why) {
  return ask(variables, "POST", "/api/v1/process", pid, why,
             [&](std::string_view body) { return parse_success(body, why); });
}

}  // namespace vgpu::pod
