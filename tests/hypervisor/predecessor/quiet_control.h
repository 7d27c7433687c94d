// SPDX-License-Identifier: Apache-2.0
// A Control that has one moment, as the test sets it, and does nothing.
#pragma once

#include <condition_variable>
#include <mutex>

#include "control.h"

namespace vgpu::hypervisor::testing {

class QuietControl : public Control {
 public:
  explicit QuietControl(NodeState state) { set(std::move(state)); }
  void set(NodeState state) {
    const std::lock_guard lock(mutex_);
    state_ = std::make_shared<const NodeState>(std::move(state));
    came_.notify_all();
  }

  StatePointer state() const override {
    const std::lock_guard lock(mutex_);
    return state_;
  }
  StatePointer state_after(std::uint64_t sequence, std::chrono::milliseconds wait) const override {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, wait, [&] { return state_->sequence > sequence; });
    return state_;
  }
  EventBatch events_after(std::uint64_t, std::size_t, std::chrono::milliseconds) const override {
    return {};
  }
  std::vector<HistoryPoint> history(const GpuUuid&, std::string_view, Resolution) const override {
    return {};
  }
  std::vector<survey::Explanation> explain(std::string_view) const override { return {}; }
  Outcome<TakenTenant> taken(const Asker&, std::string_view) override { return Refusal{}; }
  Outcome<JoinedTenant> join(const Asker&, const JoinRequest&) override { return Refusal{}; }
  Outcome<CreatedTenant> create(const Asker&, const CreateRequest&) override { return Refusal{}; }
  Outcome<ChangedTenant> change(const Asker&, std::string_view, const ChangeRequest&) override {
    return Refusal{};
  }
  Outcome<EndedTenant> end(const Asker&, std::string_view, const EndRequest&) override {
    return Refusal{};
  }
  Outcome<RenamedTenant> rename(const Asker&, std::string_view, const std::string&) override {
    return Refusal{};
  }
  Outcome<FoundProcess> found_in_pod(const PodProcessRequest&) override { return Refusal{}; }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable came_;
  StatePointer state_;
};

}  // namespace vgpu::hypervisor::testing
