// SPDX-License-Identifier: Apache-2.0
#include "vgpu/tui/model.h"

#include <fmt/format.h>

#include <algorithm>

#include "vgpu/survey/problem.h"

namespace vgpu::tui {

using survey::GpuFigures, survey::TenantFigures;

namespace {

bool is_called(const std::string& only, const TenantFigures& tenant) {
  return tenant.id.starts_with(only) || tenant.name.starts_with(only);
}

void keep_tenants(Model& model, const std::string& only) {
  for (auto& gpu : model.gpus) {
    std::erase_if(gpu.tenants, [&](const auto& tenant) { return !is_called(only, tenant); });
    gpu.outsiders.clear();
  }
  std::erase_if(model.gpus, [](const GpuFigures& gpu) { return gpu.tenants.empty(); });
  std::erase_if(model.processes, [&](const Process& process) {
    return process.tenant_id.empty() ||
           !(process.tenant_id.starts_with(only) || process.tenant.starts_with(only));
  });
}

void keep_gpus(Model& model, const std::string& only) {
  std::erase_if(model.gpus,
                [&](const GpuFigures& gpu) { return !survey::is_called(only, gpu.gpu); });
  std::erase_if(model.processes, [&](const Process& process) {
    return std::none_of(process.gpus.begin(), process.gpus.end(),
                        [&](const ProcessOnGpu& on) { return model.gpu(on.gpu) != nullptr; });
  });
}

}  // namespace

const GpuFigures* Model::gpu(const GpuUuid& uuid) const {
  const auto found = std::find_if(gpus.begin(), gpus.end(),
                                  [&](const GpuFigures& one) { return one.gpu.uuid == uuid; });
  return found == gpus.end() ? nullptr : &*found;
}

const TenantFigures* Model::row(const RowKey& key) const {
  const GpuFigures* on = gpu(key.gpu);
  if (on == nullptr) return nullptr;
  const auto found = std::find_if(on->tenants.begin(), on->tenants.end(),
                                  [&](const TenantFigures& one) { return one.id == key.tenant; });
  return found == on->tenants.end() ? nullptr : &*found;
}

void keep_only(Model& model, const std::string& only) {
  if (only.empty()) return;
  const auto has_tenant = [&](const GpuFigures& gpu) {
    return std::any_of(gpu.tenants.begin(), gpu.tenants.end(),
                       [&](const TenantFigures& tenant) { return is_called(only, tenant); });
  };
  if (std::any_of(model.gpus.begin(), model.gpus.end(), has_tenant)) {
    keep_tenants(model, only);
    return;
  }
  if (std::none_of(model.gpus.begin(), model.gpus.end(),
                   [&](const GpuFigures& gpu) { return survey::is_called(only, gpu.gpu); })) {
    throw survey::Problem(survey::kExitFailed, "VG1022",
                          fmt::format("no tenant and no GPU is called \"{}\"", only), "vgpu ls");
  }
  keep_gpus(model, only);
}

}  // namespace vgpu::tui
