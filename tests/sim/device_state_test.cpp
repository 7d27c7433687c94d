// SPDX-License-Identifier: Apache-2.0
// What processes share of the simulated GPUs: identity, memory by process, what a death gives back,
// whose turn it is. Every user of the state is a child process, since a process has one slot.
#include "vgpu/sim/device_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

namespace vgpu::sim {
namespace {

// A process that runs `steps` one at a time when told and says what each answered.
class Process {
 public:
  using Step = std::function<std::uint64_t(DeviceState&)>;
  explicit Process(std::vector<Step> steps) {
    int to[2];
    int from[2];
    if (pipe(to) != 0 || pipe(from) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      close(to[1]);
      close(from[0]);
      std::string why;
      DeviceState* state = DeviceState::open(why);
      if (state == nullptr || !state->claim()) _exit(3);
      char go = 0;
      for (const Step& step : steps) {
        if (read(to[0], &go, 1) != 1) _exit(0);
        const std::uint64_t answer = step(*state);
        if (write(from[1], &answer, sizeof answer) != sizeof answer) _exit(4);
      }
      (void)!read(to[0], &go, 1);
      _exit(0);
    }
    close(to[0]);
    close(from[1]);
    to_ = to[1];
    from_ = from[0];
  }
  ~Process() { end(); }
  std::uint64_t step() {
    std::uint64_t answer = ~std::uint64_t{0};
    if (write(to_, "g", 1) != 1 || read(from_, &answer, sizeof answer) != sizeof answer)
      return ~std::uint64_t{0};
    return answer;
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    end();
  }
  void end() {
    if (pid_ <= 0) return;
    close(to_);
    close(from_);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  int to_ = -1;
  int from_ = -1;
};

class DeviceStateTest : public testing::Test {
 protected:
  DeviceStateTest() {
    folder_ = testing::TempDir() + "vgpu-sim-" + std::to_string(getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    setenv("VGPU_SIM_STATE", folder_.c_str(), 1);
    setenv("VGPU_SIM_DEVICES", "a10,h200", 1);
    unsetenv("VGPU_SIM_MEMORY");
  }
  ~DeviceStateTest() override { std::filesystem::remove_all(folder_); }
  DeviceState* viewer() {
    std::string why;
    if (viewer_ == nullptr) viewer_ = DeviceState::open(why);
    return viewer_;
  }
  std::string folder_;
  DeviceState* viewer_ = nullptr;
};

const Process::Step kTakeGiB = [](DeviceState& state) -> std::uint64_t {
  state.set_context(0, true);
  return state.take(0, kGiB) ? 1 : 0;
};

TEST_F(DeviceStateTest, FastestDeviceIsCudasFirstAndPciOrderIsNvmls) {
  const DeviceState& state = *viewer();
  ASSERT_EQ(state.devices().size(), 2u);
  EXPECT_EQ(state.devices()[0].model->key, "a10");
  EXPECT_EQ(state.cuda_order(false), (std::vector<int>{1, 0}));
  EXPECT_EQ(state.cuda_order(true), (std::vector<int>{0, 1}));
  EXPECT_NE(state.devices()[0].uuid, state.devices()[1].uuid);
}

TEST_F(DeviceStateTest, NamesSayThatTheyAreSimulated) {
  for (const GpuModel& model : kModels)
    EXPECT_TRUE(model.name.starts_with("vgpu simulated ")) << model.name;
}

TEST_F(DeviceStateTest, MemoryOfAKilledProcessIsFreeAtOnce) {
  Process process({kTakeGiB});
  ASSERT_EQ(process.step(), 1u);
  const DeviceUse before = viewer()->look(0);
  EXPECT_EQ(before.used_bytes, kGiB + kUnshownProcessBytes);
  ASSERT_EQ(before.processes.size(), 1u);
  EXPECT_EQ(before.processes[0].pid, process.pid());
  process.kill();
  const DeviceUse after = viewer()->look(0);
  EXPECT_EQ(after.used_bytes, 0u);
  EXPECT_TRUE(after.processes.empty());
}

TEST_F(DeviceStateTest, HighWaterMarksKeepWhatWasHeldForAnInstant) {
  Process process({kTakeGiB, [](DeviceState& state) -> std::uint64_t {
                     const bool took = state.take(0, 2 * kGiB);
                     state.give(0, 2 * kGiB);
                     return took ? 1 : 0;
                   }});
  ASSERT_EQ(process.step(), 1u);
  ASSERT_EQ(process.step(), 1u);
  const DeviceUse use = viewer()->look(0);
  EXPECT_EQ(use.used_bytes, kGiB + kUnshownProcessBytes);
  EXPECT_EQ(use.most_used_bytes, 3 * kGiB + kUnshownProcessBytes);
  ASSERT_EQ(use.processes.size(), 1u);
  EXPECT_EQ(use.processes[0].most_bytes, 3 * kGiB + kUnshownProcessBytes);
  viewer()->forget_most(0);
  EXPECT_EQ(viewer()->look(0).most_used_bytes, kGiB + kUnshownProcessBytes);
}

TEST_F(DeviceStateTest, MemoryOfADeadProcessStaysWhileAForkedChildLives) {
  int hold[2];
  ASSERT_EQ(pipe(hold), 0);
  Process process({[&](DeviceState& state) -> std::uint64_t {
    state.take(0, kGiB);
    if (fork() == 0) {  // lives until the test lets go
      close(hold[1]);
      char byte = 0;
      (void)!read(hold[0], &byte, 1);
      _exit(0);
    }
    return 1;
  }});
  ASSERT_EQ(process.step(), 1u);
  close(hold[0]);
  process.kill();
  EXPECT_EQ(viewer()->used_bytes(0), kGiB);
  close(hold[1]);
  for (int i = 0; i < 2000 && viewer()->used_bytes(0) != 0; ++i) usleep(1000);
  EXPECT_EQ(viewer()->used_bytes(0), 0u);
}

TEST_F(DeviceStateTest, AFullDeviceRefusesAndChangesNothing) {
  setenv("VGPU_SIM_MEMORY", "4GiB", 1);
  Process process(
      {[](DeviceState& state) -> std::uint64_t { return state.take(0, 3 * kGiB) ? 1 : 0; },
       kTakeGiB, [](DeviceState& state) -> std::uint64_t { return state.used_bytes(0); }});
  EXPECT_EQ(process.step(), 1u);
  EXPECT_EQ(process.step(), 0u);
  EXPECT_EQ(process.step(), 3 * kGiB + kUnshownProcessBytes);
}

TEST_F(DeviceStateTest, SharedMemoryIsChargedToWhoeverStillHoldsIt) {
  Process maker({[](DeviceState& state) -> std::uint64_t {
    state.set_context(0, true);
    return state.take(0, kGiB) && state.share(0, 77, kGiB) ? 1 : 0;
  }});
  Process user({[](DeviceState& state) -> std::uint64_t {
                  state.set_context(0, true);
                  return state.join(0, 77) ? 1 : 0;
                },
                [](DeviceState& state) -> std::uint64_t {
                  if (!state.leave(0, 77)) return 0;
                  state.give(0, kGiB);
                  return 1;
                }});
  ASSERT_EQ(maker.step(), 1u);
  ASSERT_EQ(user.step(), 1u);
  maker.kill();
  const DeviceUse use = viewer()->look(0);
  EXPECT_EQ(use.used_bytes, kGiB + kUnshownProcessBytes);
  ASSERT_EQ(use.processes.size(), 1u);
  EXPECT_EQ(use.processes[0].visible_bytes, kGiB);
  EXPECT_EQ(user.step(), 1u);
  EXPECT_EQ(viewer()->used_bytes(0), kUnshownProcessBytes)
      << "of the context, which is still there";
}

TEST_F(DeviceStateTest, TurnsPassWhenTheirTimeIsOverEvenIfTheirHolderIsStopped) {
  constexpr std::uint64_t kStart = 1'000'000'000;
  Process first(
      {[](DeviceState& state) -> std::uint64_t { return state.want(0, kStart).mine ? 1 : 0; }});
  Process second(
      {[](DeviceState& state) -> std::uint64_t { return state.want(0, kStart + 1).mine ? 1 : 0; },
       [](DeviceState& state) -> std::uint64_t {
         const Turn turn = state.want(0, kStart + kTimeSliceNs + 1);
         return turn.mine ? turn.start_ns : 0;
       }});
  EXPECT_EQ(first.step(), 1u);
  EXPECT_EQ(second.step(), 0u);
  kill(first.pid(), SIGSTOP);
  EXPECT_EQ(second.step(), kStart + kTimeSliceNs + kPreemptSwitchNs);
  kill(first.pid(), SIGCONT);
}

TEST_F(DeviceStateTest, TheWorkOfAStoppedProcessEndsWithoutIt) {
  constexpr std::uint64_t kStart = 1'000'000'000;
  Process first({[](DeviceState& state) -> std::uint64_t {
    return state.want(0, kStart, 10'000'000).mine ? 1 : 0;
  }});
  // How much of so much time it gets, asking at the end of each turn.
  const auto share_until = [](std::uint64_t from_ms, std::uint64_t to_ms) {
    return [=](DeviceState& state) -> std::uint64_t {
      std::uint64_t got = 0;
      for (std::uint64_t now = kStart + from_ms * 1'000'000; now < kStart + to_ms * 1'000'000;
           now += 100'000)
        got += state.want(0, now).mine ? 1 : 0;
      return got / ((to_ms - from_ms) / 10);
    };
  };
  Process second({share_until(0, 20), share_until(100, 200)});
  EXPECT_EQ(first.step(), 1u);
  kill(first.pid(), SIGSTOP);
  const std::uint64_t percent_beside_it = second.step();
  EXPECT_GE(percent_beside_it, 30u);
  EXPECT_LE(percent_beside_it, 70u);
  EXPECT_EQ(second.step(), 100u);
  kill(first.pid(), SIGCONT);
}

TEST_F(DeviceStateTest, AProcessThatIsAloneKeepsItsTurn) {
  Process process({[](DeviceState& state) -> std::uint64_t {
    const Turn first = state.want(0, 1'000'000'000);
    const Turn later = state.want(0, 9'000'000'000);
    return first.mine && later.mine && first.start_ns == later.start_ns && !later.contended ? 1 : 0;
  }});
  EXPECT_EQ(process.step(), 1u);
}

TEST_F(DeviceStateTest, BadVariablesSayWhatIsWrong) {
  std::string why;
  EXPECT_FALSE(parse_devices("h200:0", why));
  EXPECT_THAT(why, testing::HasSubstr("h200:0"));
  EXPECT_FALSE(parse_devices("b9000", why));
  EXPECT_THAT(why, testing::AllOf(testing::HasSubstr("b9000"), testing::HasSubstr("h100")));
  EXPECT_FALSE(parse_devices("a10:17", why));
  EXPECT_FALSE(parse_devices("a10,,a10", why));
  setenv("VGPU_SIM_MEMORY", "4GiB,8GiB,1GiB", 1);
  EXPECT_EQ(DeviceState::open(why), nullptr);
  EXPECT_THAT(why, testing::HasSubstr("VGPU_SIM_MEMORY"));
}

}  // namespace
}  // namespace vgpu::sim
