// SPDX-License-Identifier: Apache-2.0
// Any environment at all: lines NAME=VALUE. Whatever stands in them, either there is a printable
// reason or the quotas are ones that the limiter can keep.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/settings/settings.h"

namespace {

using namespace vgpu;
using namespace vgpu::settings;

void require(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "settings_fuzz: " << what << std::endl;
  std::abort();
}

class LinesEnvironment final : public Environment {
 public:
  explicit LinesEnvironment(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      const std::string_view line = text.substr(0, end);
      const std::size_t equals = line.find('=');
      if (equals != std::string_view::npos)
        values_.emplace(line.substr(0, equals), line.substr(equals + 1));
      text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
  }
  const char* get(const char* name) const override {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : found->second.c_str();
  }
  const std::map<std::string, std::string>& values() const { return values_; }

 private:
  std::map<std::string, std::string> values_;
};

void check_lines(const FixedVector<Line, 16>& lines) {
  for (const Line& line : lines) {
    require(!line.empty(), "a message without words");
    require(!line.truncated(), "a message that doesn't fit its line");
    for (const char c : line.view())
      require(c >= 0x20 && c < 0x7f, "a message that can't be printed");
  }
}

void check_quota(const Quota& quota) {
  require(quota.memory_limit_bytes == kNoLimit ||
              (quota.memory_limit_bytes >= 1 && quota.memory_limit_bytes >> 63 == 0),
          "a memory limit out of range");
  require(quota.compute_share_percent <= 100 && quota.compute_limit_percent <= 100,
          "a percentage over 100");
  require(quota.compute_limit_percent == 0 ||
              quota.compute_limit_percent >= quota.compute_share_percent,
          "a compute limit below the share");
  require(
      quota.policy != Policy::fixed || quota.compute_limit_percent == quota.compute_share_percent,
      "a fixed policy whose limit isn't the share");
  require(!quota.limits_memory() || quota.memory_source != Source::none,
          "a memory limit from nowhere");
  require(!quota.limits_compute() || quota.compute_source != Source::none,
          "a compute limit from nowhere");
}

void check_positions(const FixedVector<std::uint32_t, kMaxGpus>& positions, std::size_t gpus) {
  std::uint64_t seen = 0;
  for (const std::uint32_t position : positions) {
    require(position < gpus, "a GPU that isn't there");
    require((seen >> position & 1) == 0, "a GPU twice");
    seen |= std::uint64_t{1} << position;
  }
}

void check_value(const std::string& value) {
  std::uint64_t bytes = 0;
  std::uint8_t percent = 0;
  Line why;
  if (parse_size(value, bytes, why)) {
    std::uint64_t again = 0;
    require(parse_size(format_size(bytes).view(), again, why) && again == bytes,
            "a size that doesn't read back");
  } else {
    require(!why.empty(), "a size refused without a reason");
  }
  why.clear();
  if (parse_percent(value, percent, why)) {
    require(percent <= 100, "a percentage over 100");
  } else {
    require(!why.empty(), "a percentage refused without a reason");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const LinesEnvironment environment(std::string_view(reinterpret_cast<const char*>(data), size));
  const std::vector<GpuIdentity> gpus = {
      {*GpuUuid::parse("GPU-3430f778-7a25-704c-9090-8b0bb2478114"), 0, 0},
      {*GpuUuid::parse("GPU-3430aaaa-0000-1111-2222-333344445555"), 1, 0},
      {*GpuUuid::parse("GPU-ab12cd34-0000-1111-2222-333344445555"), 4, 0}};
  Messages messages;
  check_syntax(environment, messages);
  check_lines(messages.errors);
  check_lines(messages.notices);

  ResolvedQuotas quotas;
  Messages resolved;
  FixedVector<std::uint32_t, kMaxGpus> positions;
  resolve_quotas(environment, gpus, 1 << 20, quotas, resolved);
  resolve_gpu_set(environment, gpus, positions, resolved);
  check_lines(resolved.errors);
  check_lines(resolved.notices);
  require(messages.errors.empty() || !resolved.errors.empty(),
          "bad syntax that resolving lets pass");
  if (resolved.errors.empty()) {
    require(quotas.per_gpu.size() == gpus.size(), "a GPU without a quota");
    const bool tenant = any_limit_set(environment);
    for (const Quota& quota : quotas.per_gpu) {
      check_quota(quota);
      if (!tenant)
        require(!quota.limits_memory() && !quota.limits_compute(), "a limit of no tenant");
    }
    check_positions(positions, gpus.size());
  }
  const LogSettings log = log_settings(environment);
  require(!log.path.truncated(), "a log file with half a name");
  static_cast<void>(hook_switches(environment));
  static_cast<void>(opens_on_error(environment));

  std::vector<GpuUuid> uuids;
  for (const GpuIdentity& gpu : gpus) uuids.push_back(gpu.uuid);
  for (const auto& [name, value] : environment.values()) {
    check_value(value);
    visible_devices(value.c_str(), uuids, positions);
    check_positions(positions, uuids.size());
  }
  return 0;
}
