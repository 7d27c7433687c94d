// SPDX-License-Identifier: Apache-2.0
// Who is let in, where, and what a refusal says.
#include "vgpu/admission/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

namespace vgpu::admission {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kGiB = 1ull << 30;
constexpr User kRoot{0, true};
constexpr User kAnna{1000, false};
constexpr User kBert{1001, false};

Node node_of(std::size_t gpus, std::uint64_t gib = 80) {
  Node node;
  for (std::size_t i = 0; i < gpus; ++i)
    node.gpus.push_back({"GPU " + std::to_string(i), gib * kGiB, true});
  return node;
}

Tenant tenant(User owner, std::vector<Part> parts) { return {"t", owner, std::move(parts)}; }

Wish named(User user, std::vector<Part> parts) {
  Wish wish;
  wish.user = user;
  wish.named = std::move(parts);
  return wish;
}

Wish counted(User user, std::size_t count, std::uint64_t gib, std::uint8_t share = 0) {
  Wish wish;
  wish.user = user;
  wish.count = count;
  wish.each = {0, gib * kGiB, share};
  return wish;
}

Rule rule_of(const Decision& decision) {
  EXPECT_FALSE(decision.granted());
  return decision.granted() ? Rule::nothing_asked : decision.refusal->rule;
}

TEST(Admission, GrantsWhatFitsOnTheNamedGpu) {
  const Node node = node_of(2);
  const Decision decision = decide(node, named(kAnna, {{1, 20 * kGiB, 30}}));
  ASSERT_TRUE(decision.granted());
  EXPECT_EQ(decision.parts, (std::vector<Part>{{1, 20 * kGiB, 30}}));
}

TEST(Admission, MemoryLimitsNeverAddUpToMoreThanTheGpuHas) {
  Node node = node_of(1);
  node.tenants = {tenant(kRoot, {{0, 70 * kGiB, 0}})};
  const Decision decision = decide(node, named(kRoot, {{0, 11 * kGiB, 0}}));
  EXPECT_EQ(rule_of(decision), Rule::memory_room);
  EXPECT_EQ(decision.refusal->fit.memory_bytes, 10 * kGiB);
  EXPECT_TRUE(decision.refusal->waiting_helps);
  EXPECT_TRUE(decide(node, named(kRoot, {{0, 10 * kGiB, 0}})).granted());
}

TEST(Admission, NothingNewGetsOntoAClosedGpuAndNothingRisesThere) {
  Node node = node_of(2);
  node.gpus[0].closed = "somebody is on it";
  node.tenants = {tenant(kAnna, {{0, 10 * kGiB, 20}})};
  const Decision decision = decide(node, named(kRoot, {{0, kGiB, 1}}));
  EXPECT_EQ(rule_of(decision), Rule::gpu_closed);
  EXPECT_TRUE(decision.refusal->waiting_helps);
  EXPECT_EQ(decision.refusal->fit.memory_bytes, 0u);
  EXPECT_EQ(describe(*decision.refusal, node),
            "nothing new is admitted to GPU 0 while somebody is on it");
  EXPECT_EQ(decide(node, counted(kRoot, 1, 1)).parts.at(0).gpu, 1u);
  const Decision both = decide(node, counted(kRoot, 2, 1));
  EXPECT_EQ(rule_of(both), Rule::gpu_closed);
  EXPECT_EQ(both.refusal->fit.gpus, 1u);
  const auto more = check_change(node, 0, kAnna, {{0, 11 * kGiB, 20}}, false);
  ASSERT_TRUE(more.has_value());
  EXPECT_EQ(more->rule, Rule::gpu_closed);
  EXPECT_FALSE(check_change(node, 0, kAnna, {{0, 9 * kGiB, 20}}, false).has_value());
}

TEST(Admission, SharesNeverAddUpToMoreThan100) {
  Node node = node_of(1);
  node.tenants = {tenant(kRoot, {{0, kNoLimit, 70}})};
  const Decision decision = decide(node, named(kRoot, {{0, kNoLimit, 31}}));
  EXPECT_EQ(rule_of(decision), Rule::share_room);
  EXPECT_EQ(decision.refusal->fit.share_percent, 30);
  EXPECT_THAT(describe(*decision.refusal, node), HasSubstr("30 % would fit"));
}

TEST(Admission, OversubscriptionLetsBothPassWhereItIsAllowed) {
  Node node = node_of(1);
  node.tenants = {tenant(kRoot, {{0, 80 * kGiB, 100}})};
  Wish wish = named(kRoot, {{0, 80 * kGiB, 100}});
  wish.oversubscribe = true;
  EXPECT_TRUE(decide(node, wish).granted());
  node.rules.oversubscribe_memory = node.rules.oversubscribe_share = false;
  EXPECT_EQ(rule_of(decide(node, wish)), Rule::oversubscription_off);
}

TEST(Admission, OversubscriptionOfOneQuantityLeavesTheOtherItsRoom) {
  Node node = node_of(1);
  node.tenants = {tenant(kRoot, {{0, 80 * kGiB, 100}})};
  node.rules.oversubscribe_memory = false;
  Wish wish = named(kRoot, {{0, kNoLimit, 50}});
  wish.oversubscribe = true;
  EXPECT_TRUE(decide(node, wish).granted());
  wish.named = {{0, kGiB, 0}};
  const Decision decision = decide(node, wish);
  EXPECT_EQ(rule_of(decision), Rule::memory_room);
  EXPECT_THAT(describe(*decision.refusal, node),
              HasSubstr("oversubscription of memory is switched off"));
}

TEST(Admission, OversubscriptionMakesNoGpuLarger) {
  Wish wish = named(kRoot, {{0, 81 * kGiB, 0}});
  wish.oversubscribe = true;
  const Decision decision = decide(node_of(1), wish);
  EXPECT_EQ(rule_of(decision), Rule::more_memory_than_a_gpu);
  EXPECT_FALSE(decision.refusal->waiting_helps);
}

TEST(Admission, RefusesWishesThatMeanNothing) {
  const Node node = node_of(2);
  EXPECT_EQ(rule_of(decide(node, Wish{})), Rule::nothing_asked);
  EXPECT_EQ(rule_of(decide(node, named(kRoot, {{2, kGiB, 0}}))), Rule::unknown_gpu);
  EXPECT_EQ(rule_of(decide(node, named(kRoot, {{0, kGiB, 0}, {0, kGiB, 0}}))), Rule::gpu_twice);
  EXPECT_EQ(rule_of(decide(node, counted(kRoot, 3, 1))), Rule::more_gpus_than_there_are);
  EXPECT_EQ(rule_of(decide(node, named(kRoot, {{0, kGiB, 101}}))), Rule::share_above_100);
}

TEST(Admission, AGpuThatCantBeUsedIsNotPlacedOn) {
  Node node = node_of(2);
  node.gpus[0].usable = false;
  EXPECT_EQ(decide(node, counted(kRoot, 1, 1)).parts.front().gpu, 1u);
  EXPECT_EQ(rule_of(decide(node, named(kRoot, {{0, kGiB, 0}}))), Rule::unknown_gpu);
  EXPECT_EQ(rule_of(decide(node, counted(kRoot, 2, 1))), Rule::more_gpus_than_there_are);
}

TEST(Placement, BinpackTakesTheFullestThatFitsAndSpreadTheEmptiest) {
  Node node = node_of(3);
  node.tenants = {tenant(kRoot, {{1, 40 * kGiB, 0}}), tenant(kRoot, {{2, 75 * kGiB, 0}})};
  Wish wish = counted(kRoot, 1, 10);
  EXPECT_EQ(decide(node, wish).parts.front().gpu, 1u);  // GPU 2 is fuller, but has no room
  wish.placement = Placement::spread;
  EXPECT_EQ(decide(node, wish).parts.front().gpu, 0u);
}

TEST(Placement, AShareCountsForFullnessToo) {
  Node node = node_of(2);
  node.tenants = {tenant(kRoot, {{1, kNoLimit, 60}})};
  EXPECT_EQ(decide(node, counted(kRoot, 1, 10, 10)).parts.front().gpu, 1u);
}

TEST(Placement, SeveralGpusAreDifferentOnes) {
  const Decision decision = decide(node_of(4), counted(kRoot, 3, 10));
  ASSERT_EQ(decision.parts.size(), 3u);
  EXPECT_NE(decision.parts[0].gpu, decision.parts[1].gpu);
  EXPECT_NE(decision.parts[1].gpu, decision.parts[2].gpu);
}

TEST(Placement, ARefusalSaysWhatWouldFitOnThatManyGpus) {
  Node node = node_of(3);
  node.tenants = {tenant(kRoot, {{0, 60 * kGiB, 0}}), tenant(kRoot, {{1, 50 * kGiB, 0}})};
  const Decision decision = decide(node, counted(kRoot, 2, 40));
  EXPECT_EQ(rule_of(decision), Rule::memory_room);
  EXPECT_EQ(decision.refusal->fit.memory_bytes, 30 * kGiB);
  EXPECT_EQ(decision.refusal->fit.gpus, 1u);
  Wish smaller = counted(kRoot, 2, 30);
  EXPECT_TRUE(decide(node, smaller).granted());
  EXPECT_THAT(describe(*decision.refusal, node), HasSubstr("30 GiB would fit; 1 GPU has room"));
}

TEST(Allowance, AUserAloneMayHaveTheWholeGpu) {
  EXPECT_EQ(allowance_percent(node_of(1), 0, kAnna), 100);
  EXPECT_TRUE(decide(node_of(1), named(kAnna, {{0, kNoLimit, 100}})).granted());
}

TEST(Allowance, IsAnEqualPartAmongTheUsersOnThatGpu) {
  Node node = node_of(2);
  node.tenants = {tenant(kBert, {{0, 10 * kGiB, 10}})};
  EXPECT_EQ(allowance_percent(node, 0, kAnna), 50);
  EXPECT_EQ(allowance_percent(node, 1, kAnna), 100);
  EXPECT_EQ(rule_of(decide(node, named(kAnna, {{0, 41 * kGiB, 0}}))), Rule::memory_allowance);
  EXPECT_EQ(rule_of(decide(node, named(kAnna, {{0, 40 * kGiB, 51}}))), Rule::share_allowance);
  EXPECT_TRUE(decide(node, named(kAnna, {{0, 40 * kGiB, 50}})).granted());
}

TEST(Allowance, CountsAllOfTheUsersTenants) {
  Node node = node_of(1);
  node.tenants = {tenant(kBert, {{0, 10 * kGiB, 10}}), tenant(kAnna, {{0, 30 * kGiB, 0}})};
  const Decision decision = decide(node, named(kAnna, {{0, 11 * kGiB, 0}}));
  EXPECT_EQ(rule_of(decision), Rule::memory_allowance);
  EXPECT_EQ(decision.refusal->fit.memory_bytes, 10 * kGiB);
  EXPECT_EQ(decision.refusal->bound, 40 * kGiB);
}

TEST(Allowance, NeedsAMemoryLimitWhereItIsNotTheWholeGpu) {
  Node node = node_of(1);
  node.tenants = {tenant(kBert, {{0, 10 * kGiB, 10}})};
  EXPECT_EQ(rule_of(decide(node, named(kAnna, {{0, kNoLimit, 10}}))), Rule::memory_limit_needed);
  EXPECT_TRUE(decide(node, named(kRoot, {{0, kNoLimit, 10}})).granted());
}

TEST(Allowance, BindsNeitherRootNorTheTrustedGroup) {
  Node node = node_of(1);
  node.tenants = {tenant(kBert, {{0, 10 * kGiB, 10}})};
  EXPECT_TRUE(decide(node, named({1002, true}, {{0, 70 * kGiB, 90}})).granted());
  EXPECT_EQ(allowance_percent(node, 0, kRoot), 100);
}

TEST(Allowance, TenantsOfTheTrustedTakeRoomButCountAsNoUser) {
  Node node = node_of(1);
  node.tenants = {tenant(kRoot, {{0, 60 * kGiB, 10}})};
  EXPECT_EQ(allowance_percent(node, 0, kAnna), 100);
  EXPECT_EQ(rule_of(decide(node, named(kAnna, {{0, 21 * kGiB, 0}}))), Rule::memory_room);
}

TEST(Allowance, CanBeAFixedPart) {
  Node node = node_of(1);
  node.rules.allowance_percent = 25;
  EXPECT_EQ(rule_of(decide(node, named(kAnna, {{0, 21 * kGiB, 0}}))), Rule::memory_allowance);
  EXPECT_TRUE(decide(node, named(kAnna, {{0, 20 * kGiB, 25}})).granted());
}

class TwoUsers : public ::testing::Test {
 protected:
  TwoUsers() : node_(node_of(1)) {
    node_.tenants = {tenant(kAnna, {{0, 30 * kGiB, 30}}), tenant(kBert, {{0, 20 * kGiB, 20}})};
  }
  std::optional<Rule> change(std::size_t of, User by, Part part, bool oversubscribe = false) {
    const auto refusal = check_change(node_, of, by, {part}, oversubscribe);
    return refusal ? std::optional(refusal->rule) : std::nullopt;
  }
  Node node_;
};

TEST_F(TwoUsers, EachChangesAndEndsTheirOwnOnly) {
  EXPECT_EQ(check_owner(node_, 0, kAnna), std::nullopt);
  EXPECT_EQ(check_owner(node_, 0, kBert)->rule, Rule::not_yours);
  EXPECT_EQ(check_owner(node_, 0, kRoot), std::nullopt);
  EXPECT_EQ(change(0, kBert, {0, kGiB, 1}), Rule::not_yours);
  EXPECT_EQ(change(0, kAnna, {0, kGiB, 1}), std::nullopt);
}

TEST_F(TwoUsers, RaisingNeedsAllowance) {
  EXPECT_EQ(change(0, kAnna, {0, 40 * kGiB, 50}), std::nullopt);
  EXPECT_EQ(change(0, kAnna, {0, 41 * kGiB, 30}), Rule::memory_allowance);
  EXPECT_EQ(change(0, kAnna, {0, 30 * kGiB, 51}), Rule::share_allowance);
  EXPECT_EQ(change(0, kAnna, {0, kNoLimit, 30}), Rule::memory_limit_needed);
}

TEST_F(TwoUsers, RaisingNeedsRoomAlsoForRoot) {
  EXPECT_EQ(change(0, kRoot, {0, 60 * kGiB, 80}), std::nullopt);
  EXPECT_EQ(change(0, kRoot, {0, 61 * kGiB, 80}), Rule::memory_room);
  EXPECT_EQ(change(0, kRoot, {0, 60 * kGiB, 81}), Rule::share_room);
  EXPECT_EQ(change(0, kRoot, {0, 61 * kGiB, 81}, true), std::nullopt);
}

TEST_F(TwoUsers, LoweringIsAllowedAlsoAboveTheAllowance) {
  node_.tenants[0] = tenant(kAnna, {{0, 60 * kGiB, 80}});  // given by root
  EXPECT_EQ(change(0, kAnna, {0, 50 * kGiB, 70}), std::nullopt);
  EXPECT_EQ(change(0, kAnna, {0, 50 * kGiB, 80}), std::nullopt);
  EXPECT_EQ(change(0, kAnna, {0, 50 * kGiB, 81}), Rule::share_allowance);
}

TEST_F(TwoUsers, ATenantMayGetAnotherGpuWithinTheAllowanceThere) {
  node_.gpus.push_back({"GPU 1", 80 * kGiB, true});
  EXPECT_EQ(change(0, kAnna, {1, 80 * kGiB, 100}), std::nullopt);
}

// --- properties

struct Chance {
  explicit Chance(std::uint64_t seed) : random(seed) {}
  std::uint64_t below(std::uint64_t bound) { return random() % bound; }
  std::mt19937_64 random;
};

Wish any_wish(Chance& chance, const Node& node) {
  Wish wish;
  const auto user = static_cast<std::uint32_t>(chance.below(4));
  wish.user = {1000 + user, user == 3};
  const auto part = [&](std::size_t gpu) {
    return Part{gpu, chance.below(8) == 0 ? kNoLimit : 1 + chance.below(90) * kGiB,
                static_cast<std::uint8_t>(chance.below(103))};
  };
  if (chance.below(2) == 0) {
    for (std::size_t i = 1 + chance.below(2); i > 0; --i)
      wish.named.push_back(part(chance.below(node.gpus.size() + 1)));
  } else {
    wish.count = 1 + chance.below(node.gpus.size());
    wish.each = part(0);
    wish.placement = chance.below(2) == 0 ? Placement::binpack : Placement::spread;
  }
  return wish;
}

// Memory and shares given away on each GPU: by all, and by user.
struct Sums {
  std::uint64_t memory = 0, share = 0;
  std::map<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>> by_user;
};

Sums sums_on(const Node& node, std::size_t gpu) {
  Sums sums;
  for (const Tenant& one : node.tenants) {
    for (const Part& part : one.parts) {
      if (part.gpu != gpu) continue;
      const std::uint64_t memory = part.memory_bytes == kNoLimit ? 0 : part.memory_bytes;
      sums.memory += memory;
      sums.share += part.share_percent;
      sums.by_user[one.owner.uid].first += memory;
      sums.by_user[one.owner.uid].second += part.share_percent;
    }
  }
  return sums;
}

TEST(AdmissionProperties, NeitherRoomNorAllowanceIsEverPassed) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    Node node = node_of(1 + chance.below(4));
    if (chance.below(2) == 0)
      node.rules.allowance_percent = static_cast<std::uint8_t>(1 + chance.below(100));
    for (int step = 0; step < 60; ++step) {
      if (!node.tenants.empty() && chance.below(3) == 0) {
        node.tenants.erase(node.tenants.begin() +
                           static_cast<std::ptrdiff_t>(chance.below(node.tenants.size())));
      }
      const Wish wish = any_wish(chance, node);
      User user = wish.user;
      std::vector<Part> parts;
      if (!node.tenants.empty() && !wish.named.empty() && chance.below(2) == 0) {
        const std::size_t which = chance.below(node.tenants.size());
        if (check_change(node, which, user, wish.named, false)) continue;
        // Only raises are the user's doing: what was there before may be above a new allowance.
        node.tenants[which].parts = wish.named;
      } else {
        const Decision decision = decide(node, wish);
        if (!decision.granted()) {
          EXPECT_FALSE(describe(*decision.refusal, node).empty());
          continue;
        }
        for (const Part& part : decision.parts) {
          ASSERT_LT(part.gpu, node.gpus.size());
          const std::uint64_t percent = allowance_percent(node, part.gpu, user);
          Node after = node;
          after.tenants.push_back(tenant(user, decision.parts));
          const auto [memory, share] = sums_on(after, part.gpu).by_user[user.uid];
          if (!user.trusted) {
            EXPECT_LE(memory, node.gpus[part.gpu].total_bytes / 100 * percent + 100);
            EXPECT_LE(share, percent);
          }
        }
        node.tenants.push_back(tenant(user, decision.parts));
      }
      for (std::size_t gpu = 0; gpu < node.gpus.size(); ++gpu) {
        const Sums sums = sums_on(node, gpu);
        ASSERT_LE(sums.memory, node.gpus[gpu].total_bytes);
        ASSERT_LE(sums.share, 100u);
      }
    }
  }
}

