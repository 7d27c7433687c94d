// SPDX-License-Identifier: Apache-2.0
// Memory that crosses process borders: a file of the exporter's, named by process and descriptor,
// opened by the importer.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "driver.h"

namespace vgpu::sim {

// What a 64-byte IPC handle, or an exported pool pointer, says.
struct SharedName {
  std::uint32_t magic;
  std::int32_t pid;
  std::uint64_t start_time;
  std::uint64_t number;  // of the share
  std::uint64_t offset;
  std::uint64_t extent;  // of the mapping
  std::uint32_t inner;   // place of the memory within it
  std::int32_t fd;
  std::uint64_t bytes;
  std::int32_t device;  // NVML index
  std::uint32_t check;
};
static_assert(sizeof(SharedName) == 64);

std::uint64_t new_share_number();
// The name of an allocation's memory; its file and offset included.
bool name_memory(const Allocation& allocation, std::uint32_t magic, std::uint64_t number,
                 SharedName& out);
// Maps what a name names. 0 if it is gone, or not another process's.
std::uint64_t map_named(const SharedName& name);
bool own_name(const SharedName& name);
// Before exported memory is given back: whether it is this process's to give. If not, another one
// still holds the bytes.
bool end_export(std::uint64_t base, int device);

}  // namespace vgpu::sim
