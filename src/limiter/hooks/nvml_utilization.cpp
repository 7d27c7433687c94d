// SPDX-License-Identifier: Apache-2.0
// How busy a GPU is, which NVML only knows of all tenants together. The SMs' figure is the tenant's
// own, by the GPU time of its launches; for what the limiter doesn't see (encoders and the like,
// counters) the answer is not supported, which nvidia-smi prints as N/A. The driver sees the
// arguments first and writes to places of ours.
#include <algorithm>
#include <array>

#include "../compute/usage.h"
#include "../hooks.h"
#include "nvml_view.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// What the driver would refuse stays refused with its code; what it would answer isn't supported.
nvmlReturn_t unsupported(nvmlReturn_t result) {
  const bool answered =
      is_list_answer(result) || result == NVML_ERROR_NOT_FOUND || result == NVML_ERROR_NO_DATA;
  return answered ? NVML_ERROR_NOT_SUPPORTED : result;
}

// What the tenant's own processes do on a GPU.
class OwnUse {
 public:
  // `whole`: of the GPU.
  OwnUse(int position, const nvmlUtilization_t& whole) : whole_(whole) {
    if (position != Limiter::kNoPosition) use_ = tenant_use(position, uses_);
  }
  bool is_known() const { return use_.is_known; }
  std::uint64_t until_us() const { return use_.until_us; }
  std::size_t size() const { return use_.listed; }
  const ProcessUse& operator[](std::size_t i) const { return uses_[i]; }
  unsigned percent(std::size_t i) const {
    return uses_[i].is_alone ? whole_.gpu : std::min(uses_[i].percent, 100U);
  }
  // The memory's part isn't known by process: as much of it as of the SMs.
  nvmlUtilization_t rates() const {
    unsigned sum = 0;
    for (std::size_t i = 0; i < size(); ++i) sum += percent(i);
    sum = std::min(sum, 100U);
    const unsigned whole = std::max(whole_.gpu, sum);
    return {sum, whole == 0 ? 0 : whole_.memory * sum / whole};
  }

 private:
  nvmlUtilization_t whole_;
  std::array<ProcessUse, 128> uses_;
  TenantUse use_;
};

struct OwnSample {
  unsigned pid = 0;  // in the caller's PID namespace
  unsigned percent = 0;
  unsigned long long time_us = 0;
};

// One sample for each process of the tenant that did anything in the last second, unless the
// caller has seen that second. `result`: of the driver, asked about a list with no room.
template <class Write>
nvmlReturn_t answer_samples(nvmlReturn_t result, nvmlDevice_t device, bool has_list,
                            unsigned int* count, unsigned long long last_seen_us, Write write) {
  const bool answered = is_list_answer(result) || result == NVML_ERROR_NOT_FOUND;
  const int position = answered ? nvml_position(device) : Limiter::kNoPosition;
  if (position == Limiter::kNoPosition) return unsupported(result);
  nvmlUtilization_t whole{};
  if (real_nvml().nvmlDeviceGetUtilizationRates(device, &whole) != NVML_SUCCESS) whole = {};
  const OwnUse own(position, whole);
  if (!own.is_known()) return unsupported(result);
  std::array<OwnSample, 128> samples;
  std::size_t found = 0;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const std::int32_t pid = visible_pid(own[i].pid, own[i].pid_namespace, own[i].start_time_ticks);
    if (pid <= 0 || own.percent(i) == 0 || own.until_us() <= last_seen_us) continue;
    samples[found++] = {static_cast<unsigned>(pid), own.percent(i), own.until_us()};
  }
  // No list: how much room is enough, whatever comes.
  if (!has_list) {
    *count = static_cast<unsigned>(samples.size());
    return NVML_ERROR_INSUFFICIENT_SIZE;
  }
  if (found == 0) {
    *count = 0;
    return NVML_ERROR_NOT_FOUND;
  }
  return answer_list(found, has_list, count, [&](std::size_t i) { write(i, samples[i]); });
}

bool is_utilization(nvmlSamplingType_t type) {
  switch (type) {
    case NVML_GPU_UTILIZATION_SAMPLES:
    case NVML_MEMORY_UTILIZATION_SAMPLES:
    case NVML_ENC_UTILIZATION_SAMPLES:
    case NVML_DEC_UTILIZATION_SAMPLES:
    case NVML_JPG_UTILIZATION_SAMPLES:
    case NVML_OFA_UTILIZATION_SAMPLES:
      return true;
    case NVML_TOTAL_POWER_SAMPLES:
    case NVML_PROCESSOR_CLK_SAMPLES:
    case NVML_MEMORY_CLK_SAMPLES:
    case NVML_MODULE_POWER_SAMPLES:
      return false;
  }
  return false;  // the program's number, not ours: the driver says what it thinks of it
}

