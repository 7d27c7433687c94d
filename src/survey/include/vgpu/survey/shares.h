// SPDX-License-Identifier: Apache-2.0
// What this user's tenants are promised of one GPU together, whether there is room for one more
// promise, and whether promises can be kept: the one place from which the tool says that a share
// is scaled or best effort. Pure but for SharesLock.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "vgpu/base/quota.h"
#include "vgpu/survey/snapshot.h"

namespace vgpu::survey {

struct Promise {
  std::string tenant;  // its name
  unsigned percent = 0;
};

struct GpuShares {
  std::vector<Promise> promises;  // of those with a share
  std::string best_effort;        // why shares can't be vouched for; empty: they are enforced

  unsigned sum_percent() const;
  bool oversubscribed() const { return sum_percent() > 100; }
  // What a share of `percent` comes down to while all want the GPU.
  double scaled(unsigned percent) const;
};

// Shares of live tenants on a GPU; `except`: an id that doesn't count.
GpuShares promised(std::span<const shm::TenantSpec> tenants, const GpuUuid& gpu,
                   std::string_view except = {});
GpuShares shares_on(const Snapshot& snapshot, const GpuUuid& gpu);

// "GPU 0: a share of 60 % doesn't fit beside train 70 %; 30 % is left"; empty: it fits.
std::string why_not(const GpuShares& others, const shm::TenantGpu& gpu, unsigned percent);

// What helps then: "--compute 30, or --oversubscribe: all are scaled down". `share_is_required`:
// scaling down won't do.
std::string room_advice(const GpuShares& others, bool share_is_required);

// "shares add up to 130 % and are scaled down", "shares are best effort: ..."; none: all is kept.
std::vector<std::string> share_notes(const GpuShares& shares);

// Held while a share is promised: of two that are started at once, the second sees the first.
class SharesLock {
 public:
  // Throws Problem with that exit status when another holds it for too long (it is stopped, say).
  SharesLock(const shm::StateDir& dir, int exit_code);
  ~SharesLock();
  SharesLock(const SharesLock&) = delete;
  SharesLock& operator=(const SharesLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace vgpu::survey
