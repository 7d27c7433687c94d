// SPDX-License-Identifier: Apache-2.0
// A model made by hand: one GPU with as many tenants as are wanted, each with a process.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "vgpu/tui/model.h"

namespace vgpu::tui {

inline GpuUuid made_gpu(unsigned char last) {
  GpuUuid uuid{};
  uuid.bytes[15] = last;
  return uuid;
}

inline survey::TenantFigures made_tenant(std::size_t number) {
  survey::TenantFigures tenant;
  tenant.id = fmt::format("tenant-{:03}-id", number);
  tenant.name = fmt::format("tenant-{:03}", number);
  tenant.quota.compute_share_percent = static_cast<std::uint8_t>(number % 3);
  tenant.quota.memory_limit_bytes = std::uint64_t{4} << 30;
  tenant.quota.compute_source = tenant.quota.memory_source = Source::run;
  tenant.owed = 1;
  tenant.use.got_1s = static_cast<double>(number % 7);
  tenant.use.history.assign(survey::kRemembered, tenant.use.got_1s);
  tenant.used_bytes = (number % 5) << 28;
  tenant.processes.push_back({static_cast<std::int32_t>(1000 + number), "python", 1 << 28,
                              std::nullopt, tenant.use.got_1s});
  return tenant;
}

inline Model made_model(std::size_t tenants) {
  Model model;
  model.source = "daemon of node-1";
  model.time_ns = 1'764'000'000'000'000'000;
  survey::GpuFigures gpu;
  gpu.gpu.uuid = made_gpu(1);
  gpu.gpu.name = "NVIDIA H200";
  gpu.gpu.total_bytes = std::uint64_t{141} << 30;
  gpu.gpu.used_bytes = std::uint64_t{70} << 30;
  gpu.got_1s = 91.5;
  GpuSample& sample = model.samples[gpu.gpu.uuid];
  sample.temperature_celsius = 61;
  sample.power_milliwatts = 512'000;
  sample.power_limit_milliwatts = 700'000;
  sample.promised_percent = 100;
  for (std::size_t i = 0; i < tenants; ++i) {
    gpu.tenants.push_back(made_tenant(i));
    const auto& tenant = gpu.tenants.back();
    TenantFacts& facts = model.tenants[tenant.id];
    facts.name = tenant.name;
    facts.owner = "ann";
    facts.gpus = {gpu.gpu.uuid};
    Process process;
    process.pid = process.own_pid = static_cast<std::int32_t>(1000 + i);
    process.user = "ann";
    process.program = "python";
    process.command_line = fmt::format("python train.py --seed {}", i);
    process.tenant_id = tenant.id;
    process.tenant = tenant.name;
    process.limiter = survey::Limiter::present;
    process.gpus = {{gpu.gpu.uuid, 0, std::uint64_t{1} << 28, tenant.use.got_1s}};
    model.processes.push_back(process);
    model.events.push_back({i + 1, model.time_ns, "tenant_began", tenant.id,
                            fmt::format("tenant {} began", tenant.name)});
  }
  model.gpus.push_back(gpu);
  model.plots[gpu.gpu.uuid].got.assign(600, 50);
  return model;
}

}  // namespace vgpu::tui
