// SPDX-License-Identifier: Apache-2.0
// Jobs that span two GPUs, with kernels that finish only when the peer's runs too (NCCL).
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

// Measured over so long: turns of gangs are up to a quarter of a second.
constexpr Time kSpanNs = 10 * kS;

// One step of both ranks: some kernels of their own, then one that they do together.
class Job {
 public:
  // `spread_ns`: by which the kernels of their own are longer or shorter, on each GPU by itself.
  Job(Time own_ns, std::uint64_t own, Time together_ns, std::uint64_t batch, Time spread_ns)
      : own_ns_(own_ns),
        own_(own),
        together_ns_(together_ns),
        batch_(batch),
        spread_ns_(spread_ns) {}

  Launch launch(std::uint64_t n, std::mt19937_64& random) {
    const std::uint64_t step = n / (own_ + 1);
    if (n % (own_ + 1) < own_) {
      const Time off = spread_ns_ == 0 ? 0 : random() % (2 * spread_ns_);
      return {.work_ns = own_ns_ - spread_ns_ + off};
    }
    auto& both = steps_[step];
    if (both == nullptr) {
      both = std::make_unique<Together>();
      both->left_ns = together_ns_;
      // The last are done for certain: the queue isn't as long.
      steps_.erase(steps_.begin(), steps_.lower_bound(step > 4'000 ? step - 4'000 : 0));
    }
    return {.work_ns = together_ns_,
            .kind = 1,
            .together = both.get(),
            .waits = (step + 1) % batch_ == 0};
  }

 private:
  Time own_ns_;
  std::uint64_t own_;
  Time together_ns_;
  std::uint64_t batch_;
  Time spread_ns_;
  std::map<std::uint64_t, std::unique_ptr<Together>> steps_;
};

// Data-parallel training: half a millisecond of its own work, then 0.2 ms together; in lock step
// every eighth time.
Tenant job(const std::string& name, int share, Time own_ns = 100 * kUs, std::uint64_t own = 5,
           Time together_ns = 200 * kUs, std::uint64_t batch = 8, Time spread_ns = 0) {
  auto steps = std::make_shared<Job>(own_ns, own, together_ns, batch, spread_ns);
  Tenant made = tenant(
      name, [steps](std::uint64_t n, std::mt19937_64& random) { return steps->launch(n, random); },
      share);
  made.gpus = {0, 1};
  return made;
}

Result run(std::vector<Tenant> tenants, Sharing sharing, std::uint64_t seed,
           Places places = Places::collectives) {
  Scenario scenario;
  scenario.places = places;
  scenario.gpus = 2;
  scenario.sharing = sharing;
  scenario.length_ns = kWarmUpNs + kSpanNs;
  scenario.seed = seed;
  scenario.tenants = std::move(tenants);
  return simulate(scenario);
}

double work(const Result& result, std::size_t tenant) {
  return static_cast<double>(result.tenants[tenant].work_between(kWarmUpNs, kWarmUpNs + kSpanNs));
}

struct Shape {
  const char* name;
  Time own_ns;
  std::uint64_t own;
  Time together_ns;
  std::uint64_t batch;
  double off;
  Time spread_ns = 0;
};
constexpr Shape kShapes[] = {
    {"0.5 ms own, 0.2 together", 100 * kUs, 5, 200 * kUs, 8, 1.5},
    {"2 ms own, 1 ms together", kMs, 2, kMs, 1, 1.5},
    {"10 ms own, 2 ms together", 2 * kMs, 5, 2 * kMs, 2, 1.5},
    // One is ahead of the other by up to a few milliseconds.
    {"13 ms own, varying, 1 together", 130 * kUs, 100, kMs, 4, 2, 100 * kUs},
    // Steps of 0.1 ms are shorter than the host's answer: a peer that is
    // helped over the end of a turn is itself beyond it by then.
    {"20 us own, 50 us together", 20 * kUs, 1, 50 * kUs, 16, 2}};

// How each process' place is known.
std::string name_of(Places places) {
  constexpr const char* kNames[] = {"Collectives", "Launches", "DifferingLaunches",
                                    "CollectivesOnOne"};
  return kNames[static_cast<int>(places)];
}

// In percent of one alone, of many runs. A job that two hosts begin apart may take a second to be
// put right; and where one host launches more than the other, turns end in the wrong place until
// that is found by what doesn't get done. Of 120 runs of each shape one or two are far from the
// mean for that where all launches count; of 600 one where collectives are known.
struct Bounds {
  double least;
  double mean;
  double off;
};
constexpr Bounds bounds_of(Places places) {
  constexpr Bounds kAll[] = {{91, 99, 5}, {90, 98.5, 7}, {85, 97, 10}, {90, 97, 7}};
  return kAll[static_cast<int>(places)];
}

class Gangs : public testing::TestWithParam<Places> {};
INSTANTIATE_TEST_SUITE_P(ByPlaces, Gangs,
                         testing::Values(Places::collectives, Places::launches,
                                         Places::differing_launches, Places::collectives_on_one),
                         [](const auto& each) { return name_of(each.param); });

