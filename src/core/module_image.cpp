// SPDX-License-Identifier: Apache-2.0
// Sizes from the headers of code images; see module_image.h.
#include "vgpu/core/module_image.h"

namespace vgpu::module_image {

namespace {

constexpr std::uint32_t kElfMagic = 0x464c457f;
constexpr std::uint32_t kFatBinaryMagic = 0xba55ed50;
constexpr std::uint32_t kWrapperMagic = 0x466243b1;
constexpr std::uint32_t kNoBits = 8;      // SHT_NOBITS
constexpr std::uint64_t kAllocated = 2;   // SHF_ALLOC
constexpr std::uint64_t kExecutable = 4;  // SHF_EXECINSTR
constexpr std::uint64_t kMostEntries = 1 << 16;
constexpr std::uint16_t kPtxEntry = 1;
constexpr std::uint16_t kElfEntry = 2;

template <class T>
T read(const unsigned char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

bool fits(std::uint64_t offset, std::uint64_t bytes, std::size_t size) {
  return offset <= size && bytes <= size - offset;
}

// Names of entries differ, sections don't: what is allocated and executable is code, the rest of
// what is allocated is data, except constant banks and shared memory, which take no global memory.
Estimate estimate_elf(const unsigned char* elf, std::size_t size) {
  Estimate sum;
  if (!fits(0, 64, size) || elf[4] != 2) return sum;
  const auto sections_at = read<std::uint64_t>(elf + 40);
  const auto section_bytes = read<std::uint16_t>(elf + 58);
  const auto count = read<std::uint16_t>(elf + 60);
  const auto names_index = read<std::uint16_t>(elf + 62);
  if (section_bytes < 64 || names_index >= count ||
      !fits(sections_at, std::uint64_t{section_bytes} * count, size)) {
    return sum;
  }
  const unsigned char* names_header =
      elf + sections_at + std::uint64_t{section_bytes} * names_index;
  const auto names_at = read<std::uint64_t>(names_header + 24);
  const auto names_bytes = read<std::uint64_t>(names_header + 32);
  if (!fits(names_at, names_bytes, size)) return sum;
  for (std::uint64_t i = 0; i < count; ++i) {
    const unsigned char* header = elf + sections_at + section_bytes * i;
    const auto name_offset = read<std::uint32_t>(header);
    const auto type = read<std::uint32_t>(header + 4);
    const auto flags = read<std::uint64_t>(header + 8);
    const auto bytes = read<std::uint64_t>(header + 32);
    if ((flags & kAllocated) == 0 || name_offset >= names_bytes) continue;
    const auto* name = reinterpret_cast<const char*>(elf + names_at + name_offset);
    const std::string_view text(name,
                                strnlen(name, static_cast<std::size_t>(names_bytes - name_offset)));
    if (text.find(".nv.shared") == 0 || text.find(".nv.constant") == 0 ||
        text.find(".nv.local") == 0)
      continue;
    std::uint64_t& part = (flags & kExecutable) != 0 ? sum.code_bytes : sum.global_bytes;
    if ((flags & kExecutable) == 0 && type != kNoBits && text.find(".nv.global") != 0) continue;
    part = driver_model::saturating_add(part, bytes);
  }
  return sum;
}

Estimate larger(const Estimate& a, const Estimate& b) {
  return a.device_bytes() < b.device_bytes() ? b : a;
}

// A fat binary holds the same program for several architectures; one of them is loaded. Compressed
// entries count by their unpacked size, as code.
Estimate estimate_fat(const unsigned char* fat, std::size_t size) {
  Estimate most;
  if (!fits(0, 16, size)) return most;
  std::uint64_t at = read<std::uint16_t>(fat + 6);
  const std::uint64_t end = driver_model::saturating_add(at, read<std::uint64_t>(fat + 8));
  for (std::uint64_t i = 0; i < kMostEntries && fits(at, 64, size) && at < end; ++i) {
    const unsigned char* entry = fat + at;
    const auto kind = read<std::uint16_t>(entry);
    const auto header_bytes = read<std::uint32_t>(entry + 4);
    const auto bytes = read<std::uint64_t>(entry + 8);
    const auto unpacked_bytes = read<std::uint64_t>(entry + 56);
    if (header_bytes < 64 || !fits(at, header_bytes, size) || bytes > end - at) break;
    const unsigned char* payload = entry + header_bytes;
    const bool packed = unpacked_bytes != 0 && unpacked_bytes != bytes;
    if (packed) {
      most = larger(most, {.code_bytes = unpacked_bytes, .global_bytes = 0});
    } else if (kind == kElfEntry && fits(at + header_bytes, bytes, size)) {
      most = larger(most, estimate_elf(payload, static_cast<std::size_t>(bytes)));
    } else if (kind == kPtxEntry && fits(at + header_bytes, bytes, size)) {
      const auto* text = reinterpret_cast<const char*>(payload);
      most = larger(most, estimate_ptx({text, strnlen(text, static_cast<std::size_t>(bytes))}));
    }
    at += header_bytes + bytes;
  }
  return most;
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '.';
}

std::uint64_t element_bytes(std::string_view type) {
  std::uint64_t bits = 0;
  for (const char c : type) {
    if (c >= '0' && c <= '9') bits = bits * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return bits >= 8 && bits <= 128 ? bits / 8 : 1;
}

// One declaration after ".global", up to its ";" or "=": [.align N] [.attribute(...)] .TYPE
// name[extent][extent]
std::uint64_t declared_bytes(std::string_view declaration) {
  std::uint64_t element = 1;
  std::uint64_t count = 1;
  for (std::size_t i = 0; i < declaration.size();) {
    const char c = declaration[i];
    if (c == '[') {
      std::uint64_t extent = 0;
      for (++i; i < declaration.size() && declaration[i] != ']'; ++i) {
        const char digit = declaration[i];
        if (digit < '0' || digit > '9') continue;
        extent = driver_model::saturating_add(driver_model::saturating_multiply(extent, 10),
                                              static_cast<std::uint64_t>(digit - '0'));
      }
      count = driver_model::saturating_multiply(count, extent == 0 ? 1 : extent);
      continue;
    }
    if (!is_word(c)) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < declaration.size() && is_word(declaration[end])) ++end;
    const std::string_view word(declaration.data() + i, end - i);
    const bool is_type = word.size() > 2 && word[0] == '.' && word[2] >= '0' && word[2] <= '9';
    if (is_type) element = element_bytes(word);
    i = end;
  }
  return driver_model::saturating_multiply(element, count);
}

}  // namespace

Estimate estimate_ptx(std::string_view text) {
  // The assembler makes fewer bytes of code than the text has.
  Estimate sum{.code_bytes = text.size(), .global_bytes = 0};
  constexpr std::string_view kGlobal = ".global";
  const char* const begin = text.data();
  for (std::size_t at = text.find(kGlobal); at != std::string_view::npos;
       at = text.find(kGlobal, at + 1)) {
    // "ld.global" and "st.global" are instructions; a declaration stands alone and is followed by a
    // blank.
    const std::size_t after = at + kGlobal.size();
    const bool stands_alone =
        (at == 0 || is_blank(begin[at - 1])) && after < text.size() && is_blank(begin[after]);
    if (!stands_alone) continue;
    std::size_t end = after;
    while (end < text.size() && begin[end] != ';' && begin[end] != '=') ++end;
    sum.global_bytes = driver_model::saturating_add(sum.global_bytes,
                                                    declared_bytes({begin + after, end - after}));
  }
  return sum;
}

Estimate estimate(const void* image, std::size_t size) {
  if (image == nullptr || size < 16) return {};
  const auto* bytes = static_cast<const unsigned char*>(image);
  switch (read<std::uint32_t>(bytes)) {
    case kElfMagic:
      return estimate_elf(bytes, size);
    case kFatBinaryMagic:
      return estimate_fat(bytes, size);
    case kWrapperMagic: {
      // What nvcc links into a program: a pointer to the fat binary. In a file it means nothing.
      const auto* fat = size == SIZE_MAX ? read<const unsigned char*>(bytes + 8) : nullptr;
      return fat != nullptr && read<std::uint32_t>(fat) == kFatBinaryMagic
                 ? estimate_fat(fat, SIZE_MAX)
                 : Estimate{};
    }
    default:
      break;
  }
  const auto* text = static_cast<const char*>(image);
  return estimate_ptx({text, size == SIZE_MAX ? std::strlen(text) : strnlen(text, size)});
}

}  // namespace vgpu::module_image
