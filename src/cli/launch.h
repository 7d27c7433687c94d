// SPDX-License-Identifier: Apache-2.0
// Starts a tenant's program and stays with it. Two processes of ours:
//   front    the one that was called: its caller waits for it, signals come to it, it exits with
//   the program's status; keeper   its child: parent of the program and of all that the program
//   leaves behind (subreaper), watches that none of
//            them escapes, and ends the tenant when the last is gone, which may be after the front
//            has exited.
// All three are in the caller's process group, so that the terminal and its job control work as
// without us.
#pragma once

#include <string>
#include <vector>

#include "vgpu/survey/process_tree.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::cli {

struct Launch {
  std::string path;
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::string limiter;  // the library's path
  survey::GpuFiles gpu_files{""};
  shm::StateDir dir;
  std::string tenant_id;
  bool remove_at_end = false;  // the tenant was made by `vgpu run`
};

// Remembers what was open when we were called: the program gets those files, and we don't keep them
// open beside it (a reader of a pipe would wait for us). Call first in main.
void remember_inherited_files();

// Returns what to exit with: the program's status, 128+n, or 125 when the run was ended.
int run_to_end(const Launch& launch, shm::Tenant& tenant, survey::TenantHold hold);

}  // namespace vgpu::cli
