// SPDX-License-Identifier: Apache-2.0
#include "look.h"

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "admit.h"
#include "vgpu/client/daemon.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::cli {
namespace {

using client::Json;
using survey::Limiter, survey::Outsider, survey::Snapshot;

bool has_unknown(const Snapshot& snapshot) {
  for (const auto& [gpu, outsiders] : snapshot.outsiders) {
    for (const Outsider& outsider : outsiders) {
      if (outsider.limiter == Limiter::unknown) return true;
    }
  }
  return false;
}

// By pid, the program of each process that takes turns in a tenant of the daemon.
std::map<std::uint32_t, std::string> arbitrated_by(client::Daemon& daemon) {
  std::map<std::uint32_t, std::string> programs;
  for (const Json& process : daemon.get("/api/v2/processes")) {
    if (process.value("limiter", "") != "present" || !process.value("tenant", Json()).is_string())
      continue;
    const Json pid = process.value("host_pid", Json());
    const Json program = process.value("program", Json());
    if (pid.is_number_unsigned() && program.is_string())
      programs[pid.get<std::uint32_t>()] = program.get<std::string>();
  }
  return programs;
}

// The program too: a daemon in another PID namespace counts otherwise.
void note_arbitrated(Snapshot& snapshot, const std::map<std::uint32_t, std::string>& programs) {
  for (auto& [gpu, outsiders] : snapshot.outsiders) {
    for (Outsider& outsider : outsiders) {
      const auto found = programs.find(outsider.pid);
      if (outsider.limiter == Limiter::unknown && found != programs.end() &&
          found->second == outsider.program)
        outsider.limiter = Limiter::arbitrated;
    }
  }
}

}  // namespace

Snapshot look(bool simulated) {
  Snapshot snapshot = survey::take_snapshot(simulated);
  if (!has_unknown(snapshot)) return snapshot;
  try {
    auto daemon = daemon_of(survey::state_directory(false), simulated, false, survey::kExitFailed);
    if (daemon) note_arbitrated(snapshot, arbitrated_by(*daemon));
  } catch (const survey::Problem&) {  // it doesn't answer
  } catch (const std::exception&) {   // or not so that it can be understood
  }
  // Who stays unknown is said to be so.
  return snapshot;
}

}  // namespace vgpu::cli
