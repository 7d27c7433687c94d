// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include <algorithm>
#include <utility>

namespace vgpu::hypervisor {

Event EventLog::add(std::uint64_t time_ns, EventKind kind, std::string subject, std::string text) {
  const std::lock_guard lock(mutex_);
  if (text.size() > kMostText) text.resize(kMostText);
  events_.push_back({++last_, time_ns, kind, std::move(subject), std::move(text)});
  if (events_.size() > kRemembered) events_.pop_front();
  added_.notify_all();
  return events_.back();
}

std::uint64_t EventLog::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

EventBatch EventLog::after(std::uint64_t sequence, std::size_t most,
                           std::chrono::milliseconds wait) const {
  std::unique_lock lock(mutex_);
  // From another run of the daemon: all that there is.
  const auto from = [&] { return sequence > last_ ? 0 : sequence; };
  added_.wait_for(lock, wait, [&] { return closed_ || last_ > from(); });
  EventBatch batch;
  batch.next = last_;
  if (events_.empty() || from() >= last_) return batch;
  const std::uint64_t oldest = events_.front().sequence;
  batch.missed = from() + 1 < oldest;
  const std::uint64_t first = std::max(from() + 1, oldest);
  const std::uint64_t end = std::min<std::uint64_t>(last_ + 1, first + most);
  for (std::uint64_t at = first; at < end; ++at) batch.events.push_back(events_[at - oldest]);
  if (!batch.events.empty()) batch.next = batch.events.back().sequence;
  if (batch.events.empty()) batch.next = from();
  return batch;
}

void EventLog::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  added_.notify_all();
}

}  // namespace vgpu::hypervisor
