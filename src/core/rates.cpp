// SPDX-License-Identifier: Apache-2.0
#include "vgpu/core/rates.h"

#include <algorithm>

namespace vgpu::core {
namespace {

Rate limit_of(const Claim& claim) {
  return claim.limit_percent == 0 ? kWholeGpu : rate_of_percent(claim.limit_percent);
}

void entitle(std::span<Claim> claims) {
  std::uint64_t shared = 0;
  std::uint32_t without = 0;
  for (const Claim& claim : claims) {
    shared += rate_of_percent(claim.share_percent);
    without += claim.share_percent == 0 ? 1 : 0;
  }
  const std::uint64_t left = shared < kWholeGpu ? kWholeGpu - shared : 0;
  const Rate part =
      without == 0 ? 0 : std::max(static_cast<Rate>(left / without), rate_of_percent(1));
  const std::uint64_t sum = shared + std::uint64_t{part} * without;
  for (Claim& claim : claims) {
    claim.entitled = claim.share_percent == 0 ? part : rate_of_percent(claim.share_percent);
    if (sum > kWholeGpu)
      claim.entitled = static_cast<Rate>(std::uint64_t{claim.entitled} * kWholeGpu / sum);
    claim.entitled = std::max<Rate>(claim.entitled, 1);
  }
}

// Splits `left` among the wanting claims of one priority by their shares; gives what remains
// because all of them are at their limits. Each round fills one claim at least, or all of `left` is
// gone.
std::uint64_t pour(std::span<Claim> claims, Priority priority, std::uint64_t left) {
  const auto takes = [priority](const Claim& claim) {
    return claim.wants && claim.priority == priority && claim.rate < limit_of(claim);
  };
  for (std::size_t round = 0; round <= claims.size() && left > 0; ++round) {
    std::uint64_t weights = 0;
    for (const Claim& claim : claims) weights += takes(claim) ? claim.entitled : 0;
    if (weights == 0) break;
    const std::uint64_t pouring = left;
    for (Claim& claim : claims) {
      if (!takes(claim)) continue;
      const std::uint64_t part = std::max<std::uint64_t>(pouring * claim.entitled / weights, 1);
      const auto taken =
          static_cast<Rate>(std::min({part, left, std::uint64_t{limit_of(claim) - claim.rate}}));
      claim.rate += taken;
      left -= taken;
    }
  }
  return left;
}

}  // namespace

void share_out(std::span<Claim> claims) {
  entitle(claims);
  std::uint64_t left = kWholeGpu;
  for (Claim& claim : claims) {
    claim.rate = claim.wants ? std::min(claim.entitled, limit_of(claim)) : 0;
    left -= std::min<std::uint64_t>(left, claim.rate);
  }
  for (const Priority priority : {Priority::high, Priority::normal, Priority::low})
    left = pour(claims, priority, left);
}

}  // namespace vgpu::core
