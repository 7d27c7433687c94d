// SPDX-License-Identifier: Apache-2.0
#include "tflops_quota.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "predecessor/gpu_capacity.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

std::optional<double> tflops_in(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      value <= 0)
    return std::nullopt;
  return value;
}

// "tflops_limit" in a request, "rule.tflops-limit" in the settings.
std::string spelled(const TflopsPlace& place, std::string name) {
  if (place.is_rule) return "rule." + name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string fault_of(const TflopsPlace& place, const char* setting, const std::string& text,
                     const char* percent, const std::string& beside) {
  if (text.empty()) return "";
  if (!tflops_in(text)) {
    return fmt::format("{}: \"{}\" is no number of TFLOPS above 0, as 60 or 31.5",
                       spelled(place, setting), survey::visible(text.substr(0, 60)));
  }
  if (beside.empty()) return "";
  return fmt::format("{} and {} say the same: one of them", spelled(place, setting),
                     spelled(place, percent));
}

[[noreturn]] void refuse_tflops(const TflopsPlace& place, const std::string& what) {
  throw survey::Problem(survey::kExitFailed, "VG1004",
                        place.rule.empty() ? what : fmt::format("rule {}: {}", place.rule, what));
}

// "GPU-a=6,GPU-b=40", or the one number that all have.
std::string percent_for(const TflopsPlace& place, const char* name, const std::string& text,
                        const std::vector<survey::Gpu>& gpus, TflopsFor form,
                        const GpuCapacity& capacity) {
  const std::string setting = spelled(place, name);
  std::string list;
  std::map<unsigned, std::string> models;
  for (const survey::Gpu& gpu : gpus) {
    try {
      const unsigned percent = capacity.percent_of(gpu.name, *tflops_in(text));
      models.emplace(percent, gpu.name);
      list += fmt::format("{}{}={}", list.empty() ? "" : ",", gpu.uuid_text(), percent);
    } catch (const CapacityError& error) {
      refuse_tflops(place, fmt::format("{}: GPU {}: {}", setting, gpu.nvml_index, error.what));
    }
  }
  if (models.empty())
    refuse_tflops(place, setting + ": there is no GPU that it could be a part of");
  if (form == TflopsFor::each_gpu) return list;
  if (models.size() > 1) {
    const auto& [some, one] = *models.begin();
    const auto& [most, other] = *models.rbegin();
    refuse_tflops(
        place,
        fmt::format("{}: {} TFLOPS are {} % of \"{}\" and {} % of \"{}\"; name the GPUs, or give "
                    "percent",
                    setting, text, some, survey::visible(one), most, survey::visible(other)));
  }
  return std::to_string(models.begin()->first);
}

}  // namespace

std::string fault_in(const TflopsQuota& wanted, const survey::QuotaFlags& flags,
                     const TflopsPlace& place) {
  std::string why = fault_of(place, "tflops", wanted.share, "compute", flags.compute);
  if (why.empty())
    why = fault_of(place, "tflops-limit", wanted.limit, "compute-limit", flags.compute_limit);
  if (why.empty() && !wanted.share.empty() && !wanted.limit.empty() &&
      *tflops_in(wanted.limit) < *tflops_in(wanted.share)) {
    why = fmt::format("{}: {} is less than the share of {}", spelled(place, "tflops-limit"),
                      wanted.limit, wanted.share);
  }
  return why;
}

void put_percent(const TflopsQuota& wanted, const std::vector<survey::Gpu>& gpus, TflopsFor form,
                 const GpuCapacity& capacity, const TflopsPlace& place, survey::QuotaFlags& flags) {
  if (const std::string why = fault_in(wanted, flags, place); !why.empty())
    refuse_tflops(place, why);
  if (!wanted.share.empty())
    flags.compute = percent_for(place, "tflops", wanted.share, gpus, form, capacity);
  if (!wanted.limit.empty())
    flags.compute_limit = percent_for(place, "tflops-limit", wanted.limit, gpus, form, capacity);
}

}  // namespace vgpu::hypervisor
