// SPDX-License-Identifier: Apache-2.0
// What the ledger's tests start from: a state directory of their own, and a tenant with one limited
// GPU.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "vgpu/shm/tenant.h"

namespace vgpu::shm {

inline constexpr std::uint64_t kMiB = 1024 * 1024;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

class ScratchDir {
 public:
  ScratchDir() {
    std::string path = std::filesystem::temp_directory_path() / "vgpu-ledger-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = path;
    dir_.path = FixedString<255>(path_);
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;

  const StateDir& dir() const { return dir_; }
  const std::string& path() const { return path_; }
  std::string segment(const std::string& id = "t") const { return path_ + "/" + id + ".tenant"; }

 private:
  std::string path_;
  StateDir dir_;
};

inline TenantSpec spec_of(std::uint64_t limit_bytes, std::uint32_t gpus = 1,
                          std::string_view id = "t") {
  TenantSpec spec;
  spec.id = FixedString<kMaxName>(id);
  for (std::uint32_t i = 0; i < gpus; ++i) {
    TenantGpu gpu;
    gpu.uuid.bytes[15] = static_cast<std::uint8_t>(i + 1);
    gpu.nvml_index = i;
    gpu.total_bytes = 80 * kGiB;
    gpu.quota.memory_limit_bytes = limit_bytes;
    spec.gpus.push_back(gpu);
  }
  return spec;
}

}  // namespace vgpu::shm
