// SPDX-License-Identifier: Apache-2.0
// See gpu_names.h. Digits alone are an index; a UUID that begins with digits only is told apart by
// "GPU-".
#include "gpu_names.h"

namespace vgpu::settings {
namespace {

constexpr std::size_t kUuidTextSize = 36;

bool fail(Fault& fault, Piece piece, std::string_view why) {
  fault.at = piece.at;
  fault.why = Line();
  if (piece.text.empty()) {
    fault.why.append("no GPU named");
  } else {
    fault.why.append('"');
    append_excerpt(fault.why, piece.text, 0, 60);
    fault.why.append('"');
  }
  fault.why.append(why);
  return false;
}

bool is_uuid_prefix(std::string_view text) {
  if (text.empty() || text.size() > kUuidTextSize) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash_here = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash_here ? text[i] != '-' : GpuUuid::hex_digit(text[i]) < 0) return false;
  }
  return true;
}

}  // namespace

bool parse_gpu_name(Piece piece, GpuName& name, Fault& fault) {
  name = GpuName{};
  if (!piece.text.empty() && piece.text.find_first_not_of("0123456789") == std::string_view::npos) {
    if (piece.text.size() > 1 && piece.text[0] == '0') {
      return fail(fault, piece,
                  " is no index; write it without leading zeros, or as GPU-... if a UUID is meant");
    }
    std::uint64_t index = 0;
    for (const char c : part(piece.text, 0, 10))
      index = index * 10 + static_cast<std::uint64_t>(c - '0');
    name.is_index = true;
    name.index = piece.text.size() > 9 ? UINT32_MAX : static_cast<std::uint32_t>(index);
    return true;
  }
  std::string_view text = piece.text;
  if (same_word(part(text, 0, 4), "GPU-")) text.remove_prefix(4);
  if (!is_uuid_prefix(text)) {
    return fail(fault, piece,
                " names no GPU; write an index or a UUID, as `nvidia-smi -L` prints them");
  }
  name.uuid = text;
  return true;
}

bool same_gpu_name(const GpuName& a, const GpuName& b) {
  if (a.is_index != b.is_index) return false;
  return a.is_index ? a.index == b.index : same_word(a.uuid, b.uuid);
}

bool has_prefix(const GpuUuid& uuid, std::string_view prefix, bool exact_case) {
  const auto text = uuid.text();
  const std::string_view own(text.data() + 4, kUuidTextSize);
  if (prefix.size() > own.size()) return false;
  return exact_case ? part(own, 0, prefix.size()) == prefix
                    : same_word(part(own, 0, prefix.size()), prefix);
}

bool find_gpu(const GpuName& name, Piece piece, std::span<const GpuIdentity> gpus,
              std::uint32_t& position, Fault& fault) {
  std::uint32_t matches = 0;
  for (std::uint32_t i = 0; i < gpus.size(); ++i) {
    const bool match =
        name.is_index ? gpus[i].nvml_index == name.index : has_prefix(gpus[i].uuid, name.uuid);
    if (!match) continue;
    position = i;
    ++matches;
  }
  if (matches == 1) return true;
  if (matches > 1)
    return fail(fault, piece, " fits several GPUs; write more of the UUID, see `nvidia-smi -L`");
  fail(fault, piece, " is no GPU here; there ");
  fault.why.append(gpus.size() == 1 ? "is " : "are ").append_number(gpus.size());
  fault.why.append(gpus.size() == 1 ? " GPU, see `nvidia-smi -L`" : " GPUs, see `nvidia-smi -L`");
  if (name.is_index && piece.text.size() > 2)
    fault.why.append("; a UUID of digits is written GPU-...");
  return false;
}

}  // namespace vgpu::settings
