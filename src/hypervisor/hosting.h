// SPDX-License-Identifier: Apache-2.0
// The daemon as the arbiter's host: takes the leases over from whoever has them and keeps them, in
// all the directories that it looks after. When the daemon ends or dies, tenants' processes take
// them over as they do without a daemon, by the plans that it left.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "state_directories.h"
#include "vgpu/host/host.h"
#include "vgpu/shm/node.h"

namespace vgpu::hypervisor {

// Terms by tenant (shm::tenant_number) and GPU.
using TermsTable = std::map<std::pair<std::uint64_t, GpuUuid>, Quota>;

struct HostedDirectory {
  DirectoryPointer directory;
  std::shared_ptr<const TermsTable> terms;  // null: seats are believed
  shm::LossPlan plan;
};

class Hosting {
 public:
  Hosting();
  ~Hosting();
  Hosting(const Hosting&) = delete;
  Hosting& operator=(const Hosting&) = delete;

  // From now on. Any thread.
  void look_after(std::vector<HostedDirectory> directories, shm::OnDaemonLoss policy);

  // All that there is.
  bool hosts() const { return hosts_.load(std::memory_order_relaxed); }
  // How often a lease was taken; more often than there are directories: somebody else had one.
  std::uint64_t takings() const { return takings_.load(std::memory_order_relaxed); }
  void stop();

 private:
  struct Hosted;
  void run();
  void refresh();
  void wait(std::uint64_t until_ns, const std::vector<std::uint32_t>& bells);

  std::mutex wanted_mutex_;
  std::vector<HostedDirectory> wanted_;
  shm::OnDaemonLoss policy_ = shm::OnDaemonLoss::hold;

  host::Host host_;  // this and the next: the thread's
  std::vector<std::unique_ptr<Hosted>> hosted_;

  std::atomic<std::uint32_t> changed_{
      0};  // counts up with each look_after() that says something new
  std::atomic<bool> stopping_{false};
  std::atomic<bool> hosts_{false};
  std::atomic<std::uint64_t> takings_{0};
  std::thread thread_;
};

}  // namespace vgpu::hypervisor
