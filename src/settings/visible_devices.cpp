// SPDX-License-Identifier: Apache-2.0
// CUDA_VISIBLE_DEVICES as the driver reads it; the rules stand at the declaration.
#include "gpu_names.h"

namespace vgpu::settings {
namespace {

constexpr std::size_t kNone = SIZE_MAX;

// The ordinal that an entry begins with; kNone for what is negative or begins with something else.
std::size_t ordinal_of(std::string_view entry) {
  if (!entry.empty() && entry[0] == '+') entry.remove_prefix(1);
  if (entry.empty() || !is_digit(entry[0])) return kNone;
  std::size_t ordinal = 0;
  for (const char c : entry) {
    if (!is_digit(c)) break;
    ordinal = ordinal * 10 + static_cast<std::size_t>(c - '0');
    if (ordinal > kMaxGpus) return kNone;  // not there, whatever follows
  }
  return ordinal;
}

// The driver compares as many characters as a UUID has; what follows them doesn't matter.
std::size_t find_by_uuid(std::string_view entry, std::span<const GpuUuid> gpus) {
  if (part(entry, 0, 4) != "GPU-" || entry.size() == 4) return kNone;
  entry = part(entry, 0, GpuUuid::kTextSize);
  std::size_t found = kNone;
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    if (!has_prefix(gpus[i], part(entry, 4))) continue;
    if (found != kNone) return kNone;  // several GPUs begin like that
    found = i;
  }
  return found;
}

}  // namespace

void visible_devices(const char* value, std::span<const GpuUuid> gpus,
                     FixedVector<std::uint32_t, kMaxGpus>& positions) {
  positions.clear();
  if (value == nullptr) {
    for (std::uint32_t i = 0; i < gpus.size(); ++i) positions.push_back(i);
    return;
  }
  const std::string_view list = value;
  const bool by_uuid = part(list, 0, 4) == "GPU-";
  std::uint64_t seen = 0;
  Entries entries(list);
  for (Piece entry; entries.next(entry);) {
    const std::size_t position = by_uuid ? find_by_uuid(entry.text, gpus) : ordinal_of(entry.text);
    if (position >= gpus.size()) return;  // kNone too
    if ((seen >> position & 1) != 0) {
      positions.clear();
      return;
    }
    seen |= std::uint64_t{1} << position;
    positions.push_back(static_cast<std::uint32_t>(position));
  }
}

}  // namespace vgpu::settings
