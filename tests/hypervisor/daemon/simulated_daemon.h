// SPDX-License-Identifier: Apache-2.0
// The daemon inside the test, on the simulated GPU: an A10 (GPU 0) and an H200 (GPU 1).
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "daemon.h"
#include "tool.h"

namespace vgpu::cli_test {

inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// The simulated driver keeps its folder for as long as the process lives: one for all tests that
// run in it.
inline const std::string& simulated_folder() {
  static const struct Folder {
    std::string path;
    Folder() {
      std::string pattern = testing::TempDir() + "vgpu-hypervisor-XXXXXX";
      path = mkdtemp(pattern.data());
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  } folder;
  return folder.path;
}

class SimulatedDaemonTest : public ToolTest {
 protected:
  using State = hypervisor::NodeState;

  SimulatedDaemonTest() {
    set("VGPU_SIM_STATE", simulated_folder());
    setenv("VGPU_STATE_DIR", (folder() + "/state").c_str(), 1);
    setenv("VGPU_SIM_STATE", simulated_folder().c_str(), 1);
    setenv("VGPU_SIM_DEVICES", "a10,h200", 1);
    setenv("VGPU_SIMULATED", "1", 1);
    for (const char* name : {"nvml.faults", "nvml.mig", "nvml.mps", "nvml.xids"})
      std::filesystem::remove(simulated_folder() + "/" + name);
  }

  void begin(hypervisor::DaemonOptions options = {}) {
    daemon_ = std::make_unique<hypervisor::Daemon>(std::move(options));
  }
  void end_daemon() { daemon_.reset(); }
  hypervisor::Daemon& daemon() { return *daemon_; }
  hypervisor::StatePointer state() { return daemon_->state(); }

  // A moment of which that is true; the last one looked at when none came.
  hypervisor::StatePointer wait_for(const std::function<bool(const State&)>& is_true) {
    hypervisor::StatePointer now = daemon_->state();
    for (int tries = 0; tries < 600 && !is_true(*now); ++tries)
      now = daemon_->state_after(now->sequence, std::chrono::milliseconds(100));
    EXPECT_TRUE(is_true(*now)) << dump(*now);
    return now;
  }
  static std::string dump(const State& now) {
    std::string text;
    for (const auto& tenant : now.tenants)
      text += fmt::format("tenant {} {} processes\n", tenant.id, tenant.process_count);
    for (const auto& process : now.processes)
      text += fmt::format("process {} of {}\n", process.command_line, process.tenant);
    for (const auto& gpu : now.gpus)
      text += fmt::format("GPU {} {}\n", gpu.index, hypervisor::health_name(gpu.health));
    return text;
  }
  hypervisor::Event wait_for_event(hypervisor::EventKind kind) {
    std::uint64_t next = 0;
    for (int tries = 0; tries < 600; ++tries) {
      const auto batch = daemon_->events_after(next, 100, std::chrono::milliseconds(100));
      for (const auto& event : batch.events) {
        if (event.kind == kind) return event;
      }
      next = batch.next;
    }
    ADD_FAILURE() << "no event " << hypervisor::event_name(kind);
    return {};
  }
  static hypervisor::Asker self() { return {geteuid(), getpid(), "test"}; }

 private:
  std::unique_ptr<hypervisor::Daemon> daemon_;
};

}  // namespace vgpu::cli_test
