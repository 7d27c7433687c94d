// SPDX-License-Identifier: Apache-2.0
// What the daemon is told at its start, as plain values with their defaults: settings/ fills it in
// from flags, variables and the file. Nothing here is needed to start.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/http_options.h"
#include "predecessor/gpu_capacity.h"
#include "predecessor/pod_files_options.h"
#include "predecessor/usage_options.h"
#include "quota_rules.h"
#include "vgpu/admission/admission.h"
#include "vgpu/shm/node.h"

namespace vgpu::hypervisor {

enum class GuardPolicy : unsigned char {
  report,          // events and figures only
  stop_admitting,  // also nothing new is admitted to its GPUs while it is there
  signal,          // SIGTERM, once
  kill,            // SIGTERM, and after the grace time SIGKILL
};

// Who may have what.
struct AdmissionOptions {
  admission::Placement placement = admission::Placement::binpack;
  admission::Rules rules;
  std::optional<gid_t> trusted_group;  // whose members may do what root may
  std::vector<QuotaRule> quota_rules;
};

struct DaemonOptions {
  bool simulated = false;  // also by VGPU_SIMULATED
  std::string node_name;   // empty: the host's

  GuardPolicy unlimited_policy = GuardPolicy::report;
  GuardPolicy over_memory_policy = GuardPolicy::report;
  // How long something has to be so before the guard acts, and between SIGTERM and SIGKILL.
  std::chrono::milliseconds guard_grace{5'000};
  // Names of program files (the last part of /proc/PID/exe) that may use a GPU without the limiter;
  // root's of kAlwaysExempt may besides.
  std::vector<std::string> exempt_programs;
  // So much more than its limit a tenant may hold by the driver's count before it is said.
  std::uint64_t over_memory_slack_bytes = std::uint64_t{64} << 20;

  // State directories of other users, as patterns; and what holds while no daemon is there.
  std::vector<std::string> users_directories;
  shm::OnDaemonLoss on_loss = shm::OnDaemonLoss::hold;
  // Where quotas are kept out of the tenants' reach; empty: as quotas_folder() says.
  std::string quotas_folder;

  // What models of GPUs have in TFLOPS; never null.
  std::shared_ptr<const GpuCapacity> capacity = std::make_shared<const GpuCapacity>();

  AdmissionOptions admission;
  HttpOptions http;
  std::optional<UsageOptions> usage_log;     // none: it isn't written
  std::optional<PodFilesOptions> pod_files;  // none: none is kept
};

// What serves displays and monitors machines; without it nobody could log in to look.
inline constexpr const char* kAlwaysExempt[] = {"Xorg",
                                                "Xwayland",
                                                "gnome-shell",
                                                "kwin_wayland",
                                                "kwin_x11",
                                                "weston",
                                                "sddm",
                                                "gdm-x-session",
                                                "nvidia-persiste",
                                                "nvidia-smi",
                                                "nv-hostengine",
                                                "dcgm-exporter",
                                                "nvidia-cuda-mps-server",
                                                "nvtop"};

}  // namespace vgpu::hypervisor
