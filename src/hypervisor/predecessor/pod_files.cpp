// SPDX-License-Identifier: Apache-2.0
#include "pod_files.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "pod_keeper.h"
#include "pod_reading.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/process.h"

namespace vgpu::hypervisor {
namespace {

using Say = std::function<void(const std::string&)>;

constexpr std::uint64_t kSecondInNs = 1'000'000'000;
// The driver counts a process's last moments after it has ended.
constexpr std::uint64_t kCountedAfterwardsNs = 3 * kSecondInNs;
constexpr std::uint64_t kLongestRetryNs = 60 * kSecondInNs;
constexpr auto kIdleWait = std::chrono::milliseconds(500);  // for a moment of the daemon's

PodKeeper::Now present() {
  return {platform::monotonic_ns(), static_cast<double>(platform::realtime_ns()) * 1e-9};
}

class KeptFile {
 public:
  KeptFile(const PodFilesOptions& options, const KeptPod& pod, const Say& say)
      : pod_(pod),
        supply_(options.supply),
        path_(pod_file_path(options.base_path, pod.name_space, pod.name)),
        say_(say) {}

  bool is_kept() const { return keeper_.has_value(); }

  void look(const NodeState& state) {
    attempt([&] {
      const TenantState* const tenant = state.tenant_for_pods(pod_.tenant);
      if (tenant != nullptr) {
        follow(*tenant);
      } else if (keeper_ && !any_lives()) {
        // Nobody is limited by it any more.
        keeper_.reset();
        ::unlink(path_.c_str());
      }
      if (keeper_ && tenant != nullptr) measure(state, *tenant);
      if (keeper_ && !leads_to_ours()) {
        if (!std::exchange(said_removed_, true))
          say_(path_ + ": somebody else has removed or replaced it; it is opened anew");
        keeper_.reset();
      }
    });
  }

  void step() {
    if (!keeper_) return;
    attempt([&] {
      for (const std::string& line : keeper_->step(present())) say_(line);
    });
  }

 private:
  // What fails is said once, and tried again later and later.
  template <class Function>
  void attempt(Function&& function) {
    try {
      function();
    } catch (const std::runtime_error& error) {
      if (std::exchange(said_error_, error.what()) != error.what()) say_(error.what());
      keeper_.reset();
      retry_ns_ = std::clamp(retry_ns_ * 2, kSecondInNs, kLongestRetryNs);
      retry_at_ns_ = platform::monotonic_ns() + retry_ns_;
    }
  }

  void follow(const TenantState& tenant) {
    std::vector<PodGpu> gpus = pod_gpus_of(tenant);
    if (gpus.size() < tenant.gpus.size() && !std::exchange(said_far_gpus_, true)) {
      say_(
          fmt::format("{}: GPUs with an index of {} or more have no place in it and aren't limited",
                      path_, pod_file::kMaxDevices));
    }
    const PodKeeper::Now now = present();
    if (keeper_) {
      if (gpus != gpus_) keeper_->set_gpus(gpus, now);
    } else if (now.monotonic_ns >= retry_at_ns_) {
      owner_ = pod_.user.value_or(geteuid() == 0 ? tenant.owner : geteuid());
      PodFileAccess access;
      if (geteuid() == 0 || owner_ != geteuid()) access.owner = owner_;
      keeper_.emplace(path_, access, supply_, gpus, now);
      retry_ns_ = retry_at_ns_ = 0;
      said_error_.clear();
      measured_until_ns_.clear();
    }
    gpus_ = std::move(gpus);
  }

  bool any_lives() const {
    return std::any_of(lives_.begin(), lives_.end(), [](const auto& process) {
      const platform::Life life = platform::life_of(process.first, process.second);
      return life == platform::Life::alive || life == platform::Life::exiting;
    });
  }

  // Does whoever opens the path get the file that is kept?
  bool leads_to_ours() const {
    struct stat there {};
    return ::stat(path_.c_str(), &there) == 0 && keeper_->file().is_same(there);
  }

