// SPDX-License-Identifier: Apache-2.0
// Adding up promises, and saying which can't be kept; see shares.h.
#include "vgpu/survey/shares.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>

#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace vgpu::survey {
namespace {

constexpr int kLockTries = 100;
constexpr useconds_t kBetweenTriesUs = 20'000;

std::string outsider_text(const Outsider& outsider) {
  const std::string who = outsider.pid == 0
                              ? "a process of another PID namespace"
                              : fmt::format("{} (pid {})",
                                            outsider.program.empty() || outsider.program == "-"
                                                ? "a process"
                                                : visible(outsider.program),
                                            outsider.pid);
  switch (outsider.limiter) {
    case Limiter::absent:
      return who + " is on it without the limiter";
    case Limiter::present:
      return who + " is on it under limits that aren't yours";
    case Limiter::predecessor:
      return who + " is on it under the predecessor's limiter, which takes no turns";
    case Limiter::unknown:
    case Limiter::arbitrated:
      break;
  }
  return who + " of another user is on it";
}

std::string best_effort_text(const Snapshot& snapshot, const GpuUuid& gpu) {
  if (!snapshot.seats_unreadable.empty())
    return fmt::format("the seats (node.seats) are {}", snapshot.seats_unreadable);
  const auto found = snapshot.outsiders.find(gpu);
  if (found == snapshot.outsiders.end()) return "";
  std::vector<Outsider> outsiders = found->second;
  std::erase_if(outsiders, [](const auto& each) { return each.limiter == Limiter::arbitrated; });
  if (outsiders.empty()) return "";
  // The plainest case names itself first.
  const auto worst =
      std::min_element(outsiders.begin(), outsiders.end(),
                       [](const Outsider& a, const Outsider& b) { return a.limiter < b.limiter; });
  std::string text = outsider_text(*worst);
  if (outsiders.size() > 1) text += fmt::format(", and {} more", outsiders.size() - 1);
  return text;
}

}  // namespace

unsigned GpuShares::sum_percent() const {
  unsigned sum = 0;
  for (const auto& promise : promises) sum += promise.percent;
  return sum;
}

double GpuShares::scaled(unsigned percent) const {
  return oversubscribed() ? percent * 100.0 / sum_percent() : percent;
}

GpuShares promised(std::span<const shm::TenantSpec> tenants, const GpuUuid& gpu,
                   std::string_view except) {
  GpuShares shares;
  for (const auto& tenant : tenants) {
    const auto place = own_gpu(tenant, gpu);
    if (!place || (!except.empty() && tenant.id.view() == except)) continue;
    const unsigned percent = tenant.gpus[*place].quota.compute_share_percent;
    if (percent != 0) shares.promises.push_back({std::string(tenant.name.view()), percent});
  }
  std::stable_sort(shares.promises.begin(), shares.promises.end(),
                   [](const Promise& a, const Promise& b) { return a.percent > b.percent; });
  return shares;
}

GpuShares shares_on(const Snapshot& snapshot, const GpuUuid& gpu) {
  std::vector<shm::TenantSpec> specs;
  for (const auto& tenant : snapshot.tenants) specs.push_back(tenant.spec);
  GpuShares shares = promised(specs, gpu);
  shares.best_effort = best_effort_text(snapshot, gpu);
  return shares;
}

std::string why_not(const GpuShares& others, const shm::TenantGpu& gpu, unsigned percent) {
  const unsigned taken = others.sum_percent();
  if (percent == 0 || taken + percent <= 100) return "";
  constexpr std::size_t kMostNamed = 4;
  std::vector<std::string> names;
  for (const auto& promise : others.promises) {
    if (names.size() < kMostNamed)
      names.push_back(fmt::format("{} {} %", promise.tenant, promise.percent));
  }
  if (others.promises.size() > kMostNamed)
    names.push_back(fmt::format("{} more", others.promises.size() - kMostNamed));
  const unsigned left = taken >= 100 ? 0 : 100 - taken;
  return fmt::format(
      "GPU {}: a share of {} % doesn't fit beside those of others ({}); {} % {} left",
      gpu.nvml_index, percent, fmt::join(names, ", "), left, left == 1 ? "is" : "are");
}

std::string room_advice(const GpuShares& others, bool share_is_required) {
  const unsigned taken = others.sum_percent();
  const std::string smaller = taken < 100 ? fmt::format("--compute {}, or ", 100 - taken) : "";
  return smaller +
         (share_is_required ? "another GPU by --gpu" : "--oversubscribe: all are scaled down");
}

std::vector<std::string> share_notes(const GpuShares& shares) {
  std::vector<std::string> notes;
  if (shares.oversubscribed()) {
    notes.push_back(
        fmt::format("shares add up to {} %: while all want the GPU each gets {:.0f} % of its own",
                    shares.sum_percent(), 10'000.0 / shares.sum_percent()));
  }
  if (!shares.best_effort.empty())
    notes.push_back(fmt::format("shares are best effort: {}", shares.best_effort));
  return notes;
}

SharesLock::SharesLock(const shm::StateDir& dir, int exit_code)
    : descriptor_(open(dir.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  for (int tries = 0; tries < kLockTries; ++tries) {
    if (descriptor_ < 0 || flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    usleep(kBetweenTriesUs);
  }
  close(descriptor_);
  throw Problem(exit_code, "VG1025",
                "another vgpu run or set has been promising a share for 2 s; it may be stopped",
                "again, once that one is done");
}

SharesLock::~SharesLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace vgpu::survey
