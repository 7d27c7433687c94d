// SPDX-License-Identifier: Apache-2.0
#include "vgpu/client/http.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <thread>

namespace vgpu::client {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kHeadMost = 64 << 10;
constexpr std::size_t kBodyMost = 64 << 20;
constexpr useconds_t kBetweenTriesUs = 2'000;

// False: the time is up.
bool wait_for(int socket, short events, Clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd file{socket, events, 0};
    const int ready =
        poll(&file, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX)));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

bool is_same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<std::size_t> number(std::string_view text, int base) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Head {
  int status = 0;
  std::optional<std::size_t> length;
  bool in_chunks = false;
  bool closes = false;
  bool names_a_time = false;  // when to come again
};

// `text`: up to the empty line. Nothing: it is no answer in HTTP/1.
std::optional<Head> read_head(std::string_view text) {
  Head head;
  const auto line_end = std::min(text.find("\r\n"), text.size());
  const std::string_view first = text.substr(0, line_end);
  if (!first.starts_with("HTTP/1.") || first.size() < 12 || first[8] != ' ') return std::nullopt;
  const auto status = number(first.substr(9, 3), 10);
  if (!status) return std::nullopt;
  head.status = static_cast<int>(*status);
  head.closes = first[7] == '0';
  text.remove_prefix(std::min(line_end + 2, text.size()));
  while (!text.empty()) {
    const auto end = std::min(text.find("\r\n"), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 2, text.size()));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
    if (is_same_word(name, "content-length")) head.length = number(value, 10);
    if (is_same_word(name, "transfer-encoding")) head.in_chunks = is_same_word(value, "chunked");
    if (is_same_word(name, "retry-after")) head.names_a_time = true;
    if (is_same_word(name, "connection") && is_same_word(value, "close")) head.closes = true;
  }
  return head;
}

}  // namespace

// One request on the connection as it is. Throws Unreachable.
class Connection::Attempt {
 public:
  Attempt(Connection& of) : of_(of), deadline_(Clock::now() + of.patience_) {}

  bool answered_anything() const { return !received_.empty(); }
  // It has done nothing, and wants to be asked again later.
  bool is_too_early() const { return is_too_early_; }

  Answer ask(std::string_view request, bool& closes) {
    send_all(request);
    Head head;
    do {
      head = take_head();
    } while (head.status == 100);
    closes = head.closes || (!head.in_chunks && !head.length);
    constexpr int kTooManyRequests = 429, kUnavailable = 503;
    is_too_early_ =
        head.names_a_time && (head.status == kTooManyRequests || head.status == kUnavailable);
    return {head.status, take_body(head)};
  }

 private:
  [[noreturn]] void fail(std::string_view what, bool is_silent = false) const {
    Unreachable trouble(fmt::format("{} {}", of_.address_.text(), what));
    trouble.is_silent = is_silent;
    throw trouble;
  }

  void send_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(of_.socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno != EAGAIN) fail(fmt::format("has closed the connection: {}", strerror(errno)));
      if (!wait_for(of_.socket_, POLLOUT, deadline_)) fail("doesn't take the request", true);
    }
  }

  // False: the other end has closed.
  bool receive() {
    std::array<char, 64 << 10> chunk{};
    while (true) {
      const ssize_t got = recv(of_.socket_, chunk.data(), chunk.size(), 0);
      if (got > 0) received_.append(chunk.data(), static_cast<std::size_t>(got));
      if (got >= 0) return got > 0;
      if (errno == EINTR) continue;
      if (errno != EAGAIN) fail(fmt::format("has closed the connection: {}", strerror(errno)));
      if (!wait_for(of_.socket_, POLLIN, deadline_)) fail("doesn't answer", true);
    }
  }

  Head take_head() {
    auto end = received_.find("\r\n\r\n");
    while (end == std::string::npos) {
      if (received_.size() > kHeadMost) fail("doesn't answer in HTTP");
      if (!receive()) fail("has closed the connection");
      end = received_.find("\r\n\r\n");
    }
    const auto head = read_head(std::string_view(received_).substr(0, end));
    if (!head) fail("doesn't answer in HTTP");
    received_.erase(0, end + 4);
    return *head;
  }

  std::string take(std::size_t bytes) {
    if (bytes > kBodyMost) fail("answers with more than can be read");
    while (received_.size() < bytes) {
      if (!receive()) fail("has closed the connection");
    }
    std::string out = received_.substr(0, bytes);
    received_.erase(0, bytes);
    return out;
  }

  std::string take_line() {
    auto end = received_.find("\r\n");
    while (end == std::string::npos) {
      if (received_.size() > kHeadMost || !receive()) fail("doesn't answer in HTTP");
      end = received_.find("\r\n");
    }
    std::string line = received_.substr(0, end);
    received_.erase(0, end + 2);
    return line;
  }

  std::string take_chunks() {
    std::string body;
    while (true) {
      const std::string line = take_line();
      const auto size = number(trimmed(std::string_view(line).substr(0, line.find(';'))), 16);
      if (!size || body.size() + *size > kBodyMost) fail("doesn't answer in HTTP");
      if (*size == 0) break;
      body += take(*size);
      take_line();
    }
    while (!take_line().empty()) {  // trailers
    }
    return body;
  }

  std::string take_body(const Head& head) {
    if (head.status == 204 || head.status == 304) return "";
    if (head.in_chunks) return take_chunks();
    if (head.length) return take(*head.length);
    while (receive()) {
      if (received_.size() > kBodyMost) fail("answers with more than can be read");
    }
    return std::exchange(received_, {});
  }

  Connection& of_;
  const Clock::time_point deadline_;
  std::string received_;
  bool is_too_early_ = false;
};

