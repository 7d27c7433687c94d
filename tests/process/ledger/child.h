// SPDX-License-Identifier: Apache-2.0
// A child process that runs a piece of a test and tells its parent by its exit status, by stopping,
// or by dying.
#pragma once

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <new>
#include <stdexcept>
#include <utility>

namespace vgpu::shm {

// In a child: ends it with a line that says where, when the claim is false.
#define CHILD_EXPECT(claim)                                                              \
  do {                                                                                   \
    if (!(claim)) {                                                                      \
      ::dprintf(2, "%s:%d: in a child: %s does not hold\n", __FILE__, __LINE__, #claim); \
      ::_exit(1);                                                                        \
    }                                                                                    \
  } while (false)

class Child {
 public:
  explicit Child(const std::function<void()>& code) : pid_(::fork()) {
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ == 0) {
      code();
      ::_exit(0);
    }
  }
  Child(Child&& other) noexcept : pid_(other.pid_), status_(other.status_) { other.pid_ = -1; }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child& operator=(Child&&) = delete;
  ~Child() {
    if (pid_ > 0 && !ended()) kill();
  }

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void kill() {
    signal(SIGKILL);
    wait();
  }
  // Until it ends.
  void wait() {
    while (!ended()) {
      if (::waitpid(pid_, &status_, 0) != pid_) throw std::runtime_error("waitpid");
    }
  }
  // Until it ends or stops.
  void wait_for_stop() {
    if (::waitpid(pid_, &status_, WUNTRACED) != pid_) throw std::runtime_error("waitpid");
  }
  // Whether it has ended or stopped by now.
  bool has_halted() {
    if (status_ == kRuns && ::waitpid(pid_, &status_, WUNTRACED | WNOHANG) < 0)
      throw std::runtime_error("waitpid");
    return status_ != kRuns;
  }
  bool ended() const { return status_ != kRuns && (WIFEXITED(status_) || WIFSIGNALED(status_)); }
  bool stopped() const { return status_ != kRuns && WIFSTOPPED(status_); }
  bool was_killed() const {
    return ended() && WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL;
  }
  bool succeeded() const { return ended() && WIFEXITED(status_) && WEXITSTATUS(status_) == 0; }

 private:
  static constexpr int kRuns = -1;
  pid_t pid_;
  int status_ = kRuns;
};

// Words that parent and children see; made before the fork.
template <class T>
class Common {
 public:
  Common() {
    void* const memory =
        ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap");
    value_ = new (memory) T{};
  }
  ~Common() { ::munmap(value_, sizeof(T)); }
  Common(const Common&) = delete;
  Common& operator=(const Common&) = delete;
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

// Children that come to it go on together, when all of them are there and the parent has opened it.
// They take no processor until then.
class Gate {
 public:
  Gate() {
    if (::pipe(ends_) != 0) throw std::runtime_error("pipe");
  }
  ~Gate() {
    open();
    ::close(ends_[0]);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  // In a child.
  void pass() {
    open();
    char none;
    while (::read(ends_[0], &none, 1) < 0) {
    }
  }
  void open() {
    if (ends_[1] >= 0) ::close(std::exchange(ends_[1], -1));
  }

 private:
  int ends_[2];
};

// What isn't so after a minute never will be: somebody has died, and the test has failed.
inline void wait_until(const std::function<bool()>& holds) {
  constexpr int kTries = 60'000'000 / 200;
  for (int i = 0; !holds(); ++i) {
    if (i == kTries) throw std::runtime_error("waited for a minute in vain");
    ::usleep(200);
  }
}

// Processes at once: a sanitizer makes each of them cost as much as several.
constexpr int crowd_of(int processes) {
#ifdef VGPU_SANITIZED
  return processes / 5;
#else
  return processes;
#endif
}

// How often the tests that kill at every step do so; VGPU_LEDGER_ROUNDS raises it for the `long`
// ones.
inline int death_rounds() {
  const char* const text = ::getenv("VGPU_LEDGER_ROUNDS");
  return text != nullptr ? std::max(1, ::atoi(text)) : 1;
}

}  // namespace vgpu::shm