TEST_P(Gangs, TwoOverTheSameTwoGpusDoAlmostAllThatOneDoesAlone) {
  const bool differs = GetParam() == Places::differing_launches;
  const Bounds bounds = bounds_of(GetParam());
  for (const Shape& shape : kShapes) {
    if (differs && shape.together_ns < 100 * kUs) continue;  // its steps are too short for that
    const auto make = [&shape](const char* name, int share) {
      return job(name, share, shape.own_ns, shape.own, shape.together_ns, shape.batch,
                 shape.spread_ns);
    };
    double sums = 0;
    for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
      const double alone = work(run({make("alone", 50)}, Sharing::unmanaged, seed), 0);
      const Result without = run({make("a", 50), make("b", 50)}, Sharing::unmanaged, seed);
      const Result managed =
          run({make("a", 50), make("b", 50)}, Sharing::arbiter, seed, GetParam());
      const Result unequal =
          run({make("a", 30), make("b", 70)}, Sharing::arbiter, seed, GetParam());
      const auto part = [alone](const Result& result, std::size_t tenant) {
        return 100 * work(result, tenant) / alone;
      };
      if (seed == 1)
        std::printf("two gangs, %-30s %.1f + %.1f (unmanaged %.1f + %.1f); 30/70: %.1f + %.1f\n",
                    shape.name, part(managed, 0), part(managed, 1), part(without, 0),
                    part(without, 1), part(unequal, 0), part(unequal, 1));
      sums += part(managed, 0) + part(managed, 1);
      EXPECT_GE(part(managed, 0) + part(managed, 1), bounds.least)
          << shape.name << ", seed " << seed;
      const double off = seed > 3 || differs ? bounds.off : shape.off;
      EXPECT_NEAR(part(managed, 0), 50, off) << shape.name;
      EXPECT_NEAR(part(unequal, 0), 30, off) << shape.name;
      EXPECT_NEAR(part(unequal, 1), 70, off) << shape.name;
    }
    EXPECT_GE(sums / static_cast<double>(seeds(3)), bounds.mean) << shape.name;
  }
}

// Data-parallel training as PyTorch does it: a step of 300 launches and 17 ms, with eight
// collectives in a stream of their own that run beside the backward pass, and an optimizer after
// the last.
class Training {
 public:
  static constexpr std::uint64_t kLaunches = 300, kBackward = 100, kEvery = 22, kCollectives = 8;
  static constexpr std::uint64_t kOwn = kLaunches - kCollectives;

  // Its hosts are slow, and pause for milliseconds in every second step.
  explicit Training(bool pauses) : pauses_(pauses) {}

