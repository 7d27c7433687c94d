// SPDX-License-Identifier: Apache-2.0
// A page that a job and the test that runs it share: the job says how far it is, the test when it
// begins and ends. Each word has one writer and is looked at until it changes, so the order of
// accesses is the strongest there is and pairs with nothing in particular.
#pragma once

#include <atomic>
#include <cstdint>

namespace vgpu::test {

inline constexpr unsigned kRanks = 2;
inline constexpr std::uint64_t kWorkNs = 300'000;  // of a step, beside what waits

struct Board {
  std::atomic<std::uint32_t> ready[kRanks];  // by the job: it can begin
  std::atomic<std::uint32_t> steps[kRanks];  // by the job: so many are done
  std::atomic<std::uint32_t> go;             // by the test
  std::atomic<std::uint32_t> stop;           // by the test, for jobs without a number of steps
};

}  // namespace vgpu::test
