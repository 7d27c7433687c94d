// SPDX-License-Identifier: Apache-2.0
// Programs whose kernels wait for each other never stand still, whatever holds back their launches:
// a compute limit, a neighbour's turn, the bound of what is in flight.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "jobs.h"
#include "vgpu/shm/node.h"

namespace {

using namespace vgpu::test;
using Clock = std::chrono::steady_clock;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr unsigned kSteps = 60;
#else
constexpr unsigned kSteps = 600;
#endif
constexpr unsigned kLaunches = 40;  // of the consumer: more than may be in flight

class Progress : public testing::TestWithParam<const char*> {
 protected:
  static std::string_view what() { return GetParam(); }
  static unsigned steps() {
    if (what() == "consumer") return kLaunches;
    return what().ends_with("training") ? kSteps / 30 : kSteps;  // each has 50 times the work
  }
  // In whose steps two GPUs meet as soon as both have been launched on.
  static bool reduces() {
    return what() == "turns" || what() == "threads" || what() == "ranks" || what() == "cooperative";
  }
  // Over so short a time shares are only roughly kept; in the few steps that a sanitizer leaves
  // time for, one may have ended before the other has begun.
  static void expect_neither_starved(const std::vector<unsigned>& done) {
    if (kSteps < 600) return;
    EXPECT_GT(std::min(done[0], done[1]), std::max(done[0], done[1]) / 20);
  }
  Machine machine_;
};

TEST_P(Progress, OfAJobAloneUnderALimit) {
  Job job(machine_, "job", GetParam(), steps(), {{"VGPU_COMPUTE_LIMIT", "30"}});
  const auto began = Clock::now();
  run({&job});
  const std::chrono::nanoseconds took = Clock::now() - began;
  // Kernels that wait keep their GPU busy meanwhile, so the work is what counts. What the consumer
  // does is less than a limit lets anybody save up.
  if (what() == "consumer") return;
  EXPECT_LT(steps() * kWorkNs, static_cast<std::uint64_t>(took.count()) / 2);
}

TEST_P(Progress, OfAJobBesideASaturatingNeighbour) {
  Job job(machine_, "job", GetParam(), steps(), {{"VGPU_COMPUTE", "50"}});
  Job neighbour(machine_, "neighbour", "saturate", 0, {{"VGPU_COMPUTE", "50"}});
  run({&job, &neighbour});
}

TEST_P(Progress, OfAJobUnderALimitBesideASaturatingNeighbour) {
  Job job(machine_, "job", GetParam(), steps(),
          {{"VGPU_COMPUTE", "30"}, {"VGPU_COMPUTE_LIMIT", "30"}});
  Job neighbour(machine_, "neighbour", "saturate", 0, {{"VGPU_COMPUTE", "70"}});
  run({&job, &neighbour});
}

TEST_P(Progress, OfTwoJobsAtTheSameShare) {
  Job one(machine_, "one", GetParam(), steps(), {{"VGPU_COMPUTE", "50"}});
  Job other(machine_, "other", GetParam(), steps(), {{"VGPU_COMPUTE", "50"}});
  const auto done = run({&one, &other});
  if (reduces()) expect_neither_starved(done);
}

TEST_P(Progress, OfTwoJobsAt30And70) {
  Job less(machine_, "less", GetParam(), steps(), {{"VGPU_COMPUTE", "30"}});
  Job more(machine_, "more", GetParam(), steps(), {{"VGPU_COMPUTE", "70"}});
  const auto done = run({&less, &more});
  if (reduces()) expect_neither_starved(done);
}

// Of how many seats of the job's tenant it is known that they count collectives.
int seats_that_count_collectives(const Machine& machine, const Job& job) {
  vgpu::shm::StateDir directory;
  directory.path = std::string_view(machine.environment()["VGPU_STATE_DIR"]);
  vgpu::shm::Node node;
  if (vgpu::shm::Node::look(directory, node) != vgpu::shm::Status::ok) return 0;
  int count = 0;
  for (std::uint32_t seat = 0; seat < node.seats(); ++seat) {
    vgpu::GpuUuid gpu;
    vgpu::core::SeatView view;
    if (node.view(seat, UINT64_MAX / 2, gpu, view) &&
        view.tenant == vgpu::shm::tenant_number(job.name()))
      count += view.counts_collectives ? 1 : 0;
  }
  return count;
}

// Gives the most of them at one time.
int most_that_count_collectives(const char* what) {
  const Machine machine;
  constexpr unsigned kEnoughToBeSeen = 20;  // of 25 ms and more: it is looked at each 2 ms
  Job job(machine, "job", what, kEnoughToBeSeen, {{"VGPU_COMPUTE", "50"}});
  Job neighbour(machine, "neighbour", what, kEnoughToBeSeen, {{"VGPU_COMPUTE", "50"}});
  int most = 0;
  run({&job, &neighbour},
      [&] { most = std::max(most, seats_that_count_collectives(machine, job)); });
  return most;
}

TEST(Collectives, AreKnownByTheirKernelsNames) {
  EXPECT_EQ(most_that_count_collectives("nccl-training"), 2);
  EXPECT_EQ(most_that_count_collectives("training"), 0);
}

// "two-pipes" -> "TwoPipes".
std::string name_of(const testing::TestParamInfo<const char*>& info) {
  std::string name;
  bool begins_word = true;
  for (const char c : std::string_view(info.param)) {
    if (c != '-') name += begins_word ? static_cast<char>(std::toupper(c)) : c;
    begins_word = c == '-';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Jobs, Progress,
                         testing::Values("turns", "threads", "ranks", "training", "nccl-training",
                                         "cooperative", "pipe", "two-pipes", "consumer"),
                         name_of);

}  // namespace
