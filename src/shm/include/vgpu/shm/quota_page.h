// SPDX-License-Identifier: Apache-2.0
// A tenant's quota where the tenant can't write it: a page of the daemon's own beside the tenant's
// segment, which the tenant's processes map read-only. While there is one it holds, and what the
// segment says is a copy for readers that know no page. quota_layout.h is the wire format.
//
// The daemon makes a page and removes it with the tenant. The page stays
// when the daemon ends or dies, and what it says goes on holding; the next daemon takes it over.
//
// Nothing throws or allocates. One thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "vgpu/base/fixed_string.h"
#include "vgpu/base/quota.h"
#include "vgpu/platform/file.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {

struct QuotaPageRecord;

class QuotaPage {
 public:
  QuotaPage() = default;
  QuotaPage(QuotaPage&& other) noexcept;
  QuotaPage& operator=(QuotaPage&& other) noexcept;
  ~QuotaPage();

  // The page of a segment in the folder of pages, made from `spec` where there is none. One that is
  // there is the caller's, of that segment and tenant, and keeps what it says; another's is
  // replaced. `made_ns`: when the segment was made; the next file of the same number has another.
  static Status open(std::string_view folder, const platform::FileIdentity& segment,
                     std::uint64_t made_ns, const TenantSpec& spec, QuotaPage& out);
  // The one that is there, if it is the caller's to write: not_found, unavailable.
  static Status take(std::string_view folder, const platform::FileIdentity& segment,
                     const TenantSpec& spec, QuotaPage& out);
  bool is_open() const { return page_ != nullptr; }
  bool was_made() const { return was_made_; }  // by this open()
  // By which a mapping of it is known in /proc/PID/maps.
  const platform::FileIdentity& file() const { return file_; }

  Quota quota(std::uint32_t gpu) const;  // a position in the spec's GPUs
  void set_quota(std::uint32_t gpu, const Quota& quota);

  // Its file's name in the folder.
  static FixedString<63> name(const platform::FileIdentity& segment);
  static void remove(std::string_view folder, const platform::FileIdentity& segment);

 private:
  QuotaPageRecord* page_ = nullptr;
  platform::FileIdentity file_;
  bool was_made_ = false;
};

}  // namespace vgpu::shm
