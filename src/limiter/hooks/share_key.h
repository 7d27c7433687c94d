// SPDX-License-Identifier: Apache-2.0
// The identity that processes of a tenant know shared memory by: a 128-bit hash of the handle's
// bytes, which are the same in exporter and importer. Never zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../ledger/allocation_table.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

inline ShareKey key_of(const void* bytes, std::size_t size) {
  // FNV-1a twice with different offsets, each finished by a mix: handles differ in few bits.
  const auto* at = static_cast<const unsigned char*>(bytes);
  std::uint64_t high = 0xcbf29ce484222325ULL;
  std::uint64_t low = 0x9ae16a3b2f90404fULL;
  for (std::size_t i = 0; i < size; ++i) {
    high = (high ^ at[i]) * 0x100000001b3ULL;
    low = (low ^ at[i] ^ (high >> 32)) * 0x9E3779B97F4A7C15ULL;
  }
  return {.high = high ^ (high >> 31), .low = (low ^ (low >> 29)) | 1};
}

// The size of the allocation that an address lies in; 0 when the driver doesn't know it.
inline std::uint64_t mapped_size(CUdeviceptr address) {
  CUdeviceptr base = 0;
  size_t size = 0;
  return real().cuMemGetAddressRange_v2(&base, &size, address) == CUDA_SUCCESS ? size : 0;
}

}  // namespace vgpu::limiter
