// SPDX-License-Identifier: Apache-2.0
#include "joining.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "environment.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/pod/variables.h"

namespace vgpu::limiter {
namespace {

constexpr std::uint64_t kAtMostNs = 10'000'000'000;
constexpr std::size_t kMostFiles = 4;

using SocketPath = FixedString<sizeof(sockaddr_un::sun_path) - 1>;

// One that this user could be betrayed by isn't asked.
bool is_trusted_socket(const char* path) {
  struct stat facts {};
  return ::stat(path, &facts) == 0 && S_ISSOCK(facts.st_mode) &&
         (facts.st_uid == 0 || facts.st_uid == ::geteuid());
}

// As `vgpu` finds it: VGPU_SOCKET, else in the state directory, else the machine's.
SocketPath socket_path() {
  SocketPath path;
  if (const char* chosen = own_variable("VGPU_SOCKET"); chosen != nullptr && *chosen != '\0') {
    if (std::strcmp(chosen, "none") != 0) path.append(chosen);
    return path;
  }
  const shm::StateDir directory = shm::existing_state_dir(own_variable);
  if (directory.error == 0) {
    path.append(directory.path.view()).append("/hypervisor.sock");
    if (!path.truncated() && is_trusted_socket(path.c_str())) return path;
    path.clear();
  }
  return SocketPath("/run/vgpu/hypervisor.sock");
}

class Deadline {
 public:
  // False: it is over, or the descriptor never will be ready.
  bool wait(int fd, short events) const {
    const std::uint64_t now = platform::monotonic_ns();
    if (now >= end_ns_) return false;
    pollfd file{fd, events, 0};
    const int ready = ::poll(&file, 1, static_cast<int>((end_ns_ - now) / 1'000'000) + 1);
    return ready > 0 || (ready < 0 && errno == EINTR);
  }
  bool is_after_ms(int ms) const {
    return platform::monotonic_ns() + static_cast<std::uint64_t>(ms) * 1'000'000 < end_ns_;
  }

 private:
  std::uint64_t end_ns_ = platform::monotonic_ns() + kAtMostNs;
};

platform::File connect_to(const SocketPath& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.view().size() + 1);
  platform::File socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // A full queue makes connect() wait.
  const timeval at_most{static_cast<time_t>(kAtMostNs / 1'000'000'000), 0};
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &at_most, sizeof at_most);
  if (!socket.is_open() ||
      ::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return platform::File();
  const int flags = ::fcntl(socket.fd(), F_GETFL);
  ::fcntl(socket.fd(), F_SETFL, flags | O_NONBLOCK);
  return socket;
}

bool send_all(int socket, std::string_view text, const Deadline& deadline) {
  while (!text.empty()) {
    const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      text.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      return false;
    } else if (!deadline.wait(socket, POLLOUT)) {
      return false;
    }
  }
  return true;
}

// The answer as text, and the descriptors that came with it.
struct Answered {
  static constexpr std::size_t kMost = 8192;
  char text[kMost];
  std::size_t size = 0;
  platform::File files[kMostFiles];
  std::size_t file_count = 0;

  // Behind the head; empty: it isn't whole.
  std::string_view body() const {
    const std::string_view all(text, size);
    const std::size_t end = all.find("\r\n\r\n");
    return end == std::string_view::npos ? std::string_view()
                                         : std::string_view(text + end + 4, size - end - 4);
  }
  bool is_ok() const { return std::string_view(text, size).starts_with("HTTP/1.1 200 "); }
  // So many ask that it turns some away, before it reads what they want.
  bool is_busy() const {
    const std::string_view head(text, size);
    return head.starts_with("HTTP/1.1 503 ") || head.starts_with("HTTP/1.1 429 ");
  }
};

void keep_files(msghdr& message, Answered& answered) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      platform::File file(fd);  // closes what nobody expects
      if (answered.file_count < kMostFiles) answered.files[answered.file_count++] = std::move(file);
    }
  }
}

