// SPDX-License-Identifier: Apache-2.0
// Unknown stays unknown: a field without a value isn't in the sample, and a GPU whose model has no
// capacity has no TFLOPS.
#include "usage_service.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "usage_log.h"

namespace vgpu::hypervisor {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kSampleNs = 1'000'000'000;
constexpr double kPerKilobyte = 1.0 / 1024;  // NVML's, as the sampler reads it

template <class T>
std::optional<double> number(const std::optional<T>& value, double scale = 1) {
  return value ? std::optional(static_cast<double>(*value) * scale) : std::nullopt;
}

std::optional<double> tflops(const std::optional<double>& percent, const GpuState* gpu) {
  if (!percent || gpu == nullptr || !gpu->fp16_tflops) return std::nullopt;
  return *percent / 100 * *gpu->fp16_tflops;
}

const TenantGpuState* same_tenant_gpu(const NodeState* state, const std::string& id,
                                      const GpuUuid& gpu) {
  const TenantState* tenant = state == nullptr ? nullptr : state->tenant(id);
  if (tenant == nullptr) return nullptr;
  const auto found = std::find_if(tenant->gpus.begin(), tenant->gpus.end(),
                                  [&](const TenantGpuState& g) { return g.gpu == gpu; });
  return found == tenant->gpus.end() ? nullptr : &*found;
}

void add_gpu(const GpuState& gpu, const std::string& node, const UsageOptions& options,
             UsageBatch& batch) {
  GpuUsage usage;
  usage.tags = {{"node", node}, {"pool", options.pool}, {"uuid", gpu.uuid_text()}};
  const GpuSample& sample = gpu.sample;
  if (gpu.health == GpuHealth::ok && gpu.sampled_ns) {
    usage.rx = number(sample.pcie_receive_bytes_per_s, kPerKilobyte);
    usage.tx = number(sample.pcie_transmit_bytes_per_s, kPerKilobyte);
    usage.temperature = number(sample.temperature_celsius);
    usage.sm_clock_mhz = number(sample.sm_clock_mhz);
    usage.memory_clock_mhz = number(sample.memory_clock_mhz);
    usage.memory_bytes = number(sample.used_bytes);
    if (sample.used_bytes && gpu.total_bytes && *gpu.total_bytes > 0) {
      usage.memory_percentage =
          number(sample.used_bytes, 100 / static_cast<double>(*gpu.total_bytes));
    }
    usage.compute_percentage = number(sample.busy_percent);
    usage.compute_tflops = tflops(usage.compute_percentage, &gpu);
    usage.power_usage = number(sample.power_milliwatts);
  }
  batch.add(usage);
}

// What the predecessor says of a worker, which is a pod; a tenant that is none, or several, has its
// own name.
std::map<std::string, std::string> worker_tags(const NodeState& now, const TenantState& tenant,
                                               const UsageOptions& options) {
  const UsagePod* is = nullptr;
  for (const UsagePod& pod : options.pods) {
    if (pod.tenant != tenant.name || now.tenant_for_pods(pod.tenant) != &tenant) continue;
    if (is != nullptr) return {{"worker", tenant.name}};
    is = &pod;
  }
  if (is == nullptr) return {{"worker", tenant.name}};
  return {{"worker", is->name}, {"namespace", is->name_space}, {"workload", is->workload}};
}

void add_worker(const NodeState* before, const NodeState& now, const TenantState& tenant,
                const TenantGpuState& gpu, const UsageOptions& options, UsageBatch& batch) {
  WorkerUsage usage;
  usage.tags = worker_tags(now, tenant, options);
  usage.tags.insert({{"node", now.node_name}, {"pool", options.pool}, {"uuid", gpu.uuid_text()}});
  // Who has the predecessor's limiter is charged nothing in a ledger of ours.
  std::uint64_t held_bytes = gpu.charged_bytes;
  for (const auto& process : now.processes) {
    if (process.tenant != tenant.id || process.limiter != LimiterPresence::predecessor) continue;
    for (const auto& on : process.gpus)
      held_bytes += on.gpu == gpu.gpu ? on.driver_bytes.value_or(0) : 0;
  }
  usage.memory_bytes = static_cast<double>(held_bytes);
  if (gpu.quota.limits_memory() && gpu.quota.memory_limit_bytes > 0) {
    usage.memory_percentage =
        *usage.memory_bytes * 100 / static_cast<double>(gpu.quota.memory_limit_bytes);
  }
  usage.compute_percentage = gpu.got_percent_1s;
  usage.compute_tflops = tflops(usage.compute_percentage, now.gpu(gpu.gpu));
  const TenantGpuState* const earlier = same_tenant_gpu(before, tenant.id, gpu.gpu);
  if (earlier != nullptr && gpu.counters.delayed_launches >= earlier->counters.delayed_launches) {
    usage.compute_throttled_cnt =
        static_cast<double>(gpu.counters.delayed_launches - earlier->counters.delayed_launches);
  }
  batch.add(usage);
}

class UsageService : public Service {
 public:
  UsageService(Control& control, UsageOptions options, std::function<void(const std::string&)> say)
      : control_(control),
        options_(std::move(options)),
        say_(std::move(say)),
        log_(options_.path),
        thread_([this] { run(); }) {}
  ~UsageService() override { UsageService::stop(); }

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
    StatePointer before;
    unsigned samples = 0;
    for (;;) {
      const StatePointer now = control_.state();
      if (!before || now->monotonic_ns >= before->monotonic_ns + kSampleNs) {
        add_usage(before.get(), *now, options_, batch_);
        before = now;
        ++samples;
      }
      std::unique_lock lock(mutex_);
      if (samples >= options_.batch_samples || stopping_) {
        samples = 0;
        write(now->time_ns);
      }
      if (stopping_) return;
      // The daemon makes a moment every 100 ms.
      wake_.wait_for(lock, milliseconds(100), [this] { return stopping_; });
    }
  }

  void write(std::uint64_t time_ns) {
    std::string text;
    for (const auto& line : batch_.take(time_ns / 1'000'000)) {
      text += options_.format == UsageFormat::influx ? influx_line(line) : json_line(line);
    }
    const std::string said = log_.append(text, time_ns / 1'000'000'000);
    if (!said.empty() && say_) say_(said);
  }

  Control& control_;
  const UsageOptions options_;
  const std::function<void(const std::string&)> say_;
  UsageBatch batch_;
  UsageLog log_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

void add_usage(const NodeState* before, const NodeState& now, const UsageOptions& options,
               UsageBatch& batch) {
  for (const auto& gpu : now.gpus) add_gpu(gpu, now.node_name, options, batch);
  for (const auto& tenant : now.tenants) {
    for (const auto& gpu : tenant.gpus) add_worker(before, now, tenant, gpu, options, batch);
  }
}

std::unique_ptr<Service> start_usage_log(Control& control, UsageOptions options,
                                         std::function<void(const std::string&)> say) {
  return std::make_unique<UsageService>(control, std::move(options), std::move(say));
}

}  // namespace vgpu::hypervisor
