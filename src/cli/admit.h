// SPDX-License-Identifier: Apache-2.0
// How a run gets its tenant: from the daemon that looks after its state directory and its GPUs, or,
// where there is none, from itself. Refusals and their words are the same.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "options.h"
#include "vgpu/client/daemon.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::cli {

// The daemon to ask; nullopt: none looks after this directory, or none may be asked by this user.
// `simulated`: of the GPUs that are meant; nullopt: they don't matter. Throws Problem where one is
// there and doesn't answer: what it would say must not be passed over. VGPU_SOCKET that leads
// nowhere is said where `says_so`.
std::optional<client::Daemon> daemon_of(const shm::StateDir& dir, std::optional<bool> simulated,
                                        bool says_so, int exit_code);

// What `ask` gets; while the daemon is too busy to take requests, again and again for a while.
client::Json asked(const std::function<client::Json()>& ask);

// "90s", "10m"; nullopt: it can't be read.
std::optional<std::chrono::milliseconds> parse_time(const std::string& text);

// --gpus as a number; 0: not given. Throws Problem.
std::size_t gpu_count_of(const RunOptions& options);

struct AdmittedTenant {
  survey::NewTenant made;
  std::vector<std::string> notices;
};

// Waits where the options say so. Throws Problem, with nothing made.
AdmittedTenant admit(const RunOptions& options, const survey::PlannedTenant& planned,
                     const survey::Driver& driver, const shm::StateDir& dir);

}  // namespace vgpu::cli
