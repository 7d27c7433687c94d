// SPDX-License-Identifier: Apache-2.0
// Who goes on at each step: every schedule with at most so many preemptions, one after the other,
// or random ones from a seed. A failure prints the schedule's number or seed, and the same number
// replays it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace vgpu::model {

inline constexpr std::size_t kMostProcesses = 4;

// A list without the heap: this is the innermost loop.
class Processes {
 public:
  void add(std::size_t process) { items_[size_++] = process; }
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::size_t operator[](std::size_t i) const { return items_[i]; }
  const std::size_t* begin() const { return items_; }
  const std::size_t* end() const { return items_ + size_; }
  bool has(std::size_t process) const { return std::find(begin(), end(), process) != end(); }

 private:
  std::size_t items_[kMostProcesses] = {};
  std::size_t size_ = 0;
};

// Depth first: repeats the choices of the last run up to the last one that had an alternative left,
// and takes that.
class AllSchedules {
 public:
  explicit AllSchedules(int preemptions) : preemptions_(preemptions) {}

  // `current` goes on unless it can't or the schedule preempts it; the result is one of `ready`.
  std::size_t choose(const Processes& ready, std::size_t current) {
    Processes options;
    const bool can_go_on = ready.has(current);
    if (can_go_on) options.add(current);
    if (!can_go_on || used_ < preemptions_) {
      for (const std::size_t process : ready) {
        if (process != current) options.add(process);
      }
    }
    if (at_ == choices_.size()) choices_.push_back({0, options.size()});
    const std::size_t taken = choices_[at_++].taken;
    if (can_go_on && taken != 0) ++used_;
    return options[taken];
  }

  // False when all have been run.
  bool next() {
    at_ = 0;
    used_ = 0;
    while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().options)
      choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().taken;
    return true;
  }

 private:
  struct Choice {
    std::size_t taken;
    std::size_t options;
  };
  int preemptions_;
  int used_ = 0;
  std::size_t at_ = 0;
  std::vector<Choice> choices_;
};

class RandomSchedule {
 public:
  // Runs of one process of varied length find more than a switch at every step; long runs let the
  // others do much between two steps of one.
  explicit RandomSchedule(std::uint64_t seed, std::uint64_t mean_steps_of_a_run = 4)
      : random_(seed), mean_steps_of_a_run_(mean_steps_of_a_run) {}

  std::size_t choose(const Processes& ready, std::size_t current) {
    if (ready.has(current) && random_() % mean_steps_of_a_run_ != 0) return current;
    return ready[random_() % ready.size()];
  }
  std::uint64_t number(std::uint64_t below) { return random_() % below; }

 private:
  std::mt19937_64 random_;
  std::uint64_t mean_steps_of_a_run_;
};

}  // namespace vgpu::model
