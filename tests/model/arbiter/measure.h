// SPDX-License-Identifier: Apache-2.0
// What people ask of a run: who got how much of what it does alone, how steadily, and how that
// looks (a table on standard output; plots where VGPU_PLOTS names a folder).
#pragma once

#include <string>
#include <vector>

#include "world.h"

namespace vgpu::model {

// How many seeds a test runs; VGPU_MODEL_ROUNDS multiplies it, sanitizers divide it.
std::uint64_t seeds(std::uint64_t usual);

// Work per second of a program that is alone and not managed, in nanoseconds of GPU time.
double alone_rate(const Program& program);

Tenant tenant(std::string name, Program program, int share, int limit = 0,
              Priority priority = Priority::normal);

struct Share {
  double mean = 0;   // percent of the rate alone, from the end of the warm-up to the end
  double least = 0;  // in any whole second of it
  double most = 0;
  double cov_250ms = 0;  // coefficient of variation over windows
  double cov_1s = 0;
  double alone = 0;  // what it would use alone, percent of the GPU's time
};

struct Measured {
  std::vector<Share> shares;
  double sum = 0;
  Result result;
};

Measured measure(const Scenario& scenario);
double percent(const Outcome& outcome, double alone, Time from, Time to);

// One line of the table, and a plot of shares over time.
void report(const std::string& name, const Scenario& scenario, const Measured& measured);

}  // namespace vgpu::model
