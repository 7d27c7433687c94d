// SPDX-License-Identifier: Apache-2.0
// The programs that tenants run.
#pragma once

#include <cmath>

#include "world.h"

namespace vgpu::model {

// Waits for each kernel.
inline Program waits_on_each(Time kernel_ns) {
  return [kernel_ns](std::uint64_t, std::mt19937_64&) {
    return Launch{.work_ns = kernel_ns, .waits = true};
  };
}

// Queues `batch` kernels, with `gap_ns` of host work after each, then waits for them.
inline Program queues(Time kernel_ns, Time gap_ns = 0, std::uint64_t batch = 64) {
  return [=](std::uint64_t n, std::mt19937_64&) {
    return Launch{.work_ns = kernel_ns, .waits = (n + 1) % batch == 0, .gap_ns = gap_ns};
  };
}

// A graph of `nodes` kernels, launched as one.
inline Program graphs(Time kernel_ns, std::uint64_t nodes, std::uint64_t batch = 1,
                      Time gap_ns = 0) {
  return queues(kernel_ns * nodes, gap_ns, batch);
}

// One kernel, then sleeps.
inline Program paced(Time kernel_ns, Time pause_ns) {
  return [=](std::uint64_t, std::mt19937_64&) {
    return Launch{.work_ns = kernel_ns, .waits = true, .pause_ns = pause_ns};
  };
}

// One kernel each period; what is late is done one after another.
inline Program keeps_pace(Time kernel_ns, Time period_ns) {
  return [=](std::uint64_t, std::mt19937_64&) {
    return Launch{.work_ns = kernel_ns, .waits = true, .period_ns = period_ns};
  };
}

// Bursts of work with idle gaps between.
inline Program bursts(Time kernel_ns, std::uint64_t burst, Time pause_ns) {
  return [=](std::uint64_t n, std::mt19937_64&) {
    const bool last = (n + 1) % burst == 0;
    return Launch{.work_ns = kernel_ns, .waits = last, .pause_ns = last ? pause_ns : 0};
  };
}

// One kind whose length varies by a factor of `spread` up and down.
inline Program varies(Time kernel_ns, double spread, std::uint64_t batch) {
  return [=](std::uint64_t n, std::mt19937_64& random) {
    std::uniform_real_distribution<double> exponent(-1.0, 1.0);
    const double factor = std::pow(spread, exponent(random));
    return Launch{.work_ns = static_cast<Time>(static_cast<double>(kernel_ns) * factor),
                  .waits = (n + 1) % batch == 0};
  };
}

// The first `from` launches take `first_ns`, later ones of the same kind `then_ns`.
inline Program changes(Time first_ns, Time then_ns, std::uint64_t from, std::uint64_t batch) {
  return [=](std::uint64_t n, std::mt19937_64&) {
    return Launch{.work_ns = n < from ? first_ns : then_ns, .waits = (n + 1) % batch == 0};
  };
}

}  // namespace vgpu::model
