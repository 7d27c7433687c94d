// SPDX-License-Identifier: Apache-2.0
// The name of a GPU: the 16 bytes that CUDA (cuDeviceGetUuid) and NVML ("GPU-8-4-4-4-12") both know
// it by. Pure values, any thread. Every limit is keyed by it, because indices differ between CUDA,
// NVML and containers.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace vgpu {

struct GpuUuid {
  std::array<std::uint8_t, 16> bytes{};

  friend constexpr auto operator<=>(const GpuUuid&, const GpuUuid&) = default;
  constexpr bool is_zero() const { return *this == GpuUuid{}; }

  static constexpr std::size_t kTextSize = 40;  // "GPU-" and 36 characters, without a terminator

  // Lower-case text as nvidia-smi prints it; terminated, so 41 bytes.
  constexpr std::array<char, kTextSize + 1> text() const {
    std::array<char, kTextSize + 1> out{'G', 'P', 'U', '-'};
    constexpr char kHex[] = "0123456789abcdef";
    std::size_t at = 4;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (i == 4 || i == 6 || i == 8 || i == 10) out[at++] = '-';
      out[at++] = kHex[bytes[i] >> 4];
      out[at++] = kHex[bytes[i] & 15];
    }
    return out;
  }

  // Whole UUIDs only, any case, with or without "GPU-". Prefixes are a question about a list of
  // GPUs: see settings.
  static constexpr std::optional<GpuUuid> parse(std::string_view text) {
    if (text.size() == kTextSize && lower(text[0]) == 'g' && lower(text[1]) == 'p' &&
        lower(text[2]) == 'u' && text[3] == '-') {
      text.remove_prefix(4);
    }
    if (text.size() != 36) return std::nullopt;
    GpuUuid uuid;
    std::size_t nibble = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool dash_here = i == 8 || i == 13 || i == 18 || i == 23;
      if (dash_here != (text[i] == '-')) return std::nullopt;
      if (dash_here) continue;
      const int digit = hex_digit(text[i]);
      if (digit < 0) return std::nullopt;
      auto& byte = uuid.bytes[nibble / 2];
      byte = static_cast<std::uint8_t>((byte << 4) | digit);
      ++nibble;
    }
    return uuid;
  }

  static constexpr char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  static constexpr int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  }
};

}  // namespace vgpu
