// SPDX-License-Identifier: Apache-2.0
// Every behavioural constant of the simulated GPU, in one place: sizes, growth steps, times and the
// GPU models. The figures were measured on an H200 with driver 580 (CUDA 13.0); the conformance
// program compares them with a real device, so a number changes here and nowhere else. Pure values,
// no code that runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vgpu::sim {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::uint64_t kGiB = 1024 * kMiB;

// What one model of GPU is. Speed orders CUDA's default enumeration (fastest first), not time.
struct GpuModel {
  std::string_view key;   // as VGPU_SIM_DEVICES spells it
  std::string_view name;  // as cuDeviceGetName and nvidia-smi print it
  std::uint64_t nvml_total_bytes;
  std::uint64_t reserved_bytes;  // firmware and driver: in NVML's total, not in CUDA's
  int compute_major;
  int compute_minor;
  int sm_count;
  int threads_per_sm;
  int blocks_per_sm;
  int shared_bytes_per_sm;
  int shared_bytes_per_block_optin;
  int l2_bytes;
  int bus_width_bits;
  int sm_clock_mhz;
  int memory_clock_mhz;
  int power_limit_watts;
  int speed;
  std::uint64_t context_bytes;

  constexpr std::uint64_t cuda_total_bytes() const { return nvml_total_bytes - reserved_bytes; }
  constexpr std::uint64_t resident_threads() const {
    return static_cast<std::uint64_t>(sm_count) * static_cast<std::uint64_t>(threads_per_sm);
  }
};

constexpr std::array<GpuModel, 5> kModels{{
    {"h200", "vgpu simulated H200", 143771 * kMiB, 644'939'776, 9, 0, 132, 2048, 32, 233472, 232448,
     60 << 20, 6144, 1980, 3201, 700, 900, 518 * kMiB},
    {"h100", "vgpu simulated H100", 81559 * kMiB, 565 * kMiB, 9, 0, 132, 2048, 32, 233472, 232448,
     50 << 20, 5120, 1980, 2619, 700, 890, 518 * kMiB},
    {"a100", "vgpu simulated A100", 81920 * kMiB, 695 * kMiB, 8, 0, 108, 2048, 32, 167936, 166912,
     40 << 20, 5120, 1410, 1593, 400, 800, 480 * kMiB},
    {"a10", "vgpu simulated A10", 23028 * kMiB, 504 * kMiB, 8, 6, 72, 1536, 16, 102400, 101376,
     6 << 20, 384, 1695, 6251, 150, 400, 256 * kMiB},
    {"t4", "vgpu simulated T4", 15360 * kMiB, 450 * kMiB, 7, 5, 40, 1024, 16, 65536, 65536, 4 << 20,
     256, 1590, 5001, 70, 200, 110 * kMiB},
}};

constexpr const char* kDefaultDevices = "a10:1,h200:2";

// The driver that is simulated.
constexpr int kDriverApiVersion = 13000;
constexpr const char* kDriverVersion = "580.159.04";

// Memory.
constexpr std::uint64_t kPageBytes = 2 * kMiB;  // what the driver takes from the device at a time
constexpr std::uint64_t kSmallLimitBytes = 1 * kMiB;  // larger requests get pages of their own
constexpr std::uint64_t kSmallAlignBytes = 512;  // places of small requests within a shared page
constexpr std::uint64_t kPitchBytes = 512;       // cuMemAllocPitch rounds a row up to it
constexpr std::uint64_t kPoolGrowthBytes =
    32 * kMiB;  // a pool's reservation grows by whole multiples of this
constexpr std::uint64_t kPoolWindowBytes = 64 * kGiB;  // addresses that a pool takes at a time
constexpr std::uint64_t kGraphGrowthBytes = 32 * kMiB;
constexpr std::uint64_t kVmmGranularityBytes = 2 * kMiB;
constexpr std::uint64_t kMulticastGranularityBytes = 2 * kMiB;
constexpr std::uint64_t kTextureAlignBytes = 512;
constexpr std::uint64_t kIpcHandleBytes = 64;

// Arrays are stored in tiles: rows round up to a tile's width in bytes, their number to a tile's
// height, tiles to blocks: of up to 16 tiles in height for flat arrays, in depth for deep ones.
constexpr std::uint64_t kArrayTileWidthBytes = 64;
constexpr std::uint64_t kArrayTileHeight = 8;
constexpr std::uint64_t kArrayMostTiles = 16;
constexpr std::uint64_t kArrayAlignBytes = 64 * kKiB;

// Managed memory: touching more than is there brings so much beyond the need, which stays.
constexpr std::uint64_t kManagedSlackBytes = 64 * kMiB;

// Objects that nobody asks bytes for, by what the context holds for them.
constexpr std::uint64_t kStreamBytes = 560 * kKiB;
constexpr std::uint64_t kGraphKernelBytes = 2 * kKiB;
constexpr std::uint64_t kGreenContextBytes = 6 * kMiB;
// What the used memory of a GPU grows by with a process's first context beyond that process's
// figure: 9 MiB with one process on an H200, 48 MiB with eight.
constexpr std::uint64_t kUnshownProcessBytes = 10 * kMiB;

// Limits of a context.
constexpr std::uint64_t kDefaultStackBytes = 1024;
constexpr std::uint64_t kMaxStackBytes = 512 * kKiB;
constexpr std::uint64_t kStackAlignBytes = 16;
constexpr std::uint64_t kDefaultPrintfBytes = 8 * kMiB + 256 * kKiB;  // part of a context
constexpr std::uint64_t kDefaultHeapBytes = 8 * kMiB;
constexpr std::uint64_t kHeapExtraBytes = 2 * kMiB;        // beside the heap itself
constexpr std::uint64_t kDeviceRuntimeBytes = 138 * kMiB;  // at the first module that calls malloc
constexpr std::uint64_t kDefaultPendingLaunches = 2048;

// Code: what a module takes at its first use, besides its globals. Up to the first amount it fits
// in the context.
constexpr std::uint64_t kCodeInContextBytes = 1 * kMiB;

// Time.
constexpr std::uint64_t kTimeSliceNs = 2'050'000;  // a process's turn while others want the device
constexpr std::uint64_t kPreemptSwitchNs = 230'000;    // handing over in the middle of work
constexpr std::uint64_t kIdleSwitchNs = 127'000;       // handing over after the last work was done
constexpr std::uint64_t kDefaultKernelNs = 2'000;      // a kernel that states no duration
constexpr std::uint64_t kKernelGapNs = 1'310;          // between two kernels of a stream
constexpr std::uint64_t kTimingEventNs = 2'000;        // an event that takes a time stamp
constexpr std::uint64_t kHostCopyBytesPerUs = 55'000;  // host to device and back
constexpr std::uint64_t kDeviceCopyBytesPerUs = 2'000'000;
constexpr std::uint64_t kMemsetBytesPerUs = 2'500'000;
constexpr std::size_t kPendingPerStream = 1024;  // a launch into a stream that holds more waits

}  // namespace vgpu::sim
