// SPDX-License-Identifier: Apache-2.0
// cuInit in a limited process: the driver sees the tenant's GPUs and no others, in CUDA's order, by
// UUID. It reads CUDA_VISIBLE_DEVICES inside cuInit, so that is when the variable says so; before
// and after it is the program's.
#include <algorithm>
#include <string_view>

#include "environment.h"
#include "hooks.h"
#include "limiter.h"
#include "vgpu/driver/dispatch.h"
#include "vgpu/settings/settings.h"

namespace vgpu::hooks {
namespace {

using limiter::Limiter;

constexpr char kVariable[] = "CUDA_VISIBLE_DEVICES";

using GpuList = FixedVector<GpuUuid, shm::kMaxGpus>;

bool contains(const GpuList& gpus, const GpuUuid& uuid) {
  return std::find(gpus.begin(), gpus.end(), uuid) != gpus.end();
}

// The tenant's GPUs as CUDA numbers them: in the order of VGPU_GPUS, where `vgpu run` leaves their
// UUIDs in CUDA's order, the others behind by NVML index. Asking the driver is too late: its first
// answer is its only one.
GpuList in_cuda_order(const shm::TenantSpec& spec) {
  GpuList set;
  GpuList ordered;
  for (const shm::TenantGpu& gpu : spec.gpus) {
    if (gpu.in_set) set.push_back(gpu.uuid);
  }
  const char* value = limiter::own_variable("VGPU_GPUS");
  std::string_view rest = value == nullptr ? "" : value;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    const auto uuid = GpuUuid::parse(std::string_view(rest.data(), end));
    if (uuid.has_value() && contains(set, *uuid) && !contains(ordered, *uuid))
      ordered.push_back(*uuid);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  for (const GpuUuid& uuid : set) {
    if (!contains(ordered, uuid)) ordered.push_back(uuid);
  }
  return ordered;
}

// "CUDA_VISIBLE_DEVICES=GPU-...,GPU-..." for what of the tenant's set stays visible under the
// program's own value. False: the tenant has every GPU, so the driver reads the program's value
// itself.
bool visible_entry(char (&entry)[sizeof(kVariable) + shm::kMaxGpus * (GpuUuid::kTextSize + 1)]) {
  const shm::TenantSpec spec = Limiter::active()->tenant().spec();
  const GpuList set = in_cuda_order(spec);
  if (set.size() == spec.gpus.size()) return false;
  FixedVector<std::uint32_t, settings::kMaxGpus> positions;
  settings::visible_devices(limiter::own_variable(kVariable), {set.begin(), set.size()}, positions);
  std::size_t at = sizeof(kVariable) - 1;
  __builtin_memcpy(entry, kVariable, at);
  entry[at++] = '=';
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (i != 0) entry[at++] = ',';
    __builtin_memcpy(entry + at, set[positions[i]].text().data(), GpuUuid::kTextSize);
    at += GpuUuid::kTextSize;
  }
  entry[at] = '\0';
  return true;
}

}  // namespace

CUresult cuInit(unsigned int flags) {
  char entry[sizeof(kVariable) + shm::kMaxGpus * (GpuUuid::kTextSize + 1)];
  if (!visible_entry(entry)) return real().cuInit(flags);
  const limiter::SubstitutedVariable substituted(kVariable, entry);
  // Without memory for it the driver would show GPUs that aren't the tenant's.
  return substituted.succeeded() ? real().cuInit(flags) : CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace vgpu::hooks
