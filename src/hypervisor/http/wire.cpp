// SPDX-License-Identifier: Apache-2.0
#include "wire.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace vgpu::hypervisor::http {
namespace {

std::string openssl_reason() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

int milliseconds_until(Wire::Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Wire::Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX));
}

}  // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

Descriptor::~Descriptor() {
  if (file_ >= 0) close(file_);
}

TlsContext::TlsContext(const std::string& certificate_file, const std::string& key_file)
    : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
  ERR_clear_error();
  if (!context_) throw std::runtime_error("OpenSSL has no TLS: " + openssl_reason());
  SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context_.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                          SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context_.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(context_.get(), certificate_file.c_str()) != 1)
    throw std::runtime_error(
        fmt::format("{} is not a certificate in PEM form: {}", certificate_file, openssl_reason()));
  if (SSL_CTX_use_PrivateKey_file(context_.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    throw std::runtime_error(
        fmt::format("{} is not the private key of {}, in PEM form and without a passphrase: {}",
                    key_file, certificate_file, openssl_reason()));
}

Wire::~Wire() { SSL_free(tls_); }

bool Wire::wait(Wanted wanted, Clock::time_point deadline, bool until_stop) {
  while (true) {
    std::array<pollfd, 2> files{
        {{socket_.get(), static_cast<short>(wanted == Wanted::read ? POLLIN : POLLOUT), 0},
         {stop_, POLLIN, 0}}};
    const int ready = poll(files.data(), until_stop ? 2 : 1, milliseconds_until(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    if (until_stop && files[1].revents != 0) return false;
    return true;
  }
}

bool Wire::start_tls(const TlsContext& context, Clock::time_point deadline) {
  tls_ = SSL_new(context.get());
  if (tls_ == nullptr || SSL_set_fd(tls_, socket_.get()) != 1) return false;
  while (true) {
    ERR_clear_error();
    const int result = SSL_accept(tls_);
    if (result == 1) return true;
    const int error = SSL_get_error(tls_, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
      SSL_free(std::exchange(tls_, nullptr));  // no close_notify on a session that never was
      return false;
    }
    if (!wait(error == SSL_ERROR_WANT_READ ? Wanted::read : Wanted::write, deadline, true))
      return false;
  }
}

long Wire::plain_read(char* to, std::size_t size) {
  while (true) {
    const ssize_t got = recv(socket_.get(), to, size, 0);
    if (got >= 0 || errno != EINTR) return got;
  }
}

long Wire::read(char* to, std::size_t size, Clock::time_point deadline) {
  while (true) {
    Wanted wanted = Wanted::read;
    if (tls_ == nullptr) {
      const long got = plain_read(to, size);
      if (got >= 0) return got;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return -1;
    } else {
      ERR_clear_error();
      std::size_t got = 0;
      const int result = SSL_read_ex(tls_, to, size, &got);
      if (result == 1) return static_cast<long>(got);
      const int error = SSL_get_error(tls_, result);
      if (error == SSL_ERROR_ZERO_RETURN) return 0;
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return -1;
      if (error == SSL_ERROR_WANT_WRITE) wanted = Wanted::write;
    }
    if (!wait(wanted, deadline, false)) return -1;
  }
}

bool Wire::wait_readable(Clock::time_point deadline) {
  if (tls_ != nullptr && SSL_pending(tls_) > 0) return true;
  return wait(Wanted::read, deadline, true);
}

long Wire::plain_write(std::string_view bytes) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostPassed * sizeof(int))> control{};
  if (!passed_.empty()) {
    const std::size_t size = std::min(passed_.size(), kMostPassed) * sizeof(int);
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(size);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    std::memcpy(CMSG_DATA(header), passed_.data(), size);
  }
  const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  if (sent > 0) passed_.clear();
  return sent;
}

bool Wire::write(std::string_view bytes, std::chrono::milliseconds patience) {
  while (!bytes.empty()) {
    Wanted wanted = Wanted::write;
    std::size_t sent = 0;
    if (tls_ == nullptr) {
      const long result = plain_write(bytes);
      if (result < 0 && errno == EINTR) continue;
      if (result < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return false;
      if (result > 0) sent = static_cast<std::size_t>(result);
    } else {
      ERR_clear_error();
      const int result = SSL_write_ex(tls_, bytes.data(), bytes.size(), &sent);
      if (result != 1) {
        const int error = SSL_get_error(tls_, result);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return false;
        if (error == SSL_ERROR_WANT_READ) wanted = Wanted::read;
        sent = 0;
      }
    }
    bytes.remove_prefix(sent);
    if (sent == 0 && !wait(wanted, Clock::now() + patience, false)) return false;
  }
  return true;
}

bool Wire::is_open() {
  pollfd file{socket_.get(), POLLIN | POLLRDHUP, 0};
  if (poll(&file, 1, 0) <= 0) return true;
  return (file.revents & (POLLERR | POLLHUP | POLLRDHUP | POLLNVAL)) == 0;
}

void Wire::finish() {
  constexpr std::chrono::milliseconds kLinger{200};
  constexpr int kReads = 64;
  if (tls_ != nullptr) {
    ERR_clear_error();
    SSL_shutdown(tls_);
  }
  shutdown(socket_.get(), SHUT_WR);
  const auto deadline = Clock::now() + kLinger;
  std::array<char, 4096> away{};
  for (int i = 0; i < kReads && wait(Wanted::read, deadline, true); ++i) {
    if (plain_read(away.data(), away.size()) <= 0) return;
  }
}

}  // namespace vgpu::hypervisor::http
