// SPDX-License-Identifier: Apache-2.0
// What keeping pods' files is told (pod_files.h).
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "token_supply.h"

namespace vgpu::hypervisor {

struct KeptPod {
  std::string name_space;
  std::string name;
  std::string tenant;         // its name
  std::optional<uid_t> user;  // whose the file is; none: the tenant's owner
};

struct PodFilesOptions {
  std::string base_path;
  SupplyTerms supply;
  std::vector<KeptPod> pods;
  std::string proc = "/proc";  // where the kernel shows processes

  const KeptPod* pod(std::string_view name_space, std::string_view name) const {
    const auto found = std::find_if(pods.begin(), pods.end(), [&](const KeptPod& one) {
      return one.name_space == name_space && one.name == name;
    });
    return found == pods.end() ? nullptr : &*found;
  }
};

}  // namespace vgpu::hypervisor
