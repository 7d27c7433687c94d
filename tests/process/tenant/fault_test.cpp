// SPDX-License-Identifier: Apache-2.0
// The driver refuses a call, or takes its time, or the process is stopped in the middle of one:
// what was reserved for it is given back or stays reserved, and nobody else waits.
#include <gtest/gtest.h>
#include <signal.h>

#include <string_view>

#include "rig.h"
#include "vgpu/core/driver_model.h"

namespace {

using namespace vgpu::test;
namespace driver_model = vgpu::driver_model;

constexpr int kLaunchFailed = 719;  // a code that the limiter has no use for itself

struct Fault {
  const char* call;     // NAME:N
  const char* command;  // the one that meets the fault
  const char* before = nullptr;
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.call; }

std::string name_of(const testing::TestParamInfo<Fault>& test) {
  const std::string call = test.param.call;
  return call.substr(0, call.find(':'));
}

class FailingCall : public testing::TestWithParam<Fault> {};

TEST_P(FailingCall, ChangesNothingAndCanBeRepeated) {
  const Rig rig(kLimitMib);
  Worker worker =
      rig.member(std::string(GetParam().call) + ":error=" + std::to_string(kLaunchFailed));
  if (GetParam().before != nullptr) {
    ASSERT_EQ(worker.ask(GetParam().before).code, 0);
  }
  const long charged = worker.ask("info").number;
  const long held = rig.driver_bytes();
  EXPECT_EQ(worker.ask(GetParam().command).code, kLaunchFailed);
  EXPECT_EQ(worker.ask("info").number, charged);
  EXPECT_EQ(rig.driver_bytes(), held);
  EXPECT_EQ(worker.ask(GetParam().command).code, 0);
  if (GetParam().before == nullptr) {
    EXPECT_EQ(worker.ask("free").code, 0);
  }
  const long now = worker.ask("info").number;
  // The first managed memory of a process costs something that stays.
  const bool managed = std::string_view(GetParam().command).starts_with("managed");
  const long kept = managed ? static_cast<long>(driver_model::kFirstManagedBytes) : 0;
  EXPECT_EQ(now, GetParam().before == nullptr ? charged + kept : rig.driver_bytes());
}

INSTANTIATE_TEST_SUITE_P(
    Driver, FailingCall,
    testing::Values(
        Fault{"cuMemAlloc_v2:1", "alloc 64"}, Fault{"cuMemAllocPitch_v2:1", "pitch 64"},
        Fault{"cuMemAllocManaged:1", "managed 64"}, Fault{"cuArray3DCreate_v2:2", "array 64"},
        Fault{"cuMipmappedArrayCreate:2", "mipmapped 64"}, Fault{"cuMemAllocAsync:1", "async 64"},
        Fault{"cuMemCreate:1", "vmm 64"}, Fault{"cuGraphLaunch:1", "graph 64"},
        Fault{"cuModuleLoadData:1", "module 64"}, Fault{"cuCtxSetLimit:1", "stack 64"},
        Fault{"cuCtxCreate_v2:1", "newcontext"}, Fault{"cuMemFree_v2:1", "free", "alloc 64"},
        Fault{"cuMemRelease:1", "free", "vmm 64"}, Fault{"cuModuleUnload:1", "free", "module 64"}),
    name_of);

TEST(FailingCall, ThatShouldMakeTheFirstContextChargesNothing) {
  const Rig rig(kLimitMib);
  Worker other = rig.member();
  const long charged = other.ask("info").number;
  Worker worker(rig.inside("cuDevicePrimaryCtxRetain:1:error=719"));
  EXPECT_EQ(worker.ask("context").code, kLaunchFailed);
  EXPECT_EQ(other.ask("info").number, charged);
  EXPECT_EQ(worker.ask("context").code, 0);
  EXPECT_GT(other.ask("info").number, charged);
}

// Everything that the others of the tenant may want meanwhile.
void expect_others_go_on(const Rig& rig, Worker& other) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(other.ask("alloc 64").code, 0);
    EXPECT_EQ(other.ask("vmm 64").code, 0);
    EXPECT_EQ(other.ask("free").code, 0);
    EXPECT_EQ(other.ask("free").code, 0);
  }
  Worker newcomer = rig.member();
  const Answer filled = newcomer.ask("fill 64");
  EXPECT_EQ(filled.code, 2);
  EXPECT_GT(filled.number, 10);
  EXPECT_EQ(other.ask("alloc 64").code, 2);
  EXPECT_LE(rig.driver_bytes(), kLimitMib * kMiB);
}

class SlowCall : public testing::TestWithParam<Fault> {};

TEST_P(SlowCall, HoldsNobodyElseUp) {
  const Rig rig(kLimitMib);
  Worker other = rig.member();
  Worker slow = rig.member(std::string(GetParam().call) + ":slow=600s");
  if (GetParam().before != nullptr) {
    ASSERT_EQ(slow.ask(GetParam().before).code, 0);
  }
  slow.tell(GetParam().command);
  expect_others_go_on(rig, other);
  EXPECT_FALSE(slow.has_answered());
}

TEST_P(SlowCall, HoldsNobodyElseUpThoughItsProcessIsStoppedInIt) {
  const Rig rig(kLimitMib);
  Worker other = rig.member();
  Worker slow = rig.member(std::string(GetParam().call) + ":slow=1s");
  if (GetParam().before != nullptr) {
    ASSERT_EQ(slow.ask(GetParam().before).code, 0);
  }
  const long charged = other.ask("info").number;
  slow.tell(GetParam().command);
  if (GetParam().before == nullptr) {
    // It is inside once its reservation shows.
    ASSERT_GE(eventually(charged + 64 * kMiB, [&] { return other.ask("info").number; }),
              charged + 64 * kMiB);
  }
  slow.signal(SIGSTOP);
  expect_others_go_on(rig, other);
  EXPECT_FALSE(slow.has_answered());
  slow.signal(SIGCONT);
  EXPECT_EQ(slow.answer().code, 0);
}

INSTANTIATE_TEST_SUITE_P(Driver, SlowCall,
                         testing::Values(Fault{"cuMemAlloc_v2:1", "alloc 64"},
                                         Fault{"cuMemCreate:1", "vmm 64"},
                                         Fault{"cuMemAllocAsync:1", "async 64"},
                                         Fault{"cuGraphLaunch:1", "graph 64"},
                                         Fault{"cuModuleLoadData:1", "module 64"},
                                         Fault{"cuMemFree_v2:1", "free", "alloc 64"},
                                         Fault{"cuMemRelease:1", "free", "vmm 64"}),
                         name_of);

}  // namespace
