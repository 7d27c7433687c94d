// SPDX-License-Identifier: Apache-2.0
// What happened between two looks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "made.h"
#include "vgpu/tui/sources.h"

namespace vgpu::tui {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::UnorderedElementsAre;

std::vector<std::string> said(const Model& before, const Model& now) {
  std::uint64_t sequence = 0;
  std::vector<std::string> texts;
  for (const auto& event : differences(before, now, sequence)) {
    EXPECT_EQ(event.sequence, texts.size() + 1);
    texts.push_back(event.kind + ": " + event.text);
  }
  return texts;
}

TEST(Differences, AreWhatTheDaemonWouldCallEvents) {
  const Model two = made_model(2), three = made_model(3);
  EXPECT_THAT(said(two, two), ElementsAre());
  EXPECT_THAT(said(two, three),
              UnorderedElementsAre("tenant_began: tenant tenant-002 began",
                                   "process_joined: python (pid 1002) of tenant-002 joined"));
  EXPECT_THAT(said(three, two),
              UnorderedElementsAre("tenant_ended: tenant tenant-002 ended",
                                   "process_ended: python (pid 1002) of tenant-002 ended"));
}

TEST(Differences, HaveQuotasRefusalsAndStrangers) {
  const Model before = made_model(1);
  Model now = before;
  now.gpus[0].tenants[0].quota.memory_limit_bytes = std::uint64_t{2} << 30;
  now.tenants["tenant-000-id"].refused[made_gpu(1)] = 3;
  EXPECT_THAT(said(before, now),
              ElementsAre("quota_changed: tenant-000 GPU 0: memory 4 GiB -> 2 GiB"))
      << "how many were refused before isn't known";
  Model later = now;
  later.tenants["tenant-000-id"].refused[made_gpu(1)] = 4;
  Process stranger;
  stranger.pid = 77;
  stranger.program = "miner";
  stranger.limiter = survey::Limiter::absent;
  stranger.gpus = {{made_gpu(1), 0, std::nullopt, std::nullopt}};
  later.processes.push_back(stranger);
  EXPECT_THAT(said(now, later),
              ElementsAre("memory_refused: tenant-000 GPU 0: 1 allocation refused at its limit",
                          "unlimited_found: miner (pid 77) is on GPU 0 without the limiter"));
  EXPECT_THAT(said(later, now), ElementsAre("unlimited_gone: miner (pid 77) is gone from GPU 0"));
}

}  // namespace
}  // namespace vgpu::tui
