// SPDX-License-Identifier: Apache-2.0
// Looks after the processes of one run: any that has the GPU open must have said to the tenant's
// state, before its main, that the limiter is in it. Used by the keeper only (one thread). Woken by
// the kernel when a GPU's file is opened (inotify), and by a slow beat besides; without inotify by
// a faster one.
#pragma once

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

  // Readable when a GPU's file was opened; -1 where the kernel gives no such news.
  int descriptor() const { return inotify_; }
  int beat_ms() const { return inotify_ >= 0 ? kSlowBeatMs : kFastBeatMs; }

  // Takes the news, looks at all descendants of this process.
  std::optional<Escape> look();

 private:
  static constexpr int kSlowBeatMs = 1000;
  static constexpr int kFastBeatMs = 100;

  std::optional<Escape> look_at(const survey::ProcessIdentity& identity);
  void take_news();

  const shm::Tenant& tenant_;
  std::string tenant_id_;
  std::string limiter_file_;  // its base name, as /proc/PID/maps ends
  survey::GpuFiles files_;
  int inotify_ = -1;
  std::map<survey::ProcessIdentity, bool> fine_;  // seen with the limiter; forgotten when gone
};

}  // namespace vgpu::cli
