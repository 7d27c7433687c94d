// SPDX-License-Identifier: Apache-2.0
// The daemon on the simulated GPU: inside the test, where its state is looked at, or as a program,
// where it is killed. Conditions are waited for; nothing depends on how fast they come.
#include "daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "simulated_daemon.h"
#include "tool.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/process.h"

namespace vgpu::cli_test {
namespace {

using hypervisor::DaemonOptions;
using hypervisor::Event;
using hypervisor::EventKind;
using hypervisor::GuardPolicy;
using hypervisor::NodeState;
using hypervisor::StatePointer;
using nlohmann::json;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class HypervisorTest : public SimulatedDaemonTest {
 protected:
  std::vector<EventKind> events() {
    std::vector<EventKind> kinds;
    for (const Event& event :
         daemon().events_after(0, 100'000, std::chrono::milliseconds(0)).events)
      kinds.push_back(event.kind);
    return kinds;
  }
  // One of the files that tell the simulated NVML what to say; whole, or not yet.
  static void stage(const std::string& name, const std::string& text) {
    const std::string path = simulated_folder() + "/" + name;
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
  }
  static void write_faults(const std::string& text) { stage("nvml.faults", text); }

  Running tenant(const std::string& name, std::vector<std::string> flags,
                 std::vector<std::string> words) {
    flags.insert(flags.begin(), {"run", "-q", "--gpu", "0", "--name", name});
    flags.insert(flags.end(), {"--", CLIENT});
    flags.insert(flags.end(), words.begin(), words.end());
    return start(flags);
  }
  // On the GPU without the limiter: CUDA's first, the H200.
  Running unlimited() {
    set("LD_LIBRARY_PATH", SIMULATED);
    Running running = start_program({CLIENT, "alloc=64", "hold"});
    unset("LD_LIBRARY_PATH");
    EXPECT_TRUE(running.wait_for("holding"));
    return running;
  }
};

// When the daemon looked while something was waited for, by its own clock.
class Looks {
 public:
  void note(const NodeState& now) {
    add(moments_, now.time_ns);
    if (now.processes_read_ns) add(readings_, *now.processes_read_ns);
  }
  std::size_t count() const { return std::min(moments_.size(), readings_.size()); }
  std::size_t readings_after(std::uint64_t time_ns) const {
    return static_cast<std::size_t>(
        std::count_if(readings_.begin(), readings_.end(), [&](auto at) { return at > time_ns; }));
  }
  // On a slow machine looks are far apart, now and then; that is how late things may be seen.
  std::uint64_t widest_ns() const { return widest(moments_) + widest(readings_); }
  // Machines aren't slow all the time: this is the daemon's own pace.
  std::uint64_t pace_ns() const { return std::max(narrowest(moments_), narrowest(readings_)); }

 private:
  using Times = std::vector<std::uint64_t>;
  static void add(Times& times, std::uint64_t time_ns) {
    if (times.empty() || times.back() != time_ns) times.push_back(time_ns);
  }
  static Times gaps(const Times& times) {
    Times gaps(times.size());
    std::adjacent_difference(times.begin(), times.end(), gaps.begin());
    if (!gaps.empty()) gaps.erase(gaps.begin());
    return gaps;
  }
  static std::uint64_t widest(const Times& times) {
    const Times all = gaps(times);
    return all.empty() ? 0 : *std::max_element(all.begin(), all.end());
  }
  static std::uint64_t narrowest(const Times& times) {
    const Times all = gaps(times);
    return all.empty() ? ~std::uint64_t{0} : *std::min_element(all.begin(), all.end());
  }
  Times moments_, readings_;
};
constexpr std::uint64_t kSecond = 1'000'000'000;

bool has_unlimited(const NodeState& now) { return now.unlimited_processes != 0; }

TEST_F(HypervisorTest, SeesTenantsAndTheirProcessesAndWhatTheDriverSaysOfThem) {
  begin();
  auto train = tenant("train", {"--memory", "4GiB", "--compute", "30"}, {"alloc=1000", "hold"});
  ASSERT_TRUE(train.wait_for("holding"));
  const StatePointer now = wait_for([](const NodeState& seen) {
    return seen.tenants.size() == 1 && seen.tenants[0].process_count == 1 &&
           seen.tenants[0].gpus[0].driver_bytes.value_or(0) > 0 && seen.gpus.size() == 2 &&
           seen.gpus[0].promised_percent == 30;
  });
  const auto& gpu = now->tenants[0].gpus[0];
  EXPECT_EQ(now->tenants[0].name, "train");
  EXPECT_EQ(gpu.quota.memory_limit_bytes, std::uint64_t{4} << 30);
  EXPECT_GE(gpu.charged_bytes, std::uint64_t{1000} << 20);
  EXPECT_GE(*gpu.driver_bytes, std::uint64_t{1000} << 20);
  EXPECT_LE(*gpu.driver_bytes, gpu.charged_bytes) << "the account errs upwards";
  ASSERT_EQ(now->processes.size(), 1u);
  EXPECT_THAT(now->processes[0].command_line, HasSubstr("alloc=1000"));
  EXPECT_EQ(now->processes[0].owner, geteuid());
  EXPECT_EQ(now->unlimited_processes, 0u);
  EXPECT_TRUE(now->hosts_arbiter);
  EXPECT_TRUE(now->gpus[0].sample.temperature_celsius) << "the simulated NVML says it";
  train.finish();
  wait_for([](const NodeState& seen) { return seen.tenants.empty() && seen.processes.empty(); });
  wait_for_event(EventKind::tenant_ended);
  EXPECT_THAT(events(), Contains(EventKind::process_joined));
  EXPECT_THAT(events(), Contains(EventKind::process_ended));
}

TEST_F(HypervisorTest, FindsAProcessWithoutTheLimiterAndSaysWhoseItIs) {
  begin();
  wait_for([](const NodeState& now) { return now.driver.available; });
  auto stray = unlimited();
  const StatePointer now = wait_for(has_unlimited);
  EXPECT_EQ(now->processes[0].host_pid, stray.pid());
  EXPECT_EQ(now->processes[0].owner, geteuid());
  const Event event = wait_for_event(EventKind::unlimited_found);
  EXPECT_THAT(event.text, HasSubstr("alloc=64"));
  EXPECT_EQ(event.subject, std::to_string(stray.pid()));
  EXPECT_EQ(kill(stray.pid(), 0), 0) << "reported, and nothing else";
  stray.finish();
  wait_for([](const NodeState& seen) { return seen.processes.empty(); });
  wait_for_event(EventKind::unlimited_gone);
}

TEST_F(HypervisorTest, FindsAnUnlimitedProcessWithinASecond) {
  begin();
  Looks looks;
  wait_for([&](const NodeState& now) {
    looks.note(now);
    return looks.count() > 10;
  });
  EXPECT_LE(looks.pace_ns(), kSecond / 2);
  auto stray = unlimited();
  const std::uint64_t is_on_it_ns = platform::realtime_ns();  // by now
  wait_for([&](const NodeState& now) {
    if (has_unlimited(now)) return true;
    looks.note(now);
    return false;
  });
  EXPECT_LE(looks.readings_after(is_on_it_ns), 1U) << "one was under way; the next has to find it";
  EXPECT_LE(wait_for_event(EventKind::unlimited_found).time_ns,
            is_on_it_ns + std::max(kSecond, looks.widest_ns()));
  stray.finish();
}

TEST_F(HypervisorTest, FindsAProcessThatOnlyTheListOfMpsHas) {
  auto stray = unlimited();
  stage("nvml.mps", fmt::format("{}\n", stray.pid()));
  begin();
  const StatePointer now = wait_for(has_unlimited);
  ASSERT_EQ(now->processes.size(), 1U);
  EXPECT_EQ(now->processes[0].host_pid, stray.pid());
  EXPECT_EQ(now->processes[0].gpus.size(), 1U) << "each GPU once";
  EXPECT_EQ(wait_for_event(EventKind::unlimited_found).subject, std::to_string(stray.pid()));
  EXPECT_THAT(vgpu({"ls"}).out, HasSubstr(std::to_string(stray.pid()))) << "and without a daemon";
  stray.finish();
}

TEST_F(HypervisorTest, KillsAnUnlimitedProcessWhereThatIsThePolicy) {
  DaemonOptions options;
  options.unlimited_policy = GuardPolicy::signal;
  options.guard_grace = std::chrono::milliseconds(100);
  begin(options);
  auto stray = unlimited();
  auto train = tenant("train", {"--memory", "4GiB"}, {"alloc=100", "hold"});
  ASSERT_TRUE(train.wait_for("holding"));
  EXPECT_THAT(wait_for_event(EventKind::guard_acted).text, HasSubstr("SIGTERM sent"));
  EXPECT_EQ(stray.finish().exit_code, -SIGTERM);
  EXPECT_EQ(train.finish().exit_code, 0) << "a tenant is left alone";
}

TEST_F(HypervisorTest, AdmitsNothingNewBesideAnUnlimitedProcessWhereThatIsThePolicy) {
  DaemonOptions options;
  options.unlimited_policy = GuardPolicy::stop_admitting;
  begin(options);
  wait_for([](const NodeState& now) { return now.driver.available; });
  hypervisor::CreateRequest request;
  request.name = "early";
  request.memory = "1GiB";
  ASSERT_TRUE(daemon().create(self(), request).ok());
  auto stray = unlimited();
  wait_for(has_unlimited);
  EXPECT_THAT(wait_for_event(EventKind::guard_acted).text,
              HasSubstr("nothing new is admitted while"));
  request.name = "late";
  const auto refused = daemon().create(self(), request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.refusal().rule, "gpu_closed");
  EXPECT_THAT(refused.refusal().what, HasSubstr("alloc=64"));
  EXPECT_TRUE(refused.refusal().waiting_helps);
  hypervisor::ChangeRequest change;
  change.memory = "2GiB";
  EXPECT_EQ(daemon().change(self(), "early", change).refusal().rule, "gpu_closed");
  change.memory = "900MiB";
  const auto less = daemon().change(self(), "early", change);
  EXPECT_TRUE(less.ok()) << (less.ok() ? "" : less.refusal().what);
  EXPECT_EQ(kill(stray.pid(), 0), 0) << "it is left alone";
  std::thread waits([&] {
    request.wait = hypervisor::Patience{};
    EXPECT_TRUE(daemon().create(self(), request).ok()) << "served when it has gone";
  });
  wait_for([](const NodeState& now) { return now.waiting == 1; });
  stray.finish();
  waits.join();
}

TEST_F(HypervisorTest, AnExemptProgramIsNobodysBusiness) {
  DaemonOptions options;
  options.unlimited_policy = GuardPolicy::kill;
  options.guard_grace = std::chrono::milliseconds(0);
  options.exempt_programs = {"gpu_client"};
  begin(options);
  auto stray = unlimited();
  const StatePointer now = wait_for([](const NodeState& seen) { return !seen.processes.empty(); });
  EXPECT_TRUE(now->processes[0].exempt);
  (void)wait_for([&](const NodeState& seen) { return seen.sequence > now->sequence + 10; });
  EXPECT_THAT(events(), Not(Contains(EventKind::unlimited_found)));
  EXPECT_EQ(stray.finish().exit_code, 0);
}

TEST_F(HypervisorTest, ChangesReachRunningTenantsAndRefusalsNameTheRule) {
  begin();
  auto a = tenant("a", {"--memory", "4GiB", "--compute", "30"}, {"alloc=1000", "hold"});
  auto b = tenant("b", {"--memory", "4GiB", "--compute", "50"}, {"hold"});
  ASSERT_TRUE(a.wait_for("holding"));
  wait_for([](const NodeState& now) { return now.tenants.size() == 2; });
  hypervisor::ChangeRequest more;
  more.memory = "6GiB";
  more.compute = "40";
  const auto changed = daemon().change(self(), "a", more);
  ASSERT_TRUE(changed.ok()) << changed.refusal().what;
  EXPECT_EQ(changed.value().gpus.at(0).after.compute_share_percent, 40);
  const json listed = json::parse(vgpu({"ls", "--json"}).out);
  EXPECT_THAT(listed.dump(), HasSubstr("6442450944"));
  wait_for_event(EventKind::quota_changed);

  hypervisor::ChangeRequest too_much;
  too_much.compute = "60";
  const auto refused = daemon().change(self(), "a", too_much);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.refusal().rule, "share_room");
  EXPECT_EQ(refused.refusal().room.at(0).share_percent, 50u) << "beside b's half";

  hypervisor::ChangeRequest too_small;
  too_small.memory = "1GiB";
  EXPECT_EQ(daemon().change(self(), "a", too_small).refusal().rule, "memory_in_use");
  hypervisor::ChangeRequest nonsense;
  nonsense.memory = "much";
  EXPECT_EQ(daemon().change(self(), "a", nonsense).refusal().kind,
            hypervisor::RefusalKind::bad_request);
  EXPECT_EQ(daemon().change(self(), "nobody", more).refusal().kind,
            hypervisor::RefusalKind::not_found);
  const auto stranger = daemon().change({geteuid() + 1, std::nullopt, "test"}, "a", more);
  EXPECT_EQ(stranger.refusal().kind, geteuid() + 1 == 0 ? hypervisor::RefusalKind::bad_request
                                                        : hypervisor::RefusalKind::forbidden);
}

TEST_F(HypervisorTest, ATenantIsMadeJoinedRenamedAndEnded) {
  begin();
  wait_for([](const NodeState& now) { return now.driver.available; });
  hypervisor::CreateRequest request;
  request.name = "serve";
  request.gpus = "0";
  request.memory = "2GiB";
  request.compute = "20";
  const auto created = daemon().create(self(), request);
  ASSERT_TRUE(created.ok()) << created.refusal().what;
  EXPECT_EQ(daemon().create(self(), request).refusal().rule, "name_taken");
  const StatePointer now = wait_for([](const NodeState& seen) { return seen.tenants.size() == 1; });
  EXPECT_TRUE(now->tenants[0].made_by_daemon);
  EXPECT_EQ(now->tenants[0].gpus[0].quota.memory_source, Source::daemon);

  auto inside = start({"exec", "-q", "serve", "--", CLIENT, "fill=256", "hold"});
  ASSERT_TRUE(inside.wait_for("holding"));
  wait_for([](const NodeState& seen) { return seen.tenants.at(0).process_count == 1; });
  EXPECT_THAT(wait_for_event(EventKind::memory_refused).text, HasSubstr("2 GiB"));
  EXPECT_EQ(daemon().end(self(), "serve", {}).refusal().rule, "has_processes");

  const auto renamed = daemon().rename(self(), "serve", "chat");
  ASSERT_TRUE(renamed.ok()) << renamed.refusal().what;
  EXPECT_THAT(vgpu({"ls"}).out, HasSubstr("chat"));
  EXPECT_EQ(daemon().rename(self(), "chat", "no/name").refusal().rule, "name");

  const auto ended = daemon().end(self(), "chat", {.with_processes = true});
  ASSERT_TRUE(ended.ok()) << ended.refusal().what;
  EXPECT_EQ(ended.value().processes_signalled, 1u);
  wait_for([](const NodeState& seen) { return seen.tenants.empty(); });
  EXPECT_NE(inside.finish().exit_code, 0);
}

TEST_F(HypervisorTest, WhatItMadeOutlivesItAndPassesToTheNext) {
  begin();
  wait_for([](const NodeState& now) { return now.driver.available; });
  hypervisor::CreateRequest request;
  request.name = "serve";
  ASSERT_TRUE(daemon().create(self(), request).ok());
  end_daemon();
  begin();
  (void)wait_for([](const NodeState& now) { return now.sequence > 2; });
  vgpu({"ls"});  // takes away what nobody keeps
  const StatePointer now = wait_for([](const NodeState& seen) { return seen.sequence > 40; });
  ASSERT_EQ(now->tenants.size(), 1u);
  EXPECT_TRUE(now->tenants[0].made_by_daemon);
  ASSERT_TRUE(daemon().end(self(), "serve", {}).ok());
  wait_for([](const NodeState& seen) { return seen.tenants.empty(); });
}

TEST_F(HypervisorTest, AStateDirectoryHasOneDaemon) {
  begin();
  const Result second = start_program({DAEMON, "daemon"}).finish();
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("VG1061"));
}

TEST_F(HypervisorTest, AGpuIsLostAndComesBackAndItsErrorsArePassedOn) {
  begin();
  wait_for([](const NodeState& now) { return now.gpus.size() == 2; });
  write_faults("1 error=15\n");
  const StatePointer lost = wait_for(
      [](const NodeState& now) { return now.gpus[1].health == hypervisor::GpuHealth::lost; });
  EXPECT_EQ(lost->gpus[0].health, hypervisor::GpuHealth::ok);
  EXPECT_TRUE(lost->gpus[1].unhealthy_since_ns);
  EXPECT_FALSE(lost->gpus[1].sample.busy_percent) << "old figures aren't shown as new ones";
  wait_for_event(EventKind::gpu_lost);
  write_faults("");
  wait_for([](const NodeState& now) {
    return now.gpus.size() == 2 && now.gpus[1].health == hypervisor::GpuHealth::ok;
  });
  wait_for_event(EventKind::gpu_back);
  std::ofstream(simulated_folder() + "/nvml.xids", std::ios::app) << "0 79\n";
  EXPECT_THAT(wait_for_event(EventKind::xid_error).text, HasSubstr("XID 79"));
  const StatePointer now =
      wait_for([](const NodeState& seen) { return seen.gpus[0].last_xid == 79u; });
  EXPECT_EQ(now->gpus[0].xid_counts.at(79), 1u);
}

TEST_F(HypervisorTest, WhatIsReadAfterAChangeKnowsOfIt) {
  begin();
  wait_for([](const NodeState& now) { return now.gpus.size() == 2; });
  int in_time = 0;
  for (int round = 0; round < 20; ++round) {
    hypervisor::CreateRequest request;
    request.name = "changed";
    request.gpus = "0";
    const auto made = daemon().create(self(), request);
    ASSERT_TRUE(made.ok()) << made.refusal().what;
    const auto is_there = [&](bool expected) {
      const auto began = std::chrono::steady_clock::now();
      const bool there = daemon().state_with_changes()->tenant(made.value().id) != nullptr;
      // A look may take longer than is waited for.
      const bool is_late =
          std::chrono::steady_clock::now() - began >= std::chrono::milliseconds(250);
      EXPECT_TRUE(there == expected || is_late);
      in_time += is_late ? 0 : 1;
    };
    is_there(true);
    ASSERT_TRUE(daemon().end(self(), made.value().id, {}).ok());
    is_there(false);
  }
  EXPECT_GT(in_time, 0) << "nothing was looked at";
}

TEST_F(HypervisorTest, WhatHoldsClocksBackIsPassedOn) {
  begin();
  wait_for([](const NodeState& now) { return now.gpus.size() == 2; });
  write_faults("1 clocks=0x45\n");  // idle, which holds nothing back, and two that do
  const hypervisor::Event event = wait_for_event(EventKind::throttled);
  EXPECT_THAT(event.text, HasSubstr("clocks are held back: software_power_cap, "
                                    "hardware_thermal_slowdown"));
  // The event comes a moment before the state that has it.
  const StatePointer now = wait_for([](const NodeState& seen) {
    return seen.gpus.size() == 2 && seen.gpus[1].sample.throttle_reasons == 0x45u;
  });
  EXPECT_EQ(event.subject, now->gpus[1].uuid_text());
  EXPECT_EQ(now->gpus[0].sample.throttle_reasons, 0u);
}

TEST_F(HypervisorTest, ListsMigDevicesAndSaysWhatIsEnforcedOnThem) {
  stage("nvml.mig", "1 1g.18gb 2\n");
  begin();
  const StatePointer now = wait_for(
      [](const NodeState& seen) { return seen.gpus.size() == 2 && seen.gpus[1].mig_enabled; });
  EXPECT_FALSE(now->gpus[0].mig_enabled);
  const auto& devices = now->gpus[1].mig_devices;
  ASSERT_EQ(devices.size(), 2U);
  EXPECT_EQ(devices[0].name, now->gpus[1].name + " MIG 1g.18gb");
  EXPECT_THAT(devices[0].uuid, testing::StartsWith("MIG-"));
  EXPECT_NE(devices[0].uuid, devices[1].uuid);
  EXPECT_EQ(devices[1].gpu_instance, 1U);
  EXPECT_EQ(devices[1].compute_instance, 0U);
  EXPECT_EQ(devices[1].total_bytes, 18 * kGiB);
  EXPECT_FALSE(now->gpus[1].sample.busy_percent) << "NVML doesn't say it there";

  const auto note = HasSubstr("GPU 1: MIG mode, 2 MIG devices: quotas are of the whole GPU");
  hypervisor::CreateRequest request;
  request.gpus = "1";
  const auto on_it = daemon().create(self(), request);
  ASSERT_TRUE(on_it.ok()) << on_it.refusal().what;
  EXPECT_THAT(on_it.value().notices, testing::ElementsAre(note));
  request.gpus = "0";
  const auto beside = daemon().create(self(), request);
  ASSERT_TRUE(beside.ok()) << beside.refusal().what;
  EXPECT_THAT(beside.value().notices, testing::IsEmpty());
  EXPECT_THAT(vgpu({"run", "--gpu", "1", "--", CLIENT, "info"}).err, note)
      << "and without a daemon";
  EXPECT_THAT(vgpu({"doctor"}).out,
              HasSubstr("1 is in MIG mode, 2 MIG devices: quotas are of the whole GPU"));
  EXPECT_THAT(vgpu({"top", "--once"}).out,
              HasSubstr("MIG mode, 2 MIG devices; quotas are of the whole GPU"));
}

TEST_F(HypervisorTest, AProgramOnAMigDeviceIsChargedToItsTenantOnTheGpu) {
  stage("nvml.mig", "1 1g.18gb 2\n");
  begin();
  const StatePointer listed = wait_for(
      [](const NodeState& seen) { return seen.gpus.size() == 2 && seen.gpus[1].mig_enabled; });
  ASSERT_EQ(listed->gpus[1].mig_devices.size(), 2U);
  // A tenant of all GPUs, with a program on each of the two devices: its limit is for both.
  std::string script = "exec 3<&0; ";
  for (const auto& device : listed->gpus[1].mig_devices)
    script += fmt::format("CUDA_VISIBLE_DEVICES={} {} alloc=1000 hold <&3 & ", device.uuid, CLIENT);
  auto both = start({"run", "-q", "--name", "both", "--memory", "1=4GiB", "--", "/bin/sh", "-c",
                     script + "wait"});
  const StatePointer now = wait_for([](const NodeState& seen) {
    return seen.tenants.size() == 1 && seen.tenants[0].gpus.size() == 2 &&
           seen.tenants[0].gpus[1].charged_bytes >= std::uint64_t{2000} << 20;
  });
  EXPECT_EQ(now->tenants.at(0).gpus.at(0).charged_bytes, 0U);
  both.close_input();
  EXPECT_EQ(both.finish().exit_code, 0);
  const std::string fill = fmt::format("CUDA_VISIBLE_DEVICES={} exec {} alloc=5000",
                                       listed->gpus[1].mig_devices[1].uuid, CLIENT);
  EXPECT_NE(vgpu({"run", "-q", "--memory", "1=4GiB", "--", "/bin/sh", "-c", fill}).exit_code, 0);
  const std::string in_part = fmt::format("CUDA_VISIBLE_DEVICES={} exec {} info",
                                          listed->gpus[1].mig_devices[1].uuid, CLIENT);
  EXPECT_NE(vgpu({"run", "-q", "--gpu", "1", "--", "/bin/sh", "-c", in_part}).exit_code, 0)
      << "a tenant of some GPUs can't choose";
}

TEST_F(HypervisorTest, OtherErrorsMakeAGpuUnreadableAndNothingElse) {
  begin();
  wait_for([](const NodeState& now) { return now.gpus.size() == 2; });
  write_faults("0 error=999\n");
  wait_for(
      [](const NodeState& now) { return now.gpus[0].health == hypervisor::GpuHealth::unreadable; });
  write_faults("");
  wait_for([](const NodeState& now) { return now.gpus[0].health == hypervisor::GpuHealth::ok; });
}

TEST_F(HypervisorTest, NvmlThatHangsHoldsNothingElseUp) {
  begin();
  wait_for([](const NodeState& now) { return now.gpus.size() == 2; });
  write_faults("0 slow=4000\n");
  const StatePointer hung = wait_for(
      [](const NodeState& now) { return now.gpus[0].health == hypervisor::GpuHealth::unreadable; });
  EXPECT_THAT(hung->notes, Contains(HasSubstr("NVML doesn't answer")));
  // With a driver that doesn't answer: what it said before is enough.
  const auto created = daemon().create(self(), {});
  ASSERT_TRUE(created.ok()) << created.refusal().what;
  wait_for([](const NodeState& now) { return !now.tenants.empty(); });
  std::filesystem::remove(simulated_folder() + "/nvml.faults");
}

TEST_F(HypervisorTest, ATenantOverItsLimitByTheDriversCountIsFound) {
  begin();
  auto train = tenant("train", {"--memory", "4GiB"}, {"alloc=2000", "hold"});
  ASSERT_TRUE(train.wait_for("holding"));
  wait_for([](const NodeState& now) {
    return !now.tenants.empty() && now.tenants[0].gpus[0].driver_bytes.value_or(0) > 0;
  });
  // A limit below what is held: as if it had come by it past the ledger.
  shm::Tenant segment;
  const shm::StateDir dir = survey::state_directory(true);
  ASSERT_EQ(shm::Tenant::open(dir, state()->tenants[0].id, segment), shm::Status::ok);
  Quota quota = segment.quota(0);
  quota.memory_limit_bytes = std::uint64_t{1} << 30;
  Looks looks;
  const std::uint64_t since_ns = platform::realtime_ns();
  ASSERT_EQ(segment.set_quota(0, quota), shm::Status::ok);
  wait_for([&](const NodeState& now) {
    looks.note(now);
    const auto told = events();
    return std::find(told.begin(), told.end(), EventKind::over_memory) != told.end();
  });
  const Event event = wait_for_event(EventKind::over_memory);
  // It takes two readings of the driver, and is told at the look after them.
  EXPECT_LE(event.time_ns, since_ns + std::max(kSecond, looks.widest_ns()) + looks.widest_ns());
  EXPECT_THAT(event.text, HasSubstr("1 GiB"));
  EXPECT_THAT(event.text, HasSubstr("alloc=2000"));
  quota.memory_limit_bytes = std::uint64_t{4} << 30;
  ASSERT_EQ(segment.set_quota(0, quota), shm::Status::ok);
  wait_for_event(EventKind::within_memory);
}

TEST_F(HypervisorTest, LivesOnWhenATenantCutsItsFileOrFillsItWithGarbage) {
  const std::string command = fmt::format("exec {} daemon 2>&1", DAEMON);
  auto daemon = start_program({"/bin/sh", "-c", command});
  auto train = tenant("train", {"--memory", "4GiB"}, {"alloc=100", "hold"});
  auto other = tenant("other", {"--memory", "4GiB"}, {"alloc=100", "hold"});
  ASSERT_TRUE(train.wait_for("holding"));
  ASSERT_TRUE(other.wait_for("holding"));
  ASSERT_TRUE(daemon.wait_for("alloc=100"));
  std::string cut, garbage;
  for (const auto& entry : std::filesystem::directory_iterator(folder() + "/state")) {
    const std::string name = entry.path().filename();
    if (name.starts_with("train") && name.ends_with(".tenant")) cut = entry.path();
    if (name.starts_with("other") && name.ends_with(".tenant")) garbage = entry.path();
  }
  // The tenants' own processes would fall over their own file. Whoever ends may remove it first.
  const platform::File to_cut(open(cut.c_str(), O_RDWR | O_CLOEXEC));
  train.send(SIGKILL);
  EXPECT_EQ(ftruncate(to_cut.fd(), 0), 0);
  {
    std::fstream file(garbage, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(8);
    file << std::string(60'000, '\xff');
  }
  auto fresh = tenant("fresh", {"--memory", "4GiB"}, {"alloc=100", "hold"});
  ASSERT_TRUE(fresh.wait_for("holding"));
  EXPECT_TRUE(daemon.wait_for("tenant fresh began"));
  fresh.finish();
  EXPECT_TRUE(daemon.wait_for("tenant fresh ended"));
  daemon.send(SIGTERM);
  const Result result = daemon.finish();
  EXPECT_EQ(result.exit_code, 0) << result.out;
}

TEST_F(HypervisorTest, TellsTheServiceManagerAndReadsItsSettingsAgain) {
  const std::string path = folder() + "/notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  const int file = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(file, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const timeval most{60, 0};
  setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
  const auto heard = [&](const std::string& wanted) {
    std::string message(256, '\0');
    for (ssize_t size = 0; (size = recv(file, message.data(), message.size(), 0)) > 0;) {
      if (message.substr(0, static_cast<std::size_t>(size)) == wanted) return true;
    }
    return false;
  };
  set("NOTIFY_SOCKET", path);
  set("WATCHDOG_USEC", "300000");
  const std::string command = fmt::format("exec {} daemon 2>&1", DAEMON);
  auto daemon = start_program({"/bin/sh", "-c", command});
  EXPECT_TRUE(heard("READY=1"));
  EXPECT_TRUE(heard("WATCHDOG=1"));
  daemon.send(SIGHUP);
  EXPECT_TRUE(daemon.wait_for("settings_reloaded"));
  daemon.send(SIGTERM);
  EXPECT_TRUE(heard("STOPPING=1"));
  EXPECT_EQ(daemon.finish().exit_code, 0);
  close(file);
}

TEST_F(HypervisorTest, WaitsForADriverThatIsNotThere) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "a driver is here";
  unset("VGPU_SIMULATED");
  const std::string command = fmt::format("exec {} daemon 2>&1", DAEMON);
  auto daemon = start_program({"/bin/sh", "-c", command});
  EXPECT_TRUE(daemon.wait_for("it is waited for"));
  daemon.send(SIGTERM);
  const Result result = daemon.finish();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("no NVIDIA driver here"));
}

// Two tenants that want the whole GPU; the daemon is killed and replaced meanwhile.
class AloneDaemonLossTest : public HypervisorTest {
 protected:
  AloneDaemonLossTest() : meeting_(folder() + "/meeting") {
    std::filesystem::create_directory(meeting_);
  }
  Running busy_tenant(const std::string& name, const std::string& share) {
    names_.push_back(name);
    return start({"run",       "-q",      "--gpu",        "1",      "--compute",   share,
                  "--name",    name,      "--",           WORKLOAD, "--mode",      "queued",
                  "--steps",   "1000000", "--kernel-us",  "1000",   "--window-ms", "50",
                  "--seconds", "300",     "--rendezvous", meeting_, "--name",      name});
  }
  void wait_for_file(const std::string& name) const {
    for (int tries = 0; !std::filesystem::exists(meeting_ + "/" + name); ++tries) {
      ASSERT_LT(tries, 30'000) << name << " never came";
      usleep(1'000);
    }
  }
  void go() {
    for (const auto& name : names_) wait_for_file(name + ".0.ready");
    start_ns_ = now_ns() + 100'000'000;
    std::ofstream(meeting_ + "/go.new") << start_ns_;
    std::filesystem::rename(meeting_ + "/go.new", meeting_ + "/go");
  }
  // The window that it is in the tenants' count.
  std::size_t window_now() const {
    return static_cast<std::size_t>(std::max(0LL, now_ns() - start_ns_) / kWindowNs);
  }
  void wait_for_window(std::size_t window) const {
    while (window_now() < window) usleep(5'000);
  }
  // Until now: they are told to stop.
  std::vector<std::vector<double>> work() const {
    std::ofstream(meeting_ + "/stop");
    std::vector<std::vector<double>> all;
    for (const auto& name : names_) {
      wait_for_file(name + ".0.json");
      std::ifstream file(meeting_ + "/" + name + ".0.json");
      all.push_back(json::parse(file)["work"].get<std::vector<double>>());
    }
    return all;
  }
  static long long now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  }

 private:
  std::string meeting_;
  std::vector<std::string> names_;
  static constexpr long long kWindowNs = 50'000'000;
  long long start_ns_ = 0;
};

TEST_F(AloneDaemonLossTest, SharesHoldWhenTheDaemonIsKilledAndReplaced) {
  // In windows: how long each host is looked at, and what its beginning isn't counted for.
  constexpr std::size_t kPhase = 36, kBeginning = 4;
  auto first = start_program({DAEMON, "daemon"});
  ASSERT_TRUE(first.wait_for_message("hosting_taken"));
  auto small = busy_tenant("small", "30");
  auto large = busy_tenant("large", "70");
  go();
  wait_for_window(kBeginning + kPhase);
  const std::size_t killed_in = window_now();
  first.send(SIGKILL);
  EXPECT_EQ(first.finish().exit_code, -SIGKILL);
  const std::size_t alone_from = window_now() + 1 + kBeginning;
  wait_for_window(alone_from + kPhase);  // they host themselves
  const std::size_t alone_until = window_now();
  auto second = start_program({DAEMON, "daemon"});
  ASSERT_TRUE(second.wait_for_message("hosting_taken"));
  const std::size_t replaced_from = window_now() + 1 + kBeginning;
  const std::size_t replaced_until = replaced_from + kPhase;
  wait_for_window(replaced_until + kBeginning);  // what was counted then is known now
  const auto all = work();
  second.send(SIGTERM);
  const Result replaced = second.finish();
  EXPECT_EQ(replaced.exit_code, 0);
  EXPECT_THAT(replaced.err, HasSubstr("tenant small was here already"));
  const auto part = [&](std::size_t from, std::size_t to) {
    double one = 0, other = 0;
    for (std::size_t i = from; i < to; ++i) {
      one += all[0].at(i);
      other += all[1].at(i);
    }
    return 100 * one / (one + other);
  };
  EXPECT_NEAR(part(kBeginning, killed_in), 30, 6) << "under the first daemon";
  EXPECT_NEAR(part(alone_from, alone_until), 30, 6) << "without one";
  EXPECT_NEAR(part(replaced_from, replaced_until), 30, 6) << "under the second";
}

// But for the simulated GPU's: it keeps each file of slots that it has ever looked into.
std::size_t open_files() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto file = std::filesystem::read_symlink(entry.path(), gone).filename().string();
    count += !gone && !file.starts_with("slots.") ? 1 : 0;
  }
  return count;
}

double cpu_seconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

using AloneManyTenantsTest = HypervisorTest;

TEST_F(AloneManyTenantsTest, FiftyTenantsOfFourProcessesAreCountedAndCostLittle) {
  constexpr std::size_t kTenants = 50, kEach = 4;
  begin();
  wait_for([](const NodeState& now) { return now.driver.available && now.sequence > 10; });
  std::vector<Running> tenants;
  tenants.reserve(kTenants);
  const std::size_t files = open_files();
  for (std::size_t i = 0; i < kTenants; ++i) {
    std::string script;
    for (std::size_t each = 0; each < kEach; ++each)
      script += fmt::format("{} alloc=8 hold <&3 & ", CLIENT);
    tenants.push_back(
        start({"run", "-q", "--gpu", "1", "--memory", "2600MiB", "--name", fmt::format("t{}", i),
               "--", "/bin/sh", "-c", "exec 3<&0; " + script + "wait"}));
  }
  const auto all_there = [&](const NodeState& now) {
    std::size_t processes = 0;
    for (const auto& tenant : now.tenants) processes += tenant.process_count;
    return now.tenants.size() == kTenants && processes == kTenants * kEach;
  };
  StatePointer now = wait_for(all_there);
  for (const auto& tenant : now->tenants) EXPECT_EQ(tenant.process_count, kEach) << tenant.name;
  EXPECT_EQ(now->unlimited_processes, 0u);
  // A look costs what it costs, however long it takes on a busy machine.
  const double cpu_before = cpu_seconds();
  const std::uint64_t sequence = now->sequence, from_ns = now->monotonic_ns;
  now = wait_for([&](const NodeState& seen) { return seen.sequence >= sequence + 50; });
  const double seconds = static_cast<double>(now->monotonic_ns - from_ns) / 1e9;
  const double percent = 100 * (cpu_seconds() - cpu_before) / seconds;
  RecordProperty("cpu_percent", std::to_string(percent));
  EXPECT_LT(percent, 5);
  for (auto& running : tenants) running.close_input();
  for (auto& running : tenants) EXPECT_EQ(running.finish().exit_code, 0);
  tenants.clear();
  wait_for([](const NodeState& seen) { return seen.tenants.empty() && seen.processes.empty(); });
  EXPECT_LE(open_files(), files) << "descriptors are left open";
}

}  // namespace
}  // namespace vgpu::cli_test
