// SPDX-License-Identifier: Apache-2.0
// MIG devices, as far as names and lists go: nvml.mig in the machine's folder has lines
// "GPU PROFILE COUNT" ("1 1g.18gb 2"), read at each question. A GPU with a line is in MIG mode,
// also where its counts are 0. A program that names such a device by CUDA_VISIBLE_DEVICES gets the
// whole GPU under the device's name. Any thread, any process.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vgpu/base/gpu_uuid.h"
#include "vgpu/sim/device_state.h"

namespace vgpu::sim {

constexpr unsigned kMostMigDevices = 7;  // of one GPU

struct MigDevice {
  std::string profile;  // "1g.18gb"
  std::uint64_t total_bytes = 0;
  GpuUuid uuid;
  std::string uuid_text() const { return std::string("MIG-") + (uuid.text().data() + 4); }
};

// nullopt: the GPU isn't in MIG mode.
std::optional<std::vector<MigDevice>> mig_devices(const DeviceState& state, unsigned gpu);

}  // namespace vgpu::sim
