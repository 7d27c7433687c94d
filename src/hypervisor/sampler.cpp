// SPDX-License-Identifier: Apache-2.0
#include "sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "busy_looks.h"
#include "pace.h"
#include "times.h"
#include "vgpu/platform/clock.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kFastNs = 100 * kMsNs;
constexpr std::uint64_t kSlowNs = 1'000 * kMsNs;
constexpr std::uint64_t kRareNs = 10'000 * kMsNs;
constexpr std::uint64_t kDearNs = 5 * kMsNs;
constexpr unsigned kFailuresUntilUnreadable = 3;
constexpr auto kStopWait = std::chrono::seconds(2);

bool means_lost(nvmlReturn_t result) {
  return result == NVML_ERROR_GPU_IS_LOST || result == NVML_ERROR_RESET_REQUIRED ||
         result == NVML_ERROR_GPU_NOT_FOUND;
}

}  // namespace

std::uint64_t backoff_ns(unsigned failures, std::uint64_t first_ms, std::uint64_t most_ms,
                         std::uint32_t random) {
  const std::uint64_t plain =
      std::min(most_ms, first_ms << std::min(failures == 0 ? 0 : failures - 1, 20u)) * kMsNs;
  return plain - plain / 5 + (plain * 2 / 5) * (random % 1024) / 1023;
}

struct Sampler::Inside {
  struct Device {
    GpuUuid uuid;
    Backoff backoff;
    Backoff busy_backoff;
    std::optional<BusyLooks> busy;  // while somebody wants to know
  };

  Inside(std::string library, bool is_simulated)
      : nvml(std::move(library)), simulated(is_simulated) {
    now.driver.simulated = simulated;
    now.driver.why = "NVML has not been asked yet";
    published = std::make_shared<const Readings>(now);
  }

  std::uint32_t random() { return static_cast<std::uint32_t>(engine()); }

  void publish() {
    now.looked_ns = platform::monotonic_ns();
    auto next = std::make_shared<const Readings>(now);
    const std::lock_guard lock(mutex);
    published = std::move(next);
  }

  GpuReading* reading(const GpuUuid& uuid) {
    const auto at = std::find_if(now.gpus.begin(), now.gpus.end(), [&](const GpuReading& each) {
      return each.identity.uuid == uuid;
    });
    return at == now.gpus.end() ? nullptr : &*at;
  }

  void start() {
    const std::string why = nvml.start();
    devices.clear();
    if (!why.empty()) {
      now.driver.available = false;
      now.driver.why = simulated ? fmt::format("the simulated GPU can't be loaded: {}", why)
                                 : fmt::format("no NVIDIA driver here ({})", why);
      lose_absent();
      start_backoff.again_ns =
          platform::monotonic_ns() + backoff_ns(++start_backoff.failures, 1'000, 30'000, random());
      return;
    }
    start_backoff = {};
    now.driver = nvml.driver();
    now.driver.simulated = simulated;
    for (std::size_t i = 0; i < nvml.count(); ++i) {
      NvmlIdentity identity;
      const nvmlReturn_t result = nvml.identity(i, identity);
      devices.push_back({identity.uuid, {}, {}, std::nullopt});
      if (result != NVML_SUCCESS) continue;
      if (GpuReading* known = reading(identity.uuid)) {
        known->identity = identity;
        if (known->health == GpuHealth::lost) set_health(*known, GpuHealth::ok, "");
      } else {
        GpuReading fresh;
        fresh.identity = identity;
        now.gpus.push_back(std::move(fresh));
      }
    }
    lose_absent();
    std::sort(now.gpus.begin(), now.gpus.end(), [](const GpuReading& a, const GpuReading& b) {
      return a.identity.index < b.identity.index;
    });
    slow_ns = rare_ns = 0;
  }

  // Those that NVML doesn't list any more.
  void lose_absent() {
    for (auto& gpu : now.gpus) {
      const bool listed = std::any_of(devices.begin(), devices.end(), [&](const Device& device) {
        return device.uuid == gpu.identity.uuid;
      });
      if (!listed) set_health(gpu, GpuHealth::lost, "NVML doesn't list it any more");
    }
  }

