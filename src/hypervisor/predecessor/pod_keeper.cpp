// SPDX-License-Identifier: Apache-2.0
// The beats of pod_keeper.h.
#include "pod_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace vgpu::hypervisor {
namespace {

constexpr double kUnlimitedTokens = 1e6;
constexpr std::uint64_t kSaidBlindNs = 10'000'000'000;
constexpr int kMostTries = 64;  // against a limiter that takes at the same time

std::uint64_t whole_seconds(const PodKeeper::Now& now) {
  return static_cast<std::uint64_t>(now.real_s);
}

}  // namespace

PodKeeper::PodKeeper(const std::string& path, const PodFileAccess& access, const SupplyTerms& terms,
                     const std::vector<PodGpu>& gpus, const Now& now)
    : terms_(terms), file_(path, access, gpus, whole_seconds(now)) {
  set_gpus(gpus, now);
}

SupplyTerms PodKeeper::terms_of(const PodGpu& gpu) const {
  SupplyTerms terms = terms_;
  terms.target = std::clamp(gpu.limit_percent, 1U, 100U) / 100.0;
  return terms;
}

void PodKeeper::set_terms(const SupplyTerms& terms) {
  terms_ = terms;
  for (auto& [index, device] : devices_) {
    if (device.supply) device.supply->set_terms(terms_of(device.gpu));
  }
}

void PodKeeper::set_gpus(const std::vector<PodGpu>& gpus, const Now& now) {
  std::map<std::uint32_t, Device> devices;
  for (const auto& gpu : gpus) {
    Device device;
    const auto known = devices_.find(gpu.index);
    // What was learned stays with the GPU, not with its place in the list.
    if (known != devices_.end() && known->second.gpu.uuid == gpu.uuid)
      device = std::move(known->second);
    device.gpu = gpu;
    if (gpu.limit_percent >= 100) {
      device.supply.reset();
    } else if (device.supply) {
      device.supply->set_terms(terms_of(gpu));
    } else {
      double tokens = 0, rate = 0;
      if (!file_.read_supply(gpu.index, tokens, rate)) file_.restore(whole_seconds(now));
      // Full for want of a limit, until now: that isn't what a limited pod begins with.
      if (!(tokens < kUnlimitedTokens / 2)) tokens = rate = 0;
      device.supply.emplace(terms_of(gpu), now.monotonic_ns, tokens, rate);
    }
    devices.emplace(gpu.index, std::move(device));
  }
  devices_ = std::move(devices);
  if (!file_.set_gpus(gpus)) file_.restore(whole_seconds(now));
}

void PodKeeper::set_pids(std::vector<std::int32_t> pids) {
  std::sort(pids.begin(), pids.end());
  if (pids == pids_) return;
  pids_ = std::move(pids);
  pids_changed_ = true;
  if (pids_.size() > pod_file::kMaxPids) {
    say_once("pids", fmt::format("{}: of {} processes it names {}, as many as it can", file_.path(),
                                 pids_.size(), pod_file::kMaxPids));
  }
}

void PodKeeper::set_memory_used(std::uint32_t index, std::uint64_t bytes) {
  const auto found = devices_.find(index);
  if (found != devices_.end()) found->second.memory_used_bytes = bytes;
}

void PodKeeper::measured(std::uint32_t index, const BusyTime& busy, const Now& now) {
  const auto found = devices_.find(index);
  if (found != devices_.end() && found->second.supply &&
      found->second.supply->measured(busy, now.monotonic_ns)) {
    found->second.unmeasured_since_ns = 0;
  }
}

bool PodKeeper::supply_tokens(Device& device, const Now& now) {
  double tokens = 0, rate = 0;
  if (!file_.read_supply(device.gpu.index, tokens, rate)) return false;
  for (int tries = 0; tries < kMostTries; ++tries) {
    double wanted = kUnlimitedTokens;
    if (device.supply) {
      if (!(tokens <= device.supply->in_bucket() + 1e-6)) {
        say_once("tokens", fmt::format("{}: somebody else writes its tokens", file_.path()));
      }
      if (tokens < device.supply->in_bucket() && device.unmeasured_since_ns == 0)
        device.unmeasured_since_ns = now.monotonic_ns;
      wanted = device.supply->level(now.monotonic_ns, tokens, pids_.size() > 1);
    }
    const auto result = file_.exchange_tokens(device.gpu.index, tokens, wanted);
    if (result == PodFile::Exchange::short_file) return false;
    if (result == PodFile::Exchange::changed) continue;
    if (device.supply) device.supply->filled(wanted);
    break;
  }
  return device.supply ? file_.set_supply(device.gpu.index, device.supply->rate(),
                                          device.supply->capacity(), now.real_s)
                       : file_.set_supply(device.gpu.index, 0, kUnlimitedTokens, now.real_s);
}

std::vector<std::string> PodKeeper::step(const Now& now) {
  bool whole = true;
  for (auto& [index, device] : devices_) {
    whole = whole && supply_tokens(device, now);
    const bool is_blind = device.supply && device.unmeasured_since_ns != 0 &&
                          now.monotonic_ns > device.unmeasured_since_ns + kSaidBlindNs;
    if (is_blind && !device.is_blind) {
      say_once(fmt::format("blind{}", index),
               fmt::format("{}: GPU {} gives no figures of what its processes use; its limit of {} "
                           "percent goes by what launches cost before",
                           file_.path(), index, device.gpu.limit_percent));
    }
    device.is_blind = is_blind;
  }
  if (now.monotonic_ns >= used_at_ns_ + kUsageNs || used_at_ns_ == 0) {
    used_at_ns_ = now.monotonic_ns;
    whole = whole && file_.is_whole();
    for (const auto& [index, device] : devices_) {
      whole = whole && file_.set_memory_used(index, device.memory_used_bytes);
    }
    if (whole && !file_.has_our_limits()) {
      say_once("limits", fmt::format("{}: somebody else has changed its limits; they are put back",
                                     file_.path()));
      whole = file_.mend(whole_seconds(now));
      pids_changed_ = true;
    }
  }
  if (now.monotonic_ns >= beat_at_ns_ + kBeatNs || beat_at_ns_ == 0) {
    beat_at_ns_ = now.monotonic_ns;
    whole = whole && file_.beat(whole_seconds(now));
    pids_changed_ = true;  // by somebody else, maybe
  }
  if (pids_changed_ && whole) pids_changed_ = !file_.set_pids(pids_);
  if (!whole) {
    say_once("short",
             fmt::format("{}: somebody else has cut it short; it is restored", file_.path()));
    file_.restore(whole_seconds(now));
    pids_changed_ = true;
  }
  return std::exchange(lines_, {});
}

void PodKeeper::say_once(const std::string& kind, const std::string& line) {
  if (!std::exchange(said_[kind], true)) lines_.push_back(line);
}

}  // namespace vgpu::hypervisor