  Launch launch(std::uint64_t n, std::mt19937_64& random) {
    const std::uint64_t step = n / kLaunches, at = n % kLaunches;
    Launch launch;
    // Hosts differ: in each launch, and now and then by much.
    launch.gap_ns = (pauses_ ? 10 + random() % 28 : 1 + random() % 8) * kUs;
    if (random() % 1'000 == 0) launch.gap_ns = (200 + random() % 800) * kUs;
    if (random() % (pauses_ ? 600 : 4'000) == 0) launch.gap_ns = (1 + random() % 10) * kMs;
    launch.waits = at + 1 == kLaunches && step % 40 == 39;
    std::uint64_t collectives = at < kBackward ? 0 : (at - kBackward + kEvery - 1) / kEvery;
    collectives = std::min(collectives, kCollectives);
    const bool is_collective = at >= kBackward && (at - kBackward) % kEvery == 0 &&
                               (at - kBackward) / kEvery < kCollectives;
    if (is_collective) {
      auto& both = collectives_[n];
      if (both == nullptr) {
        both = std::make_unique<Together>();
        both->left_ns = 400 * kUs;
        collectives_.erase(collectives_.begin(),
                           collectives_.lower_bound(n > 100'000 ? n - 100'000 : 0));
      }
      launch.kind = 0;
      launch.work_ns = 400 * kUs;
      launch.stream = 1;
      launch.together = both.get();
      launch.after_other_stream = step * kOwn + at - collectives;
      return launch;
    }
    launch.kind = static_cast<std::uint32_t>(1 + at % 12);
    launch.work_ns = (10 + 8 * (at % 12)) * kUs;
    // The optimizer.
    if (at >= kBackward + kEvery * kCollectives)
      launch.after_other_stream = (step + 1) * kCollectives;
    return launch;
  }

 private:
  bool pauses_;
  std::map<std::uint64_t, std::unique_ptr<Together>> collectives_;
};

Tenant training(const std::string& name, int share, bool pauses = false) {
  auto steps = std::make_shared<Training>(pauses);
  Tenant made = tenant(
      name, [steps](std::uint64_t n, std::mt19937_64& random) { return steps->launch(n, random); },
      share);
  made.gpus = {0, 1};
  return made;
}

TEST_P(Gangs, TwoThatTrainWithCollectivesInAStreamOfTheirOwn) {
  double sums = 0;
  // In the first of the last three a host was late at the end of a step, and for half a second each
  // had a collective spinning in the other's slices, while turns ended although that wasn't done.
  // In the others one that had spun was taken to be as long, for two seconds from the start.
  std::vector<std::uint64_t> tried{45, 76, 102};
  for (std::uint64_t seed = seeds(6); seed >= 1; --seed) tried.insert(tried.begin(), seed);
  for (const std::uint64_t seed : tried) {
    const double alone = work(run({training("alone", 50)}, Sharing::unmanaged, seed), 0);
    const Result managed =
        run({training("a", 50), training("b", 50)}, Sharing::arbiter, seed, GetParam());
    const double a = 100 * work(managed, 0) / alone, b = 100 * work(managed, 1) / alone;
    if (seed == 1) {
      const Result without = run({training("a", 50), training("b", 50)}, Sharing::unmanaged, seed);
      std::printf(
          "two that train, collectives beside the rest: %.1f + %.1f (unmanaged %.1f + %.1f)\n", a,
          b, 100 * work(without, 0) / alone, 100 * work(without, 1) / alone);
    }
    EXPECT_GE(a + b, std::min(bounds_of(GetParam()).least, 95.5)) << seed;
    EXPECT_NEAR(a, b, 6) << seed;
    sums += a + b;
  }
  EXPECT_GE(sums / static_cast<double>(tried.size()), std::min(bounds_of(GetParam()).mean, 97.5));
}

// A job that has the GPUs to itself is far ahead of them, so its hosts' pauses cost nothing. In
// turns they begin with nothing in flight.
TEST(GangsWhoseHostsPause, LoseOnlyWhileTheyAreNotAhead) {
  double sums = 0;
  const std::uint64_t runs = std::max<std::uint64_t>(seeds(8), 4);  // fewer are no mean
  for (std::uint64_t seed = 1; seed <= runs; ++seed) {
    const double alone = work(run({training("alone", 50, true)}, Sharing::unmanaged, seed), 0);
    const Result managed =
        run({training("a", 50, true), training("b", 50, true)}, Sharing::arbiter, seed);
    const double a = 100 * work(managed, 0) / alone, b = 100 * work(managed, 1) / alone;
    if (seed == 1) std::printf("two that train, whose hosts pause: %.1f + %.1f\n", a, b);
    EXPECT_GE(a + b, 85) << seed;
    sums += a + b;
  }
  EXPECT_GE(sums / static_cast<double>(runs), 93);
}

// While a gang's other GPU isn't free the single's is of no use to it: so the gang gets what is
// left on the fuller one.
TEST_P(Gangs, ASingleOnOneOfTheirGpusKeepsItsShare) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    const double alone = work(run({job("alone", 50)}, Sharing::unmanaged, seed), 0);
    const Result result = run({job("a", 40), job("b", 40), tenant("single", queues(100 * kUs), 20)},
                              Sharing::arbiter, seed, GetParam());
    const double single =
        percent(result.tenants[2], alone_rate(queues(100 * kUs)), kWarmUpNs, kWarmUpNs + kSpanNs);
    const double a = 100 * work(result, 0) / alone;
    const double b = 100 * work(result, 1) / alone;
    if (seed == 1)
      std::printf("two gangs at 40 and a single at 20: %.1f %.1f %.1f\n", a, b, single);
    EXPECT_NEAR(single, 20, 2);
    // What they are short of are three switches a round, each after work is known to be done.
    const double off = GetParam() == Places::differing_launches ? 5 : 2.5;
    EXPECT_NEAR(a, 40, off);
    EXPECT_NEAR(b, 40, off);
  }
}

TEST_P(Gangs, OneAndASingleOnEachOfItsGpusShareBoth) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    const double alone = work(run({job("alone", 50)}, Sharing::unmanaged, seed), 0);
    Tenant second = tenant("second", waits_on_each(kMs), 50);
    second.gpus = {1};
    const Result result = run({job("gang", 50), tenant("first", queues(100 * kUs), 50), second},
                              Sharing::arbiter, seed, GetParam());
    const double gang = 100 * work(result, 0) / alone;
    const double first =
        percent(result.tenants[1], alone_rate(queues(100 * kUs)), kWarmUpNs, kWarmUpNs + kSpanNs);
    const double other =
        percent(result.tenants[2], alone_rate(waits_on_each(kMs)), kWarmUpNs, kWarmUpNs + kSpanNs);
    if (seed == 1)
      std::printf("a gang at 50 and a single at 50 on each GPU: %.1f | %.1f %.1f\n", gang, first,
                  other);
    EXPECT_NEAR(gang, 50, 3);
    EXPECT_NEAR(first, 50, 3);
    EXPECT_NEAR(other, 50, 3);
  }
}

}  // namespace
}  // namespace vgpu::model
