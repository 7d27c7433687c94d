// SPDX-License-Identifier: Apache-2.0
// Quotas in TFLOPS, as the predecessor's users state them: percent of each GPU, by what its model
// has. A model that isn't in the table refuses the quota. Pure.
#pragma once

#include <string>
#include <vector>

#include "vgpu/survey/gpus.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {

class GpuCapacity;

// In place of a share and a limit in percent; as typed, empty: not given.
struct TflopsQuota {
  std::string share;
  std::string limit;
  bool is_given() const { return !share.empty() || !limit.empty(); }
};

// Where it stands, by which messages name its fields: a rule of the settings (tflops-limit), which
// they name too, or a request (tflops_limit).
struct TflopsPlace {
  bool is_rule = false;
  std::string rule{};  // its name; may be empty
};

// What is wrong with it whatever GPUs there are, by itself and beside what `flags` say of percent;
// empty: nothing.
std::string fault_in(const TflopsQuota& wanted, const survey::QuotaFlags& flags,
                     const TflopsPlace& place);

// Whether its percent may differ from GPU to GPU.
enum class TflopsFor : unsigned char { each_gpu, any_gpu };

// Puts the percent of each of the GPUs into `flags`. Throws survey::Problem with one line.
void put_percent(const TflopsQuota& wanted, const std::vector<survey::Gpu>& gpus, TflopsFor form,
                 const GpuCapacity& capacity, const TflopsPlace& place, survey::QuotaFlags& flags);

}  // namespace vgpu::hypervisor