// Until the other end closes, as it was asked to.
bool receive(int socket, Answered& answered, const Deadline& deadline) {
  while (answered.size < Answered::kMost) {
    iovec part{answered.text + answered.size, Answered::kMost - answered.size};
    alignas(cmsghdr) char control[CMSG_SPACE(kMostFiles * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got >= 0) keep_files(message, answered);
    if (got == 0) return true;
    if (got > 0) {
      answered.size += static_cast<std::size_t>(got);
    } else if (errno != EAGAIN && errno != EINTR) {
      return false;
    } else if (!deadline.wait(socket, POLLIN)) {
      return false;
    }
  }
  return false;  // nothing of ours is that long
}

// The value of "key":"..." in compact JSON; what is escaped in it isn't for us.
std::string_view text_of(std::string_view body, std::string_view key) {
  FixedString<40> start("\"");
  start.append(key).append("\":\"");
  const std::size_t found = body.find(start.view());
  if (found == std::string_view::npos) return {};
  body.remove_prefix(found + start.view().size());
  body.remove_suffix(body.size() - std::min(body.find('"'), body.size()));
  return body.find('\\') == std::string_view::npos ? body : std::string_view();
}

FixedString<4096> pods_token() {
  FixedString<4096> token;
  const pod::Variables variables = pod::read_variables(ProcessEnvironment());
  const platform::File file(
      ::open(variables.token_file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  char text[4096];
  const ssize_t got = file.is_open() ? ::read(file.fd(), text, sizeof text) : 0;
  for (ssize_t i = 0; i < got; ++i) {
    const char c = text[i];
    if (c > ' ' && c <= '~') token.append(c);
  }
  return token;
}

bool is_private_directory(int fd) {
  struct stat facts {};
  return ::fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode) && facts.st_uid == ::geteuid() &&
         (facts.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool is_private_directory(std::string_view path) {
  const FixedString<255> name(path);
  const platform::File directory(
      ::open(name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  return !name.truncated() && directory.is_open() && is_private_directory(directory.fd());
}

// By its name where that leads to the same one here; else by the descriptor, which stays open for
// as long as this process lives.
FixedString<255> name_of(std::string_view path, platform::File& file) {
  FixedString<255> name(path);
  if (!file.is_open() || platform::identity_of(name.c_str()) == platform::identity_of(file.fd()))
    return name;
  // High, out of the way of programs that count on low numbers.
  constexpr int kFrom = 512;
  int kept = ::fcntl(file.fd(), F_DUPFD_CLOEXEC, kFrom);
  if (kept < 0) kept = file.take();
  name = FixedString<255>("/proc/self/fd/");
  return name.append_number(static_cast<std::uint64_t>(kept));
}

Membership ask_once(const Deadline& deadline) {
  Membership membership;
  const SocketPath path = socket_path();
  if (path.empty() || path.truncated() || !is_trusted_socket(path.c_str())) return membership;
  const platform::File socket = connect_to(path);
  if (!socket.is_open()) return membership;

  FixedString<5000> request(
      "POST /api/v2/join HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
  if (const auto token = pods_token(); !token.empty())
    request.append("Authorization: Bearer ").append(token.view()).append("\r\n");
  request.append("Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  Answered answered;
  const bool is_sent = send_all(socket.fd(), request.view(), deadline);
  // One that turns us away may have closed before it had all of it.
  const bool is_answered = receive(socket.fd(), answered, deadline);
  // So it is too where nothing came: the next try tells whether it is there still.
  if (answered.is_busy() || answered.size == 0) membership.answer = Membership::Answer::busy;
  if (!is_sent || !is_answered || !answered.is_ok()) return membership;

  const std::string_view body = answered.body();
  const std::string_view outcome = text_of(body, "outcome");
  if (outcome == "none") membership.answer = Membership::Answer::none;
  if (outcome == "no_directory") membership.answer = Membership::Answer::no_directory;
  if (outcome == "refused") {
    membership.answer = Membership::Answer::refused;
    membership.why.append("the daemon (").append(path.view()).append("): ");
    membership.why.append(text_of(body, "message"));
  }
  if (outcome != "joined") return membership;
  platform::File& state = answered.files[0];
  membership.id.append(text_of(body, "tenant"));
  const std::string_view named = text_of(body, "state_directory");
  if (!(state.is_open() ? is_private_directory(state.fd()) : is_private_directory(named)) ||
      membership.id.empty()) {
    membership.answer = Membership::Answer::refused;
    membership.why.append("the daemon (").append(path.view());
    membership.why.append(") named a state directory that isn't this user's alone");
    return membership;
  }
  membership.directory.path = name_of(named, state);
  membership.directory.quotas = name_of(text_of(body, "quota_directory"), answered.files[1]);
  membership.answer = Membership::Answer::joined;
  return membership;
}

// Until it is answered, or the time is over.
Membership ask_patiently(const Deadline& deadline) {
  constexpr int kFirstMs = 10, kLongestMs = 640;
  for (int between_ms = kFirstMs;; between_ms = std::min(2 * between_ms, kLongestMs)) {
    Membership membership = ask_once(deadline);
    if (membership.answer != Membership::Answer::busy) return membership;
    // Not all at the same moment again.
    const int pause_ms = between_ms / 2 + ::getpid() % between_ms;
    if (!deadline.is_after_ms(pause_ms)) {
      membership.answer = Membership::Answer::nobody;
      membership.why.append("the daemon (").append(socket_path().view());
      membership.why.append(") doesn't answer: nobody knows which tenant this process belongs to");
      return membership;
    }
    ::poll(nullptr, 0, pause_ms);
  }
}

}  // namespace

Membership ask_for_membership() {
  const Deadline deadline;
  Membership membership = ask_patiently(deadline);
  if (membership.answer != Membership::Answer::no_directory) return membership;
  if (shm::state_dir(own_variable).error == 0) membership = ask_patiently(deadline);
  if (membership.answer == Membership::Answer::no_directory) {
    membership.answer = Membership::Answer::refused;
    membership.why.append(
        "the daemon has a tenant for this process, and doesn't look at a state directory of its "
        "user");
  }
  return membership;
}

Membership last_membership() {
  Membership membership;
  const shm::StateDir directory = shm::existing_state_dir(own_variable);
  FixedString<shm::kMaxName> ids[64];
  if (directory.error != 0) return membership;
  const std::size_t count = std::min(shm::list_tenants(directory, ids), std::size(ids));
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!ids[i].view().starts_with(shm::kJoinedPrefix)) continue;
    membership.id = ids[i];
    ++found;
  }
  membership.answer = found == 1 ? Membership::Answer::joined : Membership::Answer::none;
  membership.directory = directory;
  return membership;
}

}  // namespace vgpu::limiter
