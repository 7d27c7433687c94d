// SPDX-License-Identifier: Apache-2.0
// The work: a kernel that does a number of steps, each a chain of multiply-adds in every thread. It
// looks at no clock, since clocks go on while another process has the GPU. One step takes a fixed
// time on a given GPU, which calibration measures; on the simulated GPU a step is a nanosecond, by
// the directive in the text, so that the same program and the same calibration serve both.
#pragma once

#include <cstdint>

#include "gpu_client.h"
#include "options.h"

namespace workload {

class Kernel {
 public:
  // The device must be current. False, and the reason on stderr, when the driver refuses.
  bool load(bool few_blocks);
  CUresult launch(CUstream stream, std::uint64_t steps) const;
  // A graph of so many launches; nullptr when the driver refuses.
  CUgraphExec graph(CUstream stream, std::uint64_t steps, unsigned kernels) const;
  unsigned blocks() const { return blocks_; }

 private:
  CUfunction function_ = nullptr;
  unsigned blocks_ = 0;
};

// How long a step takes, in nanoseconds: the slope between kernels of two lengths, the least of
// several tries, since a busy machine only ever adds. 0 when a call failed.
double step_ns(const Kernel& kernel, CUstream stream);

// What one launch takes, in nanoseconds, when launches follow each other without a pause: `launch`
// submits one, `expected` is about what it takes. 0 when a call failed.
template <class Launch>
double back_to_back_ns(const Launch& launch, CUstream stream, Nanos expected);

Nanos now_ns();

template <class Launch>
double back_to_back_ns(const Launch& launch, CUstream stream, Nanos expected) {
  constexpr Nanos kLongEnough = 300'000'000;
  constexpr Nanos kWarmUp = 100'000'000;  // clocks may have fallen since the last work
  const Nanos one = expected > 0 ? expected : 1;
  const auto launch_all = [&](Nanos count) {
    for (Nanos i = 0; i < count; ++i)
      if (launch() != CUDA_SUCCESS) return false;
    return gpu_client::cu.cuStreamSynchronize(stream) == CUDA_SUCCESS;
  };
  if (!launch_all(kWarmUp / one + 2)) return 0;
  const Nanos count = kLongEnough / one + 3;
  const Nanos begin = now_ns();
  if (!launch_all(count)) return 0;
  return static_cast<double>(now_ns() - begin) / static_cast<double>(count);
}

}  // namespace workload
