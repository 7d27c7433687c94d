// SPDX-License-Identifier: Apache-2.0
// The record of completed work: how much was completed in each window of time since the common
// start. A launch is known to be done only when it is done, so its work is credited evenly to the
// time between the completion before it in its stream (or its own submission, if that was later)
// and its own; `kernels` counts whole completions where they were seen. Used by one thread at a
// time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "options.h"

namespace workload {

class Progress {
 public:
  Progress(Nanos start, Nanos length, Nanos window)
      : start_(start),
        window_(window),
        work_(static_cast<std::size_t>(length / window)),
        kernels_(work_.size()) {}

  // `work`, in kernels of the nominal duration, was done between two instants of CLOCK_MONOTONIC.
  void credit(Nanos from, Nanos to, double work, unsigned kernels) {
    from = std::min(from, to);
    if (const auto last = place(to); last < work_.size()) kernels_[last] += kernels;
    if (from == to) {
      if (const auto at = place(to); at < work_.size()) work_[at] += work;
      return;
    }
    const double rate = work / static_cast<double>(to - from);
    const Nanos end = start_ + window_ * static_cast<Nanos>(work_.size());
    for (Nanos at = std::max(from, start_); at < std::min(to, end);) {
      const std::size_t index = place(at);
      const Nanos next = std::min({to, end, start_ + window_ * (static_cast<Nanos>(index) + 1)});
      work_[index] += rate * static_cast<double>(next - at);
      at = next;
    }
  }

  const std::vector<double>& work() const { return work_; }
  const std::vector<std::uint64_t>& kernels() const { return kernels_; }

 private:
  // Beyond the last window: out of range.
  std::size_t place(Nanos at) const {
    return at < start_ ? work_.size() : static_cast<std::size_t>((at - start_) / window_);
  }

  Nanos start_;
  Nanos window_;
  std::vector<double> work_;
  std::vector<std::uint64_t> kernels_;
};

}  // namespace workload
