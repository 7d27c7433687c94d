// SPDX-License-Identifier: Apache-2.0
// One accepted connection as bytes, with TLS or without. Every wait has an end and is given up when
// the server stops, so no peer can hold a thread for longer than its time. Used by the connection's
// own thread only, but for `hang_up`.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct ssl_ctx_st;
struct ssl_st;

namespace vgpu::hypervisor::http {

class Descriptor {
 public:
  explicit Descriptor(int file = -1) : file_(file) {}
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return file_; }
  explicit operator bool() const { return file_ >= 0; }

 private:
  int file_;
};

// The certificate and key that a listener shows. Throws std::runtime_error, with the file and the
// reason, when they can't be read or don't belong together.
class TlsContext {
 public:
  TlsContext(const std::string& certificate_file, const std::string& key_file);
  ssl_ctx_st* get() const { return context_.get(); }

 private:
  std::shared_ptr<ssl_ctx_st> context_;
};

class Wire {
 public:
  using Clock = std::chrono::steady_clock;
  // `stop`: readable (an eventfd) once the server stops; idle waits end then.
  Wire(Descriptor socket, int stop) : socket_(std::move(socket)), stop_(stop) {}
  ~Wire();

  bool start_tls(const TlsContext& context, Clock::time_point deadline);
  // Bytes read; 0: the peer has ended; -1: an error, or the time is over.
  long read(char* to, std::size_t size, Clock::time_point deadline);
  // True when something can be read before the deadline and the server doesn't stop.
  bool wait_readable(Clock::time_point deadline);
  // All of it, with at most `patience` between two steps of progress.
  bool write(std::string_view bytes, std::chrono::milliseconds patience);
  // Descriptors that go with the next bytes (SCM_RIGHTS), at most kMostPassed; of a Unix socket.
  static constexpr std::size_t kMostPassed = 4;
  void pass(std::vector<int> files) { passed_ = std::move(files); }
  // False once the peer has gone.
  bool is_open();
  // Says that nothing more comes, and reads away what is on its way, so that the peer sees the last
  // answer and not a reset.
  void finish();
  int socket() const { return socket_.get(); }

 private:
  enum class Wanted : unsigned char { read, write };
  bool wait(Wanted wanted, Clock::time_point deadline, bool until_stop);
  long plain_read(char* to, std::size_t size);
  long plain_write(std::string_view bytes);

  Descriptor socket_;
  int stop_;
  ssl_st* tls_ = nullptr;
  std::vector<int> passed_;
};

}  // namespace vgpu::hypervisor::http
