// SPDX-License-Identifier: Apache-2.0
#include "hosting.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>

#include "times.h"
#include "vgpu/host/host.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/futex.h"
#include "vgpu/shm/node.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kFileLookEveryNs = 100 * kMsNs;
constexpr std::uint64_t kUntilRetakenNs = 100 * kMsNs;
constexpr auto kUntilReopened = std::chrono::milliseconds(100);

std::string segment_path(const shm::StateDir& dir) {
  return std::string(dir.path.view()) + "/node.seats";
}

}  // namespace

Hosting::Hosting(const shm::StateDir& dir) : dir_(dir), thread_([this] { run(); }) {}

Hosting::~Hosting() { stop(); }

void Hosting::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Hosting::run() {
  prctl(PR_SET_NAME, "vgpu-arbiter");
  prctl(PR_SET_TIMERSLACK, 1'000UL);
  while (!stopping_) {
    serve();
    hosts_ = false;
    if (!stopping_) std::this_thread::sleep_for(kUntilReopened);
  }
}

void Hosting::serve() {
  shm::Node node;
  if (shm::Node::open(dir_, node) != shm::Status::ok) return;
  const std::string path = segment_path(dir_);
  const platform::FileIdentity file = platform::identity_of(path.c_str());
  host::Host host(node);
  std::uint64_t retake_ns = 0, look_ns = 0;
  while (!stopping_) {
    const std::uint64_t now_ns = platform::monotonic_ns();
    if (now_ns >= look_ns) {
      // Somebody has removed the state directory's files: what is mapped is nobody's any more.
      if (!(platform::identity_of(path.c_str()) == file)) break;
      look_ns = now_ns + kFileLookEveryNs;
    }
    if (!host.hosts() && now_ns >= retake_ns && host.replace(now_ns)) {
      hosts_ = true;
      ++takings_;
    }
    // Read before the step: what is said after it rings again.
    const std::uint32_t bell = node.doorbell().load(std::memory_order_acquire);
    std::uint64_t wake_ns = now_ns + kFileLookEveryNs;
    if (host.hosts()) {
      const std::uint64_t due_ns = host.step(now_ns);
      if (due_ns == 0) {
        hosts_ = false;
        retake_ns = now_ns + kUntilRetakenNs;
      } else {
        wake_ns = std::min(wake_ns, due_ns);
      }
    }
    platform::futex_wait(node.doorbell(), bell, wake_ns);
  }
  host.release();
}

}  // namespace vgpu::hypervisor
