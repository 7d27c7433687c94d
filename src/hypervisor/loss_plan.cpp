// SPDX-License-Identifier: Apache-2.0
#include "loss_plan.h"

#include <algorithm>
#include <cstddef>

namespace vgpu::hypervisor {
namespace {

constexpr double kPeriodNs = 100'000'000;
constexpr double kLeastNs = 5'000'000;

bool meet(const DirectoryUse& a, const DirectoryUse& b) {
  return std::any_of(a.percent.begin(), a.percent.end(),
                     [&](const auto& on) { return b.percent.count(on.first) != 0; });
}

double weight(const DirectoryUse& use) {
  double most = 1;
  for (const auto& [gpu, percent] : use.percent) most = std::max(most, percent);
  return most;
}

}  // namespace

std::vector<shm::LossPlan> loss_plans(shm::OnDaemonLoss policy,
                                      const std::vector<DirectoryUse>& directories) {
  std::vector<shm::LossPlan> plans(directories.size());
  std::vector<double> lengths(directories.size());
  double sum = 0;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    plans[i].policy = policy;
    for (std::size_t j = 0; j < directories.size(); ++j) {
      if (i != j && meet(directories[i], directories[j])) lengths[i] = weight(directories[i]);
    }
    sum += lengths[i];
  }
  if (policy != shm::OnDaemonLoss::hold || sum == 0) return plans;
  for (double& length : lengths) {
    if (length != 0) length = std::max(length * kPeriodNs / sum, kLeastNs);
  }
  double period = 0;
  for (const double length : lengths) period += length;
  double begin = 0;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    if (lengths[i] == 0) continue;
    plans[i].period_ns = static_cast<std::uint64_t>(period);
    plans[i].begin_ns = static_cast<std::uint64_t>(begin);
    begin += lengths[i];
    plans[i].end_ns = std::min(static_cast<std::uint64_t>(begin), plans[i].period_ns);
  }
  return plans;
}

}  // namespace vgpu::hypervisor
