// SPDX-License-Identifier: Apache-2.0
// Looks after the processes of one run: any that has the GPU open must have said to the tenant's
// state, before its main, that the limiter is in it. Used by the keeper only (one thread). Woken by
// the kernel when a GPU's file is opened (inotify), and by a slow beat besides; without inotify by
// a faster one. Anybody's opening wakes the keepers of all runs, so one that has looked a lot
// rests.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "vgpu/shm/tenant.h"
#include "vgpu/survey/process_tree.h"

namespace vgpu::cli {

struct Escape {
  pid_t pid = 0;
  std::string text;  // "prog --flag (pid 7) opened the GPU without the limiter: it is statically
                     // linked, ..."
};

class RunWatch {
 public:
  RunWatch(const shm::Tenant& tenant, std::string tenant_id, std::string limiter_file,
           survey::GpuFiles files);
  ~RunWatch();
  RunWatch(const RunWatch&) = delete;
  RunWatch& operator=(const RunWatch&) = delete;

  // Readable when a GPU's file was opened, and it is time to look; -1: nothing to wait for, which
  // is so where the kernel gives no such news, and during a rest.
  int descriptor() const { return is_resting() ? -1 : inotify_; }
  // Until look() has to be called, however quiet it is.
  int wait_ms() const;

  // Takes the news, looks at all descendants of this process. During a rest it does nothing.
  std::optional<Escape> look();

 private:
  bool is_resting() const;
  std::optional<Escape> look_at_all();
  std::optional<Escape> look_at(const survey::ProcessIdentity& identity);
  void take_news();

  const shm::Tenant& tenant_;
  std::string tenant_id_;
  std::string limiter_file_;  // its base name, as /proc/PID/maps ends
  survey::GpuFiles files_;
  int inotify_ = -1;
  std::uint64_t looked_ns_ = 0;
  std::uint64_t paid_until_ns_ = 0;               // it rests until then
  std::map<survey::ProcessIdentity, bool> fine_;  // seen with the limiter; forgotten when gone
};

}  // namespace vgpu::cli
