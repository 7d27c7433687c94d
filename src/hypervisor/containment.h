// SPDX-License-Identifier: Apache-2.0
// Is a process in a container? There it may have any user's number, root's too, without being that
// user of this machine, so who asks from a container is judged as the container, not as the user.
// What /proc says of it is the kernel's word and everybody's to read; nothing comes from the
// process itself.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::hypervisor {

struct Surroundings {
  std::size_t pid_namespaces = 0;       // that it has a pid in, from ours on inwards; 0: not known
  std::string user_map;                 // /proc/PID/uid_map: differs in another user namespace
  std::vector<std::string> containers;  // by its control groups (quota_rules.h), outermost first
  std::uint64_t pid_namespace = 0;      // inode; 0: not known
};

Surroundings surroundings_of(pid_t pid);

// Its PID or user namespace lies within ours, or its control group is a container's that isn't
// ours. One that nothing is known of is in a container, too. Pure.
bool is_contained(const Surroundings& its, const Surroundings& ours);

// From the text of a /proc/PID/status. Pure.
std::size_t pid_namespaces_in(std::string_view status);

// What tells its container from all others on this machine, short enough for a tenant's name: the
// beginning of the container's id where that isn't ours too, else its PID namespace
// ("ns4026532311"). Empty: neither can be told. Pure.
std::string container_name(const Surroundings& its, const Surroundings& ours);

// Of the process with that pid: as container_name(); none: it is in no container. Our own
// surroundings are read once.
std::optional<std::string> container_around(pid_t pid);

}  // namespace vgpu::hypervisor
