// SPDX-License-Identifier: Apache-2.0
// How busy a GPU is, which NVML only knows of all tenants together: not supported, which nvidia-smi
// prints as N/A, until there is a figure of the tenant's own. The driver sees the arguments first
// and writes to places of ours.
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
  nvmlUtilization_t scratch;
  return unsupported(
      real_nvml().nvmlDeviceGetUtilizationRates(device, rates == nullptr ? nullptr : &scratch));
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t*,
                                             unsigned int* count, unsigned long long last_seen_us) {
  unsigned int none = 0;
  return unsupported(real_nvml().nvmlDeviceGetProcessUtilization(
      device, nullptr, count == nullptr ? nullptr : &none, last_seen_us));
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                   nvmlProcessesUtilizationInfo_t* info) {
  if (info == nullptr) return real_nvml().nvmlDeviceGetProcessesUtilizationInfo(device, info);
  nvmlProcessesUtilizationInfo_t none{info->version, 0, info->lastSeenTimeStamp, nullptr};
  return unsupported(real_nvml().nvmlDeviceGetProcessesUtilizationInfo(device, &none));
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
