// SPDX-License-Identifier: Apache-2.0
// Building and refusing environments for run and exec.
#include "tenant_environment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

extern char** environ;

namespace vgpu::cli {

using survey::Installation, survey::kExitNotStarted, survey::Problem, survey::ProcessEnvironment;

namespace {

void set(std::vector<std::string>& environment, std::string_view name, std::string_view value) {
  std::erase_if(environment, [&](const std::string& entry) {
    return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
  });
  environment.push_back(fmt::format("{}={}", name, value));
}

std::string in_front(std::string_view first, const char* variable, char separator) {
  const char* before = std::getenv(variable);
  return before == nullptr || *before == '\0' ? std::string(first)
                                              : fmt::format("{}{}{}", first, separator, before);
}

// The user's own LD_PRELOAD stays, behind ours; ours once.
std::string preload_value(const std::string& limiter) {
  const char* before = std::getenv("LD_PRELOAD");
  std::string_view rest = before != nullptr ? before : "";
  std::string value = limiter;
  while (!rest.empty()) {
    const auto end = std::min(rest.find_first_of(" :"), rest.size());
    const std::string_view entry = rest.substr(0, end);
    if (!entry.empty() && entry != limiter) value += fmt::format(":{}", entry);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return value;
}

}  // namespace

std::vector<std::string> tenant_environment(const TenantEnvironment& wanted,
                                            const Installation& installation) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  set(environment, "VGPU_TENANT", wanted.tenant_id);
  set(environment, "VGPU_ACK", "1");
  set(environment, "LD_PRELOAD", preload_value(installation.limiter));
  if (!wanted.visible_devices.empty()) {
    set(environment, "CUDA_VISIBLE_DEVICES", wanted.visible_devices);
    // The tenant's GPUs stay numbered in this order when the program sets the other variable
    // itself.
    set(environment, "VGPU_GPUS", wanted.visible_devices);
  }
  if (wanted.simulated) {
    set(environment, "VGPU_SIMULATED", "1");
    set(environment, "LD_LIBRARY_PATH",
        in_front(installation.simulated_folder, "LD_LIBRARY_PATH", ':'));
    set(environment, "PATH", search_path(installation, true));
  }
  return environment;
}

std::string search_path(const Installation& installation, bool simulated) {
  const char* variable = std::getenv("PATH");
  const std::string path = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  return simulated ? installation.simulated_folder + ":" + path : path;
}

void refuse_inherited_settings() {
  const settings::HookSwitches hooks = settings::hook_switches(ProcessEnvironment());
  for (const auto& [name, on] :
       {std::pair{"ENABLE_CUDA_HOOKS", hooks.cuda}, std::pair{"ENABLE_NVML_HOOKS", hooks.nvml}}) {
    if (!on) {
      throw Problem(kExitNotStarted, "VG1006",
                    fmt::format("{}={} would switch the limit off, so nothing is started under one",
                                name, std::getenv(name)),
                    fmt::format("env -u {} vgpu ...", name));
    }
  }
  const char* tenant = std::getenv("VGPU_TENANT");
  if (tenant != nullptr && *tenant != '\0') {
    throw Problem(
        kExitNotStarted, "VG1007",
        fmt::format(
            "this is inside tenant {} already, and a tenant inside a tenant would pass its limit",
            tenant),
        "start the program directly: it belongs to that tenant");
  }
}

const std::string& required_limiter(const Installation& installation) {
  if (installation.limiter.empty()) {
    throw Problem(
        kExitNotStarted, "VG1031",
        fmt::format("libcuda_limiter.so is not found (looked at {})", installation.searched),
        "VGPU_LIBRARY=/path/to/libcuda_limiter.so vgpu ...");
  }
  if (installation.limiter.find_first_of(" :") != std::string::npos) {
    throw Problem(kExitNotStarted, "VG1032",
                  fmt::format("LD_PRELOAD can't hold the path {}: it has a blank or a colon",
                              installation.limiter),
                  "install vgpu in a folder without either");
  }
  return installation.limiter;
}

}  // namespace vgpu::cli
