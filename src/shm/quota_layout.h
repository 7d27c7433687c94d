// SPDX-License-Identifier: Apache-2.0
// The wire format of a quota page: a file in the daemon's folder of pages, named after the device
// and number of the segment's file. One writer: the daemon.
#pragma once

#include "layout.h"
#include "segment.h"

namespace vgpu::shm {

inline constexpr std::uint64_t kQuotaMagic = 0x3141544f55515047;  // "GPQUOTA1"
inline constexpr std::uint32_t kQuotaMajor = 1;
inline constexpr std::uint32_t kQuotaMinor = 0;

struct alignas(kCacheLine) QuotaRow {  // in the order of the segment's GPUs
  std::uint8_t uuid[16];
  Word memory_limit_bytes;
  Word terms;  // as in GpuRecord
  std::uint8_t reserved[32];
};
static_assert(sizeof(QuotaRow) == kCacheLine);

struct alignas(kCacheLine) QuotaPageRecord {
  std::uint64_t magic;  // this line and the next: written before the page is published
  std::uint32_t major;
  std::uint32_t minor;
  std::uint64_t segment_device;
  std::uint64_t segment_inode;
  std::uint64_t segment_made_ns;  // CLOCK_REALTIME
  std::uint32_t gpu_count;
  std::uint8_t reserved0[20];
  char id[kMaxName + 1];
  std::uint8_t reserved1[64];
  QuotaRow rows[kMaxGpus];
  std::uint8_t reserved2[1856];
};
static_assert(sizeof(QuotaPageRecord) == 4096 && std::is_standard_layout_v<QuotaPageRecord>);
static_assert(offsetof(QuotaPageRecord, id) == 64 && offsetof(QuotaPageRecord, rows) == 192);

SegmentPath quota_page_path(std::string_view folder, const platform::FileIdentity& segment);

// A page that a tenant's process may believe: of that segment and tenant, nobody's to write but its
// owner's, who is root or this process's user. Null: there is none.
const QuotaPageRecord* map_quota_page(std::string_view folder,
                                      const platform::FileIdentity& segment, std::string_view id,
                                      const Segment& gpus);

}  // namespace vgpu::shm