Connection::Connection(Address address, std::chrono::milliseconds patience)
    : address_(std::move(address)), patience_(patience) {}

Connection::Connection(Connection&& other) noexcept
    : address_(std::move(other.address_)),
      patience_(other.patience_),
      socket_(std::exchange(other.socket_, -1)) {}

Connection::~Connection() { disconnect(); }

void Connection::disconnect() {
  if (socket_ >= 0) close(std::exchange(socket_, -1));
}

namespace {

// -1, and errno, where it can't be reached in time.
int connected(int family, const sockaddr* where, socklen_t size, Clock::time_point deadline) {
  const int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return -1;
  int error = connect(made, where, size) == 0 ? 0 : errno;
  // A Unix socket whose queue is full: the daemon takes the next ones in a moment.
  for (; error == EAGAIN && Clock::now() < deadline;
       error = connect(made, where, size) == 0 ? 0 : errno)
    usleep(kBetweenTriesUs);
  if (error == EINPROGRESS || error == EINTR) {
    socklen_t length = sizeof error;
    if (!wait_for(made, POLLOUT, deadline)) {
      error = ETIMEDOUT;
    } else if (getsockopt(made, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
      error = errno;
    }
  }
  if (error == 0) return made;
  close(made);
  errno = error;
  return -1;
}

}  // namespace

void Connection::connect_to() {
  const auto deadline = Clock::now() + patience_;
  if (address_.is_unix()) {
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, address_.path.c_str(), address_.path.size() + 1);
    const std::size_t size = offsetof(sockaddr_un, sun_path) + address_.path.size() + 1;
    socket_ = connected(AF_UNIX, reinterpret_cast<const sockaddr*>(&where),
                        static_cast<socklen_t>(size), deadline);
    if (socket_ < 0)
      throw Unreachable(fmt::format("{} can't be reached: {}", address_.text(), strerror(errno)));
    return;
  }
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address_.host.c_str(), address_.port.c_str(), &wanted, &found);
  if (error != 0)
    throw Unreachable(fmt::format("{} can't be found: {}", address_.text(), gai_strerror(error)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr && socket_ < 0; one = one->ai_next)
    socket_ = connected(one->ai_family, one->ai_addr, one->ai_addrlen, deadline);
  if (socket_ < 0)
    throw Unreachable(fmt::format("{} can't be reached: {}", address_.text(), strerror(errno)));
}

// A daemon that many ask at once turns some away, before it reads what they want.
Answer Connection::ask(std::string_view method, std::string_view target, std::string_view body,
                       const Headers& headers) {
  using std::chrono::milliseconds;
  constexpr milliseconds kFirst{20}, kLongest{640};
  const auto deadline = Clock::now() + patience_;
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  for (milliseconds between = kFirst;; between = std::min(2 * between, kLongest)) {
    bool is_too_early = false;
    Answer answer = ask_once(method, target, body, headers, is_too_early);
    const milliseconds pause(between.count() / 2 + static_cast<long>(random()) % between.count());
    if (!is_too_early || Clock::now() + pause >= deadline) return answer;
    std::this_thread::sleep_for(pause);
  }
}

Answer Connection::ask_once(std::string_view method, std::string_view target, std::string_view body,
                            const Headers& headers, bool& is_too_early) {
  const bool may_repeat = method == "GET";
  const bool reused = socket_ >= 0 && may_repeat;
  if (!reused) {
    disconnect();
    connect_to();
  }
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", method, target,
                                    address_.is_unix() ? "localhost" : address_.text().substr(7));
  for (const auto& [name, value] : headers) request += fmt::format("{}: {}\r\n", name, value);
  if (!body.empty() || !may_repeat) request += fmt::format("Content-Length: {}\r\n", body.size());
  request += "\r\n";
  request += body;
  Attempt attempt(*this);
  try {
    bool closes = false;
    Answer answer = attempt.ask(request, closes);
    if (closes) disconnect();
    is_too_early = attempt.is_too_early();
    return answer;
  } catch (const Unreachable&) {
    disconnect();
    if (!reused || attempt.answered_anything()) throw;
  }
  return ask_once(method, target, body, headers, is_too_early);
}

}  // namespace vgpu::client
