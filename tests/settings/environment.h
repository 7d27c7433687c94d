// SPDX-License-Identifier: Apache-2.0
// A made-up environment and a made-up machine for tests of settings: three GPUs, two of which begin
// alike.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/settings/settings.h"

namespace vgpu::settings {

class TableEnvironment final : public Environment {
 public:
  TableEnvironment() = default;
  TableEnvironment(std::initializer_list<std::pair<const std::string, std::string>> values)
      : values_(values) {}
  const char* get(const char* name) const override {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : found->second.c_str();
  }
  void set(std::string name, std::string value) { values_[std::move(name)] = std::move(value); }

 private:
  std::map<std::string, std::string> values_;
};

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

inline constexpr std::string_view kUuid0 = "GPU-3430f778-7a25-704c-9090-8b0bb2478114";
inline constexpr std::string_view kUuid1 = "GPU-3430aaaa-0000-1111-2222-333344445555";
inline constexpr std::string_view kUuid2 = "GPU-ab12cd34-0000-1111-2222-333344445555";

inline std::vector<GpuIdentity> machine() {
  return {{*GpuUuid::parse(kUuid0), 0, 80 * kGiB},
          {*GpuUuid::parse(kUuid1), 1, 80 * kGiB},
          {*GpuUuid::parse(kUuid2), 2, 24 * kGiB}};
}

struct Resolved {
  ResolvedQuotas quotas;
  Messages messages;
  std::string error() const {
    return messages.errors.empty() ? "" : std::string(messages.errors[0].view());
  }
  std::string notices() const {
    std::string all;
    for (const Line& line : messages.notices) all += std::string(line.view()) + "\n";
    return all;
  }
};

inline Resolved resolve(const Environment& environment, std::uint64_t minimum_bytes = 0) {
  Resolved resolved;
  const std::vector<GpuIdentity> gpus = machine();
  resolve_quotas(environment, gpus, minimum_bytes, resolved.quotas, resolved.messages);
  return resolved;
}

}  // namespace vgpu::settings
