// SPDX-License-Identifier: Apache-2.0
// kill -9 and SIGSTOP at every labelled step of the arbitration (core/steps.h), in the process that
// hosts the arbiter: the others go on at once, with equal shares, and one that comes back finds its
// place.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "player.h"
#include "scratch.h"
#include "signal_at_step.h"

namespace vgpu::shm {
namespace {

using core::Step;

constexpr NamedStep kSteps[] = {VGPU_ARBITER_STEPS(VGPU_NAMED_STEP)};

// A turn is 17 ms of each 50 here, and a host is replaced within 40: so the others wait for less
// than 100 ms, which is what is promised. A round may fall on a moment when the machine is busy
// with other things, so one of a few has to show it, and each keeps to a wider bound. How busy the
// machine is shows in this process, which sleeps half a millisecond at a time: where it oversleeps,
// so do the players.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kPromisedNs = 300'000'000;  // with everything several times as slow
#else
constexpr std::uint64_t kPromisedNs = 100'000'000;
#endif
constexpr int kTries = 5;
constexpr std::uint64_t kMostGapNs = 500'000'000;
constexpr std::uint64_t kQuietStallNs = 50'000'000;
constexpr std::uint64_t kKernelsToSee = 150;
constexpr int kVictim = Board::kVictim;

class DeathAtEveryStep : public ::testing::TestWithParam<NamedStep> {
 protected:
  // The victim first, so that it hosts.
  void start(int signal) {
    players_.push_back(std::make_unique<Child>([this, signal] { be_victim(signal); }));
    wait_for_kernels(kVictim, 1);
    for (int other = 1; other < Board::kPlayers; ++other) {
      players_.push_back(std::make_unique<Child>([this, other] {
        Player player(scratch_.dir(), *board_, other, 30);
        for (;;) player.play();
      }));
    }
    for (int each = 0; each < Board::kPlayers; ++each) wait_for_kernels(each, 20);
  }

  void be_victim(int signal) {
    Player player(scratch_.dir(), *board_, kVictim, 30);
    bool has_passed = false;
    for (;;) {
      player.play();
      if (!board_->armed || !player.host().hosts() || has_passed) continue;
      has_passed = true;
      signal_at(GetParam().step, signal);
      StateDir own;
      own.path = FixedString<255>(scratch_.path() + "/own");
      std::filesystem::remove_all(own.path.c_str());  // an earlier round's
      std::filesystem::create_directory(own.path.c_str());
      Node node;
      CHILD_EXPECT(Node::open(own, node) == Status::ok);
      for (int i = 0; i < 200; ++i) player.play();
      player.leave();
      player.sit();
      player.host().release();
      // Before anybody else looks.
      player.host().take_over(platform::monotonic_ns(), 0);
    }
  }

  void wait_for_kernels(int player, std::uint64_t count) {
    const std::uint64_t from = board_->players[player].kernels;
    const std::uint64_t began = platform::monotonic_ns();
    while (board_->players[player].kernels < from + count) {
      ASSERT_LT(platform::monotonic_ns() - began, 20'000'000'000U)
          << "player " << player << " has stood still";
      const std::uint64_t before = platform::monotonic_ns();
      ::usleep(500);
      stall_ns_ = std::max(stall_ns_, platform::monotonic_ns() - before);
    }
  }

  void wait_for_victim() {
    const std::uint64_t began = platform::monotonic_ns();
    while (!players_[kVictim]->has_halted()) {
      ASSERT_LT(platform::monotonic_ns() - began, 20'000'000'000U) << "the step was not reached";
      ::usleep(200);
    }
    board_->halted_ns = platform::monotonic_ns();
    reached_after_ns_ = board_->halted_ns - began;
    forget_gaps();
    board_->others_may_host = true;
  }

  bool wants_round(int round, int rounds) const {
    const bool is_shown = least_beyond_ns_ < kPromisedNs;
    return (round < rounds || (!is_shown && round < kTries)) && !HasFailure();
  }

  void forget_gaps() {
    for (Board::Player& player : board_->players) player.longest_gap_ns = 0;
  }

  void expect_others_go_on() {
    const std::uint64_t before[] = {board_->players[1].kernels, board_->players[2].kernels};
    stall_ns_ = 0;
    wait_for_kernels(1, kKernelsToSee);
    wait_for_kernels(2, kKernelsToSee);
    if (HasFatalFailure()) return;
    std::uint64_t longest = 0;
    for (int other = 1; other < Board::kPlayers; ++other)
      longest = std::max(longest, board_->players[other].longest_gap_ns.load());
    EXPECT_LT(longest, kMostGapNs + 10 * stall_ns_)
        << "stalls of " << stall_ns_ << " ns; the step was reached after " << reached_after_ns_
        << " ns; gaps of " << board_->players[1].longest_gap_ns << " and "
        << board_->players[2].longest_gap_ns;
    worst_gap_ns_ = std::max(worst_gap_ns_, longest);
    least_beyond_ns_ = std::min(least_beyond_ns_, longest - std::min(longest, stall_ns_));
    if (stall_ns_ > kQuietStallNs) return;  // shares of a processor that others had
    const auto gained = [&](int other) {
      return static_cast<double>(board_->players[other].kernels - before[other - 1]);
    };
    EXPECT_LT(gained(1), 3 * gained(2));
    EXPECT_LT(gained(2), 3 * gained(1));
  }

  void end_all() {
    RecordProperty("longest_gap_us", std::to_string(worst_gap_ns_ / 1'000));
    for (const auto& player : players_) player->kill();
    players_.clear();
  }

  ScratchDir scratch_;
  Common<Board> board_;
  std::vector<std::unique_ptr<Child>> players_;
  std::uint64_t worst_gap_ns_ = 0;
  std::uint64_t least_beyond_ns_ = UINT64_MAX;  // of the rounds' gaps, less the machine's own
  std::uint64_t stall_ns_ = 0;
  std::uint64_t reached_after_ns_ = 0;
};

TEST_P(DeathAtEveryStep, LeavesTheOthersAtTheirShares) {
  for (int round = 0; wants_round(round, death_rounds()); ++round) {
    board_->armed = board_->others_may_host = false;
    start(SIGKILL);
    board_->armed = true;
    wait_for_victim();
    if (HasFatalFailure()) return;
    ASSERT_TRUE(players_[kVictim]->was_killed());
    expect_others_go_on();
    end_all();
  }
  EXPECT_LT(least_beyond_ns_, kPromisedNs);
}

TEST_P(DeathAtEveryStep, AStopThereHoldsNobodyUp) {
  for (int round = 0; wants_round(round, (death_rounds() + 9) / 10); ++round) {
    board_->armed = board_->others_may_host = false;
    start(SIGSTOP);
    board_->armed = true;
    wait_for_victim();
    if (HasFatalFailure()) return;
    ASSERT_TRUE(players_[kVictim]->stopped());
    expect_others_go_on();
    forget_gaps();
    players_[kVictim]->signal(SIGCONT);
    wait_for_kernels(kVictim, kKernelsToSee);
    expect_others_go_on();
    end_all();
  }
  EXPECT_LT(least_beyond_ns_, kPromisedNs);
}

INSTANTIATE_TEST_SUITE_P(Hosting, DeathAtEveryStep, ::testing::ValuesIn(kSteps),
                         [](const auto& tested) { return test_name(tested.param); });

}  // namespace
}  // namespace vgpu::shm
