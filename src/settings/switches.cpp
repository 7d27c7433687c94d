// SPDX-License-Identifier: Apache-2.0
// What isn't a quota: hooks on or off, what to do at an error, where to log. A value that can't be
// read falls back to the safe side here; check_syntax and resolve_quotas are who refuse it.
#include "vgpu/settings/text.h"

namespace vgpu::settings {
namespace {

enum class Switch { unset, off, on };

Switch read_switch(const Environment& environment, const char* name) {
  const std::string_view value = value_of(environment, name);
  if (value.empty()) return Switch::unset;
  std::uint64_t on = 0;
  Fault fault;
  if (!parse_value(Value::boolean, Piece{value, 0}, on, fault)) return Switch::unset;
  return on != 0 ? Switch::on : Switch::off;
}

}  // namespace

HookSwitches hook_switches(const Environment& environment) {
  HookSwitches switches;
  switches.cuda = read_switch(environment, "ENABLE_CUDA_HOOKS") != Switch::off;
  switches.nvml = read_switch(environment, "ENABLE_NVML_HOOKS") != Switch::off;
  return switches;
}

bool opens_on_error(const Environment& environment) {
  return same_word(value_of(environment, "VGPU_ON_ERROR"), "open");
}

LogSettings log_settings(const Environment& environment) {
  LogSettings log;
  Fault fault;
  if (const std::string_view own = value_of(environment, "VGPU_LOG"); !own.empty()) {
    return parse_log(own, log, fault) ? log : LogSettings{};
  }
  const std::string_view level = value_of(environment, "TF_LOG_LEVEL");
  const std::string_view path = value_of(environment, "TF_LOG_PATH");
  const Switch enabled = read_switch(environment, "TF_ENABLE_LOG");
  if (enabled == Switch::off || (enabled == Switch::unset && level.empty() && path.empty()))
    return log;
  std::uint64_t number = static_cast<std::uint64_t>(LogLevel::info);
  if (!level.empty() && !parse_value(Value::log_level, Piece{level, 0}, number, fault)) return log;
  log.level = static_cast<LogLevel>(number);
  log.path = path;
  if (log.path.truncated()) return LogSettings{};
  log.may_be_directory = !path.empty();
  return log;
}

}  // namespace vgpu::settings