  void measure(const NodeState& state, const TenantState& tenant) {
    const PodKeeper::Now now = present();
    std::map<GpuUuid, std::uint64_t> used_bytes;
    std::map<GpuUuid, double> own_busy;  // by what our limiter says
    std::vector<std::int32_t> pids;
    bool has_own = false;
    lives_.clear();
    for (const auto& process : state.processes) {
      if (process.tenant != tenant.id || !process.host_pid) continue;
      pids.push_back(*process.host_pid);
      lives_[*process.host_pid] = process.start_time_ticks;
      const bool is_own = process.limiter != LimiterPresence::predecessor;
      has_own = has_own || is_own;
      if (!is_own) {
        counted_[*process.host_pid] = now.monotonic_ns;
        check_user(process);
      }
      for (const auto& on : process.gpus) {
        used_bytes[on.gpu] += (is_own ? on.charged_bytes : on.driver_bytes).value_or(0);
        if (is_own) own_busy[on.gpu] += on.got_percent_1s.value_or(0) / 100;
      }
    }
    std::erase_if(counted_, [&](const auto& entry) {
      return now.monotonic_ns > entry.second + kCountedAfterwardsNs;
    });
    keeper_->set_pids(std::move(pids));
    for (const auto& gpu : tenant.gpus) {
      keeper_->set_memory_used(gpu.index, used_bytes[gpu.gpu]);
      const GpuState* const whole = state.gpu(gpu.gpu);
      if (whole != nullptr && whole->busy_windows != nullptr && !counted_.empty()) {
        for (const BusyWindow& window : *whole->busy_windows)
          charge(gpu.index, window, own_busy[gpu.gpu], now);
      } else if (counted_.empty() && has_own) {
        // Who doesn't name itself takes tokens all the same: only where somebody is known, nothing
        // measured means that nothing ran.
        const std::uint64_t from_ns = measured_until_ns_[gpu.index];
        keeper_->measured(gpu.index, {from_ns, state.monotonic_ns, own_busy[gpu.gpu], 0}, now);
        measured_until_ns_[gpu.index] = state.monotonic_ns;
      }
    }
  }

  void charge(std::uint32_t index, const BusyWindow& window, double own,
              const PodKeeper::Now& now) {
    std::uint64_t& until_ns = measured_until_ns_[index];
    if (window.until_ns <= until_ns) return;
    until_ns = window.until_ns;
    double fraction = own, everybody = own;
    for (const auto& [pid, busy] : window.by_process) {
      everybody += busy;
      if (counted_.count(pid) != 0) fraction += busy;
    }
    keeper_->measured(
        index, {window.from_ns, window.until_ns, std::min(fraction, 1.0), std::min(everybody, 1.0)},
        now);
  }

  void check_user(const ProcessState& process) {
    if (!process.owner || *process.owner == owner_ || *process.owner == 0) return;
    if (!said_users_.insert(*process.owner).second) return;
    say_(
        fmt::format("{}: process {} of the pod runs as user {} and can't write it, as its limiter "
                    "has to: user = \"{}\" in its [[pod]]",
                    path_, *process.host_pid, *process.owner, *process.owner));
  }

  const KeptPod pod_;
  const SupplyTerms supply_;
  const std::string path_;
  const Say& say_;
  std::optional<PodKeeper> keeper_;
  std::vector<PodGpu> gpus_;
  uid_t owner_ = 0;
  std::map<std::uint32_t, std::uint64_t> measured_until_ns_;  // by NVML's index
  std::map<pid_t, std::uint64_t> counted_;  // under the predecessor's limiter; seen last when
  std::map<pid_t, std::uint64_t> lives_;    // and their start times
  std::uint64_t retry_ns_ = 0, retry_at_ns_ = 0;
  std::string said_error_;
  bool said_far_gpus_ = false, said_removed_ = false;
  std::set<uid_t> said_users_;
};

class PodFiles : public Service {
 public:
  PodFiles(Control& control, const PodFilesOptions& options, Say say)
      : control_(control), say_(std::move(say)) {
    for (const KeptPod& pod : options.pods) files_.emplace_back(options, pod, say_);
    thread_ = std::thread([this] { run(); });
  }
  ~PodFiles() override { PodFiles::stop(); }

  void stop() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  void reload(const DaemonOptions&) override {}  // what it is told by changes with a restart only

 private:
  void run() {
    std::uint64_t seen = 0;
    StatePointer now = control_.state();
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      lock.unlock();
      if (now->sequence != seen && now->segments_read_ns) {
        seen = now->sequence;
        for (KeptFile& file : files_) file.look(*now);
      }
      bool any = false;
      for (KeptFile& file : files_) {
        file.step();
        any = any || file.is_kept();
      }
      now = any ? control_.state() : control_.state_after(seen, kIdleWait);
      lock.lock();
      if (any) {
        wake_.wait_for(lock, std::chrono::nanoseconds(PodKeeper::kStepNs),
                       [this] { return stopping_; });
      }
    }
  }

  Control& control_;
  const Say say_;
  std::list<KeptFile> files_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace

std::vector<PodGpu> pod_gpus_of(const TenantState& tenant) {
  std::vector<PodGpu> gpus;
  for (const auto& own : tenant.gpus) {
    if (own.index >= pod_file::kMaxDevices) continue;
    PodGpu gpu;
    gpu.index = own.index;
    gpu.uuid = own.uuid_text();
    const std::uint8_t percent = own.quota.compute_limit_percent;
    gpu.limit_percent = percent == 0 ? 100 : percent;
    gpu.memory_limit_bytes =
        own.quota.limits_memory() ? own.quota.memory_limit_bytes : own.total_bytes;
    gpus.push_back(std::move(gpu));
  }
  return gpus;
}

std::unique_ptr<Service> start_pod_files(Control& control, const PodFilesOptions& options,
                                         std::function<void(const std::string&)> say) {
  return std::make_unique<PodFiles>(control, options, std::move(say));
}

}  // namespace vgpu::hypervisor
