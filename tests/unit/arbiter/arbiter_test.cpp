// SPDX-License-Identifier: Apache-2.0
// Single decisions of the arbiter and of the node, which the model (tests/model/arbiter) can't show
// one by one. Seats that always have work, stepped each millisecond.
#include "vgpu/core/arbiter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "times.h"
#include "vgpu/core/node.h"

namespace vgpu::core {
namespace {

SeatView seat(std::uint32_t number, std::uint64_t tenant, int share) {
  SeatView view;
  view.seat = number;
  view.birth = number + 1;
  view.tenant = tenant;
  view.share_percent = static_cast<std::uint8_t>(share);
  return view;
}

// What a process that always has work says after it was given `grant`.
void saturate(SeatView& view, const Grant& grant, std::uint64_t now) {
  if (now >= grant.end_ns) {
    if (view.want_since_ns == 0) view.want_since_ns = now;
    return;
  }
  view.want_since_ns = 0;
  view.last_launch_ns = now;
  view.work_ns += kMs;
  view.done_ns = view.work_ns - kMs;
  view.busy_until_ns = now + kMs;
}

// N seats on each of two GPUs.
template <std::size_t N>
struct TwoGpus {
  explicit TwoGpus(const std::array<std::array<SeatView, N>, 2>& on) : seats(on) {}
  std::unique_ptr<Arbiter[]> arbiters = std::make_unique<Arbiter[]>(2);
  Node node{std::span(arbiters.get(), 2)};
  std::array<std::array<SeatView, N>, 2> seats;
  std::array<std::array<Grant, N>, 2> grants{};
  std::array<Node::Gpu, 2> gpus = {Node::Gpu{seats[0], grants[0]}, Node::Gpu{seats[1], grants[1]}};
};

TEST(Arbiter, WhoIsAloneIsNotCounted) {
  auto arbiter = std::make_unique<Arbiter>();
  const std::array<SeatView, 1> seats = {seat(0, 1, 30)};
  std::array<Grant, 1> grants;
  EXPECT_EQ(arbiter->step(kMs, seats, grants), kForever);
  EXPECT_EQ(grants[0].end_ns, kForever);
  EXPECT_EQ(grants[0].in_flight_ns, kForever);
  EXPECT_FALSE(grants[0].counted);
}

TEST(Arbiter, OneOfTwoThatWantTheGpuHasIt) {
  auto arbiter = std::make_unique<Arbiter>();
  std::array<SeatView, 2> seats = {seat(0, 1, 30), seat(1, 2, 70)};
  std::array<Grant, 2> grants;
  std::array<int, 2> open{};
  for (std::uint64_t now = kMs; now < 1'000 * kMs; now += kMs) {
    arbiter->step(now, seats, grants);
    const bool first = now < grants[0].end_ns;
    const bool second = now < grants[1].end_ns;
    ASSERT_FALSE(first && second) << now / kMs;
    open[0] += first ? 1 : 0;
    open[1] += second ? 1 : 0;
    for (std::size_t i = 0; i < 2; ++i) saturate(seats[i], grants[i], now);
  }
  EXPECT_NEAR(open[0], 290, 25);
  EXPECT_NEAR(open[1], 690, 25);
}

// The predicted end of its work, which had to wait for the other's, is long past.
TEST(Arbiter, TheGpuIsKeptForOneOfHighPriorityThatIsLate) {
  auto arbiter = std::make_unique<Arbiter>();
  std::array<SeatView, 2> seats = {seat(0, 1, 30), seat(1, 2, 70)};
  SeatView& high = seats[0];
  high.priority = Priority::high;
  std::array<Grant, 2> grants;
  const auto launch = [&](std::uint64_t now) {
    high.last_launch_ns = now;
    high.work_ns += 200 * kUs;
    high.busy_until_ns = now + 200 * kUs;
    arbiter->step(now, seats, grants);
  };
  const auto finish = [&](std::uint64_t now) {
    high.done_ns = high.work_ns;
    arbiter->step(now, seats, grants);
  };
  std::uint64_t due = kS;
  for (int i = 0; i < 200; ++i, due += 2 * kMs) {
    launch(due);
    finish(due + 200 * kUs);
  }
  launch(due);
  seats[1].want_since_ns = due + 100 * kUs;
  const std::uint64_t done = due + 2'500 * kUs;
  finish(done);
  EXPECT_LE(grants[1].end_ns, done);
  arbiter->step(done + 140 * kUs, seats, grants);
  EXPECT_LE(grants[1].end_ns, done) << "its next work is due";
  arbiter->step(done + 160 * kUs, seats, grants);
  EXPECT_GT(grants[1].end_ns, done) << "it hasn't come";
}

// A shorter one loses more to switches. The lag by which a turn is measured falls while it runs.
TEST(Arbiter, ATurnIsAsLongAsItWasMeantToBeWhenItBegan) {
  auto arbiter = std::make_unique<Arbiter>();
  std::array<SeatView, 2> seats = {seat(0, 1, 30), seat(1, 2, 70)};
  std::array<Grant, 2> grants;
  std::array<int, 2> turns{};
  std::uint32_t holder = kNoSeat;
  for (std::uint64_t now = kMs; now < 2'000 * kMs; now += kMs) {
    arbiter->step(now, seats, grants);
    const std::uint32_t before = std::exchange(holder, arbiter->holder());
    if (now > 1'000 * kMs && holder != before && holder != kNoSeat) ++turns[holder];
    for (std::size_t i = 0; i < 2; ++i) saturate(seats[i], grants[i], now);
  }
  EXPECT_NEAR(turns[0], 12, 1);  // 83 ms a round, as nothing is in flight at their ends
  EXPECT_NEAR(turns[1], 12, 1);
}

// What a process that always has work says; it has `ahead_ns` in flight all the time.
void keep_going(SeatView& view, const Grant& grant, std::uint64_t now, std::uint64_t ahead_ns) {
  if (now >= grant.end_ns) {
    if (view.want_since_ns == 0) view.want_since_ns = now;
    view.done_ns = now >= view.busy_until_ns ? view.work_ns : view.done_ns;
    return;
  }
  view.want_since_ns = 0;
  view.work_ns += now + ahead_ns - std::max(view.busy_until_ns, now);
  view.last_launch_ns = now;
  view.busy_until_ns = now + ahead_ns;
  view.done_ns = view.work_ns - ahead_ns;
}

// Turns of the first in a second.
int turns_of_two_that_have_in_flight(std::uint64_t first_ns, std::uint64_t second_ns) {
  auto arbiter = std::make_unique<Arbiter>();
  std::array<SeatView, 2> seats = {seat(0, 1, 30), seat(1, 2, 70)};
  std::array<Grant, 2> grants;
  int turns = 0;
  std::uint32_t holder = kNoSeat;
  for (std::uint64_t now = kMs; now < 2'000 * kMs; now += kMs / 20) {
    arbiter->step(now, seats, grants);
    const std::uint32_t before = std::exchange(holder, arbiter->holder());
    if (now > 1'000 * kMs && holder != before && holder == 0) ++turns;
    keep_going(seats[0], grants[0], now, first_ns);
    keep_going(seats[1], grants[1], now, second_ns);
  }
  return turns;
}

// Nothing of the next one is queued when their turns end, so switches cost them more.
TEST(Arbiter, TurnsAreLongerWhereAllWaitForEachOfTheirKernels) {
  EXPECT_NEAR(turns_of_two_that_have_in_flight(kMs / 10, kMs / 10), 12, 1);
  EXPECT_NEAR(turns_of_two_that_have_in_flight(kMs / 10, kMs), 19, 1);
  EXPECT_NEAR(turns_of_two_that_have_in_flight(kMs, kMs), 19, 1);
}

TEST(Arbiter, LagsOfThoseWhoWantTheGpuAddUpToNothingEvenIfNobodyUsesIt) {
  auto arbiter = std::make_unique<Arbiter>();
  std::array<SeatView, 3> seats = {seat(0, 1, 20), seat(1, 2, 30), seat(2, 3, 50)};
  std::array<Grant, 3> grants;
  for (SeatView& each : seats) each.want_since_ns = kMs;
  for (std::uint64_t now = kMs; now < 400 * kMs; now += kMs) {
    arbiter->step(now, seats, grants);
    std::int64_t sum = 0;
    for (const SeatView& each : seats) sum += arbiter->standing(each.seat).lag_ns;
    ASSERT_LE(sum, 10) << now / kMs;
    ASSERT_GE(sum, -10) << now / kMs;
  }
}

TEST(Arbiter, WhoDoesNotUseItsTurnIsNotGivenItAgainAndAgain) {
  auto arbiter = std::make_unique<Arbiter>();
  std::array<SeatView, 2> seats = {seat(0, 1, 50), seat(1, 2, 50)};
  std::array<Grant, 2> grants;
  seats[0].want_since_ns = kMs;  // and is stopped
  int held = 0;
  for (std::uint64_t now = kMs; now < 1'000 * kMs; now += kMs / 2) {
    arbiter->step(now, seats, grants);
    held += arbiter->holder() == 0 ? 1 : 0;
    saturate(seats[1], grants[1], now);
  }
  EXPECT_GT(held, 2);
  EXPECT_LT(held, 40);  // 20 of 1,000 ms
}

// A rank that waits for a peer on another GPU is charged for it, and would never be next again.
TEST(Node, AGangThatWasTornApartIsHelpedOverIt) {
  TwoGpus<2> two({{{seat(0, 1, 10), seat(1, 2, 90)}, {seat(2, 1, 10), seat(3, 2, 90)}}});
  auto& [arbiters, node, seats, grants, gpus] = two;
  SeatView& waits = seats[0][0];
  SeatView& spins = seats[1][0];
  waits.want_since_ns = kMs;
  spins.want_since_ns = kMs;
  spins.last_launch_ns = kMs;
  spins.work_ns = kMs;
  bool helped = false;
  for (std::uint64_t now = kMs; now < 3'000 * kMs; now += kMs / 10) {
    spins.busy_until_ns = now + kMs / 20;
    node.step(now, gpus);
    if (now > 2'000 * kMs) helped = helped || now < grants[0][0].end_ns;
    saturate(seats[0][1], grants[0][1], now);
    saturate(seats[1][1], grants[1][1], now);
  }
  EXPECT_TRUE(helped);
}

TEST(Node, AGangHasItsTurnOnAllItsGpusOrOnNone) {
  TwoGpus<2> two({{{seat(0, 1, 50), seat(1, 2, 50)}, {seat(2, 1, 50), seat(3, 3, 50)}}});
  auto& [arbiters, node, seats, grants, gpus] = two;
  int held = 0;
  for (std::uint64_t now = kMs; now < 2'000 * kMs; now += kMs / 10) {
    node.step(now, gpus);
    const bool first = arbiters[0].holder() == 0;
    const bool second = arbiters[1].holder() == 2;
    if (now > 500 * kMs) {
      ASSERT_EQ(node.gangs(), 1u);
      ASSERT_EQ(first, second) << now / kMs;
    }
    held += first ? 1 : 0;
    for (std::size_t g = 0; g < 2; ++g) {
      for (std::size_t i = 0; i < 2; ++i) {
        saturate(seats[g][i], grants[g][i], now);
        if (seats[g][i].busy_until_ns <= now) seats[g][i].done_ns = seats[g][i].work_ns;
      }
    }
  }
  EXPECT_GT(held, 8'000);
}

// One of its ranks says that it is never done. Of each GPU two others want all.
TEST(Node, AGangThatNeverGetsDoneHoldsNobodyUpForLong) {
  TwoGpus<3> two({{{seat(0, 1, 10), seat(1, 2, 45), seat(2, 3, 45)},
                   {seat(3, 1, 10), seat(4, 4, 45), seat(5, 5, 45)}}});
  auto& [arbiters, node, seats, grants, gpus] = two;
  SeatView& never_done = seats[0][0];
  never_done.work_ns = never_done.last_launch_ns = kMs;
  int steps = 0, held_up = 0;
  for (std::uint64_t now = kMs; now < 3'000 * kMs; now += kMs / 10) {
    for (std::size_t g = 0; g < 2; ++g) seats[g][0].want_since_ns = now;
    never_done.busy_until_ns = now + 1'000 * kMs;
    node.step(now, gpus);
    for (std::size_t g = 0; g < 2; ++g) {
      bool goes = false;
      for (std::size_t i = 1; i < 3; ++i) {
        goes = goes || now < grants[g][i].end_ns;
        saturate(seats[g][i], grants[g][i], now);
        if (seats[g][i].busy_until_ns <= now) seats[g][i].done_ns = seats[g][i].work_ns;
      }
      if (now < 1'000 * kMs) continue;
      ++steps;
      held_up += goes ? 0 : 1;
    }
  }
  EXPECT_LT(held_up, steps / 5);
}

TEST(Node, PlacesThatSayNothingOfEachOtherBoundNobody) {
  TwoGpus<2> two({{{seat(0, 1, 50), seat(1, 2, 50)}, {seat(2, 1, 50), seat(3, 2, 50)}}});
  auto& [arbiters, node, seats, grants, gpus] = two;
  seats[0][0].counts_collectives = true;  // and its peer counts all launches
  int bounded = 0;
  for (std::uint64_t now = kMs; now < 3'000 * kMs; now += kMs / 10) {
    node.step(now, gpus);
    for (std::size_t g = 0; g < 2; ++g) {
      EXPECT_EQ(grants[g][0].last_place, 0u);
      bounded += grants[g][1].last_place != 0 ? 1 : 0;
      for (std::size_t i = 0; i < 2; ++i) {
        SeatView& view = seats[g][i];
        const std::uint64_t work = view.work_ns;
        saturate(view, grants[g][i], now);
        if (view.work_ns != work) view.place += view.counts_collectives ? 1 : 10 + g;
        if (view.busy_until_ns <= now) view.done_ns = view.work_ns;
      }
    }
  }
  EXPECT_GT(bounded, 0);
}

// Two gangs over two GPUs, whose ranks count collectives. The first gang's second rank comes as far
// as its first in every eleventh step. `collectives`: that they make in a step each; `between`:
// what happens between its turns. Gives in which part of its turns, but for the first ten, it was
// told where to end.
double aligned_turns(std::array<std::uint64_t, 2> collectives,
                     const std::function<void(SeatView&, int)>& between) {
  TwoGpus<2> two({{{seat(0, 1, 50), seat(1, 2, 50)}, {seat(2, 1, 50), seat(3, 2, 50)}}});
  auto& [arbiters, node, seats, grants, gpus] = two;
  for (auto& on_gpu : seats) {
    for (SeatView& view : on_gpu) view.counts_collectives = true;
  }
  int turns = 0, aligned = 0;
  bool held = false, bounded = false;
  for (std::uint64_t now = kMs; now < 8'000 * kMs; now += kMs / 10) {
    node.step(now, gpus);
    const bool holds = arbiters[0].holder() == 0;
    bounded = bounded || (holds && grants[0][0].last_place != 0);
    if (held && !holds && ++turns > 10) aligned += bounded ? 1 : 0;
    if (!holds) between(seats[0][0], turns);
    if (!holds) bounded = false;
    held = holds;
    const std::uint64_t steps = seats[0][0].place / collectives[0];
    for (std::size_t g = 0; g < 2; ++g) {
      const Grant& grant = grants[g][0];
      const bool goes =
          now < grant.end_ns && (grant.last_place == 0 || seats[g][0].place < grant.last_place);
      if (goes && g == 0) seats[g][0].place += collectives[g];
      if (goes && g == 1 && steps % 11 == 0) seats[g][0].place = steps * collectives[g];
      for (std::size_t i = 0; i < 2; ++i) {
        SeatView& view = seats[g][i];
        const std::uint64_t work = view.work_ns;
        saturate(view, grants[g][i], now);
        if (i == 1 && view.work_ns != work) ++view.place;
        if (view.busy_until_ns <= now) view.done_ns = view.work_ns;
      }
    }
  }
  return static_cast<double>(aligned) / (turns - 10);
}

// After every fourth turn one of its collectives is taken to be done before its peer's is launched.
TEST(Node, PlacesThatDifferOnceAreComparedAllTheSame) {
  int ahead_at = 0;
  const double aligned = aligned_turns({1, 1}, [&](SeatView& first, int turns) {
    if (turns % 4 == 0 && std::exchange(ahead_at, turns) != turns) ++first.place;
  });
  EXPECT_GT(aligned, 0.75);
}

TEST(Node, PlacesThatAlwaysDifferEndNoTurn) {
  const double aligned = aligned_turns({2, 1}, [](SeatView&, int) {});
  EXPECT_LT(aligned, 0.05);
}

// Two gangs over two GPUs; the second GPU of each comes forward at `pace` percent of the first.
// Gives by how many launches the two GPUs differed at the end of turns at most, and how many ended.
std::pair<std::uint64_t, int> apart_at_the_end_of_turns(std::uint64_t pace) {
  TwoGpus<2> two({{{seat(0, 1, 50), seat(1, 2, 50)}, {seat(2, 1, 50), seat(3, 2, 50)}}});
  auto& [arbiters, node, seats, grants, gpus] = two;
  std::array<std::array<std::uint64_t, 2>, 2> began{};
  std::uint64_t apart = 0;
  int ends = 0;
  std::uint32_t holder = kNoSeat;
  constexpr std::uint64_t kStepNs = kMs / 10;
  for (std::uint64_t now = kMs; now < 4'000 * kMs; now += kStepNs) {
    node.step(now, gpus);
    const std::uint32_t before = std::exchange(holder, arbiters[0].holder());
    if (now > 500 * kMs && before != holder && before != kNoSeat) {
      ++ends;
      const std::uint64_t first = seats[0][before].place - began[0][before];
      const std::uint64_t second = seats[1][before].place - began[1][before];
      apart = std::max(apart, std::max(first, second) - std::min(first, second));
    }
    for (std::size_t g = 0; g < 2; ++g) {
      for (std::size_t i = 0; i < 2; ++i) {
        SeatView& view = seats[g][i];
        const Grant& grant = grants[g][i];
        const bool is_open =
            now < grant.end_ns && (grant.last_place == 0 || view.place < grant.last_place);
        if (arbiters[g].holder() != view.seat) began[g][i] = view.place;
        if (!is_open) {
          if (view.want_since_ns == 0) view.want_since_ns = now;
        } else if (g == 0 || now / kStepNs % 100 < pace) {
          view.want_since_ns = 0;
          view.last_launch_ns = now;
          view.work_ns += kStepNs;
          ++view.place;
          view.busy_until_ns = now + kStepNs;
        }
        if (view.busy_until_ns <= now) view.done_ns = view.work_ns;
      }
    }
  }
  return {apart, ends};
}

TEST(Node, AGangsTurnEndsAfterAsManyLaunchesOnEachOfItsGpus) {
  const auto [apart, ends] = apart_at_the_end_of_turns(94);
  EXPECT_GT(ends, 10);
  EXPECT_LE(apart, 1u);
}

// A GPU that can't catch up is waited for some milliseconds, and not for ever.
TEST(Node, AGangsTurnEndsThoughOneOfItsGpusStaysBehind) {
  const auto [apart, ends] = apart_at_the_end_of_turns(30);
  EXPECT_GT(ends, 10);
  EXPECT_GT(apart, 20u);
}

}  // namespace
}  // namespace vgpu::core
