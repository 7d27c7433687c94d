// SPDX-License-Identifier: Apache-2.0
// The last events, in order, and waiting for the next. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>

#include "control.h"

namespace vgpu::hypervisor {

class EventLog {
 public:
  static constexpr std::size_t kRemembered = 4096;

  Event add(std::uint64_t time_ns, EventKind kind, std::string subject, std::string text);
  std::uint64_t last() const;
  EventBatch after(std::uint64_t sequence, std::size_t most, std::chrono::milliseconds wait) const;
  // Nobody waits any more.
  void close();

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable added_;
  std::deque<Event> events_;
  std::uint64_t last_ = 0;
  bool closed_ = false;
};

}  // namespace vgpu::hypervisor