using EngineQuery = nvmlReturn_t (*)(nvmlDevice_t, unsigned int*, unsigned int*);
nvmlReturn_t engine(EngineQuery real_function, nvmlDevice_t device, unsigned int* percent,
                    unsigned int* period_us) {
  unsigned int scratch[2];
  return unsupported(real_function(device, percent == nullptr ? nullptr : &scratch[0],
                                   period_us == nullptr ? nullptr : &scratch[1]));
}

}  // namespace

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t* rates) {
  nvmlUtilization_t whole{};
  const nvmlReturn_t result =
      real_nvml().nvmlDeviceGetUtilizationRates(device, rates == nullptr ? nullptr : &whole);
  const int position = result == NVML_SUCCESS ? nvml_position(device) : Limiter::kNoPosition;
  const OwnUse own(position, whole);
  if (result != NVML_SUCCESS || !own.is_known()) return unsupported(result);
  *rates = own.rates();
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                             nvmlProcessUtilizationSample_t* samples,
                                             unsigned int* count, unsigned long long last_seen_us) {
  unsigned int none = 0;
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetProcessUtilization(
      device, nullptr, count == nullptr ? nullptr : &none, last_seen_us);
  return answer_samples(result, device, samples != nullptr, count, last_seen_us,
                        [&](std::size_t i, const OwnSample& sample) {
                          samples[i] = {sample.pid, sample.time_us, sample.percent, 0, 0, 0};
                        });
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                   nvmlProcessesUtilizationInfo_t* info) {
  if (info == nullptr) return real_nvml().nvmlDeviceGetProcessesUtilizationInfo(device, info);
  nvmlProcessesUtilizationInfo_t none{info->version, 0, info->lastSeenTimeStamp, nullptr};
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetProcessesUtilizationInfo(device, &none);
  return answer_samples(result, device, info->procUtilArray != nullptr, &info->processSamplesCount,
                        info->lastSeenTimeStamp, [&](std::size_t i, const OwnSample& sample) {
                          info->procUtilArray[i] = {
                              sample.time_us, sample.pid, sample.percent, 0, 0, 0, 0, 0};
                        });
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type,
                                  unsigned long long last_seen_us, nvmlValueType_t* value_type,
                                  unsigned int* count, nvmlSample_t* samples) {
  if (!is_utilization(type)) {
    return real_nvml().nvmlDeviceGetSamples(device, type, last_seen_us, value_type, count, samples);
  }
  nvmlValueType_t scratch_type;
  unsigned int none = 0;
  return unsupported(real_nvml().nvmlDeviceGetSamples(
      device, type, last_seen_us, value_type == nullptr ? nullptr : &scratch_type,
      count == nullptr ? nullptr : &none, nullptr));
}

nvmlReturn_t nvmlDeviceGetDynamicPstatesInfo(nvmlDevice_t device,
                                             nvmlGpuDynamicPstatesInfo_t* states) {
  nvmlGpuDynamicPstatesInfo_t scratch;
  return unsupported(
      real_nvml().nvmlDeviceGetDynamicPstatesInfo(device, states == nullptr ? nullptr : &scratch));
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int* percent,
                                             unsigned int* period_us) {
  return engine(real_nvml().nvmlDeviceGetEncoderUtilization, device, percent, period_us);
}
nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int* percent,
                                             unsigned int* period_us) {
  return engine(real_nvml().nvmlDeviceGetDecoderUtilization, device, percent, period_us);
}
nvmlReturn_t nvmlDeviceGetJpgUtilization(nvmlDevice_t device, unsigned int* percent,
                                         unsigned int* period_us) {
  return engine(real_nvml().nvmlDeviceGetJpgUtilization, device, percent, period_us);
}
nvmlReturn_t nvmlDeviceGetOfaUtilization(nvmlDevice_t device, unsigned int* percent,
                                         unsigned int* period_us) {
  return engine(real_nvml().nvmlDeviceGetOfaUtilization, device, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned int* sessions,
                                       unsigned int* average_fps,
                                       unsigned int* average_latency_us) {
  unsigned int scratch[3];
  return unsupported(
      real_nvml().nvmlDeviceGetEncoderStats(device, sessions == nullptr ? nullptr : &scratch[0],
                                            average_fps == nullptr ? nullptr : &scratch[1],
                                            average_latency_us == nullptr ? nullptr : &scratch[2]));
}

nvmlReturn_t nvmlDeviceGetFBCStats(nvmlDevice_t device, nvmlFBCStats_t* stats) {
  nvmlFBCStats_t scratch;
  return unsupported(
      real_nvml().nvmlDeviceGetFBCStats(device, stats == nullptr ? nullptr : &scratch));
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t* support) {
  const nvmlReturn_t result = real_nvml().nvmlGpmQueryDeviceSupport(device, support);
  if (result == NVML_SUCCESS) support->isSupportedDevice = 0;
  return result;
}

// A sample is opaque, so there is no place for the driver to write it that the program couldn't
// read.
nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
  const bool odd = device == nullptr || sample == nullptr;
  return odd ? real_nvml().nvmlGpmSampleGet(device, sample) : NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int gpu_instance,
                                 nvmlGpmSample_t sample) {
  const bool odd = device == nullptr || sample == nullptr;
  return odd ? real_nvml().nvmlGpmMigSampleGet(device, gpu_instance, sample)
             : NVML_ERROR_NOT_SUPPORTED;
}

}  // namespace vgpu::hooks