  static void set_health(GpuReading& gpu, GpuHealth health, std::string text) {
    gpu.health = health;
    gpu.health_text = std::move(text);
    if (health == GpuHealth::ok) return;
    gpu.processes.clear();
    gpu.sample = {};
    gpu.busy_windows.reset();
  }

  void look(std::size_t i, bool slow, bool rare, std::uint64_t monotonic_ns) {
    Device& device = devices[i];
    GpuReading* gpu = reading(device.uuid);
    if (gpu == nullptr || monotonic_ns < device.backoff.again_ns) return;
    std::uint64_t total = 0, used = 0;
    std::vector<NvmlProcess> processes;
    nvmlReturn_t result = nvml.processes(i, processes);
    const bool with_memory = slow || !is_dear || !gpu->sample.used_bytes;
    if (result == NVML_SUCCESS && with_memory) result = nvml.memory(i, total, used);
    if (result != NVML_SUCCESS) {
      device.backoff.again_ns =
          monotonic_ns + backoff_ns(++device.backoff.failures, 200, 10'000, random());
      if (means_lost(result)) {
        set_health(*gpu, GpuHealth::lost, nvml.error_text(result));
      } else if (device.backoff.failures >= kFailuresUntilUnreadable &&
                 gpu->health != GpuHealth::lost) {
        set_health(*gpu, GpuHealth::unreadable, nvml.error_text(result));
      }
      return;
    }
    device.backoff = {};
    set_health(*gpu, GpuHealth::ok, "");
    gpu->processes = std::move(processes);
    if (with_memory) {
      gpu->identity.total_bytes = total;
      gpu->sample.used_bytes = used;
    }
    if (slow || !gpu->sampled_ns) {
      nvml.sample(i, gpu->sample);
      gpu->sampled_ns = realtime_ns();
    }
    if (rare) gpu->mig_enabled = nvml.mig(i, gpu->mig_devices);
    look_at_busy(i, *gpu, monotonic_ns);
  }

  void look_at_busy(std::size_t i, GpuReading& gpu, std::uint64_t monotonic_ns) {
    Device& device = devices[i];
    if (busy_wanted.count(device.uuid) == 0) {
      device.busy.reset();
      device.busy_backoff = {};
      gpu.busy_windows.reset();
      return;
    }
    if (monotonic_ns < device.busy_backoff.again_ns) return;
    if (!device.busy) device.busy.emplace();
    std::vector<BusySample> samples;
    if (nvml.busy_samples(i, device.busy->seen_us(), samples) != NVML_SUCCESS) {
      device.busy_backoff.again_ns =
          monotonic_ns + backoff_ns(++device.busy_backoff.failures, 200, 60'000, random());
      return;
    }
    device.busy_backoff = {};
    device.busy->look(realtime_ns() / 1'000, platform::monotonic_ns(), samples);
    gpu.busy_windows = std::make_shared<const BusyWindows>(device.busy->windows());
  }

  void turn() {
    const std::uint64_t monotonic_ns = platform::monotonic_ns();
    {
      const std::lock_guard lock(mutex);
      busy_wanted = busy_wanted_next;
    }
    const bool any_lost = std::any_of(now.gpus.begin(), now.gpus.end(), [](const GpuReading& gpu) {
      return gpu.health == GpuHealth::lost;
    });
    if (!nvml.started()) {
      if (monotonic_ns >= start_backoff.again_ns) start();
    } else if (any_lost) {
      // Only NVML started anew finds a GPU that was reset or replugged.
      if (lost_backoff.failures == 0 || monotonic_ns >= lost_backoff.again_ns) {
        if (lost_backoff.failures != 0) start();
        lost_backoff.again_ns =
            monotonic_ns + backoff_ns(++lost_backoff.failures, 1'000, 30'000, random());
      }
    } else {
      lost_backoff = {};
    }
    if (nvml.started()) {
      const bool slow = monotonic_ns >= slow_ns + kSlowNs;
      const bool rare = monotonic_ns >= rare_ns + kRareNs;
      if (slow) slow_ns = monotonic_ns;
      if (rare) {
        rare_ns = monotonic_ns;
        const auto count = nvml.count_now();
        if (count && *count != nvml.count()) start();
      }
      for (std::size_t i = 0; i < devices.size(); ++i) look(i, slow, rare, monotonic_ns);
      // 40 ms of measuring a link at a time, so that processes are still looked for in time.
      if (!devices.empty()) {
        pcie_next = (pcie_next + 1) % std::max<std::size_t>(devices.size(), 10);
        if (pcie_next < devices.size()) {
          GpuReading* gpu = reading(devices[pcie_next].uuid);
          if (gpu != nullptr && gpu->health == GpuHealth::ok)
            nvml.pcie_rates(pcie_next, gpu->sample);
        }
      }
      auto seen = nvml.take_xids();
      now.read_ns = realtime_ns();
      const std::lock_guard lock(mutex);
      if (xids.size() < 1024) xids.insert(xids.end(), seen.begin(), seen.end());
    }
    publish();
  }

  Nvml nvml;
  const bool simulated;
  std::minstd_rand engine{std::random_device{}()};
  Readings now;
  std::vector<Device> devices;  // as NVML's
  Backoff start_backoff, lost_backoff;
  std::uint64_t slow_ns = 0, rare_ns = 0;
  std::size_t pcie_next = 0;
  std::set<GpuUuid> busy_wanted;
  bool is_dear = false;  // the last turn was: a GPU's memory is then asked for once a second

  mutable std::mutex mutex;  // of what follows
  std::condition_variable changed;
  std::shared_ptr<const Readings> published;
  std::vector<XidSeen> xids;
  std::set<GpuUuid> busy_wanted_next;
  bool stopping = false;
  bool stopped = false;
};

Sampler::Sampler(std::string library, bool simulated)
    : inside_(std::make_shared<Inside>(std::move(library), simulated)),
      thread_([inside = inside_] { run(inside); }) {}

Sampler::~Sampler() { stop(); }

void Sampler::run(const std::shared_ptr<Inside>& inside) {
  std::unique_lock lock(inside->mutex);
  while (!inside->stopping) {
    lock.unlock();
    const std::uint64_t begin_ns = platform::monotonic_ns(),
                        begin_cpu_ns = platform::thread_cpu_ns();
    inside->turn();
    const std::uint64_t cpu_ns = platform::thread_cpu_ns() - begin_cpu_ns;
    inside->is_dear = cpu_ns > kDearNs;
    const std::uint64_t rest = rest_ns(kFastNs, platform::monotonic_ns() - begin_ns, cpu_ns);
    lock.lock();
    inside->changed.wait_for(lock, std::chrono::nanoseconds(rest),
                             [&] { return inside->stopping; });
  }
  lock.unlock();
  inside->nvml.stop();
  lock.lock();
  inside->stopped = true;
  inside->changed.notify_all();
}

std::shared_ptr<const Readings> Sampler::readings() const {
  const std::lock_guard lock(inside_->mutex);
  return inside_->published;
}

std::vector<XidSeen> Sampler::take_xids() {
  const std::lock_guard lock(inside_->mutex);
  return std::exchange(inside_->xids, {});
}

void Sampler::want_busy(std::set<GpuUuid> gpus) {
  const std::lock_guard lock(inside_->mutex);
  inside_->busy_wanted_next = std::move(gpus);
}

bool Sampler::stop() {
  if (!thread_.joinable()) return true;
  std::unique_lock lock(inside_->mutex);
  inside_->stopping = true;
  inside_->changed.notify_all();
  const bool ended = inside_->changed.wait_for(lock, kStopWait, [&] { return inside_->stopped; });
  lock.unlock();
  if (ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
  return ended;
}

}  // namespace vgpu::hypervisor