TEST(AdmissionProperties, WhatARefusalSaysWouldFitDoes) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    Node node = node_of(1 + chance.below(4));
    for (int step = 0; step < 40; ++step) {
      const Wish wish = any_wish(chance, node);
      const Decision decision = decide(node, wish);
      if (decision.granted()) {
        node.tenants.push_back(tenant(wish.user, decision.parts));
        continue;
      }
      if (!wish.named.empty() && wish.named.size() > 1) continue;  // another part may fail then
      const Fit fit = decision.refusal->fit;
      const auto with = [&](std::uint64_t memory, std::uint8_t share) {
        Wish other = wish;
        Part& part = other.named.empty() ? other.each : other.named.front();
        part.memory_bytes = memory;
        part.share_percent = share;
        return decide(node, other).granted();
      };
      const Part wanted = wish.named.empty() ? wish.each : wish.named.front();
      if (fit.memory_bytes > 0) {
        EXPECT_TRUE(with(fit.memory_bytes, wanted.share_percent));
      }
      if (fit.share_percent > 0 && decision.refusal->rule != Rule::more_memory_than_a_gpu) {
        EXPECT_TRUE(with(wanted.memory_bytes, fit.share_percent));
      }
    }
  }
}

}  // namespace
}  // namespace vgpu::admission
