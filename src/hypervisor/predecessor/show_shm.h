// SPDX-License-Identifier: Apache-2.0
// What `hypervisor show-shm` says of a predecessor's file. Pure; the command is in show_shm.cpp.
#pragma once

#include <string>

#include "pod_reading.h"

namespace vgpu::hypervisor {

// Exit status of show-shm: what monitoring asks for.
enum class ShmStatus : int {
  healthy = 0,
  failed = 1,     // it couldn't be read: no permission, and the like
  usage = 2,      // as everywhere
  unhealthy = 3,  // limiters take it for abandoned: no heartbeat, an old one, one from the future
  missing = 4,    // there is no such file, or no such tenant
  damaged = 5,    // not such a file, or with values that can't be true
};

ShmStatus status_of(const PodReading& reading);
std::string health_text(const PodReading& reading, std::uint64_t now_s);
std::string pod_table(const PodReading& reading, const std::string& name, std::uint64_t now_s);
std::string pod_json(const PodReading& reading, const std::string& name, const std::string& path,
                     std::uint64_t now_s);

}  // namespace vgpu::hypervisor
