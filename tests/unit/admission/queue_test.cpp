// SPDX-License-Identifier: Apache-2.0
// Those who wait: everybody is served in the end, and nobody is passed too often.
#include "vgpu/admission/queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace vgpu::admission {
namespace {

constexpr std::uint64_t kGiB = 1ull << 30;
constexpr User kRoot{0, true};

Node node_of(std::size_t gpus) {
  Node node;
  for (std::size_t i = 0; i < gpus; ++i)
    node.gpus.push_back({"GPU " + std::to_string(i), 80 * kGiB, true});
  return node;
}

Wish on_gpu(std::size_t gpu, std::uint64_t gib, User user = kRoot) {
  Wish wish;
  wish.user = user;
  wish.named = {{gpu, gib * kGiB, 0}};
  return wish;
}

Wish anywhere(std::size_t count, std::uint64_t gib, User user = kRoot) {
  Wish wish;
  wish.user = user;
  wish.count = count;
  wish.each = {0, gib * kGiB, 0};
  return wish;
}

void enter(Node& node, const std::vector<Part>& parts, User user = kRoot) {
  node.tenants.push_back({"t", user, parts});
}

TEST(Queue, ServesTheOneThatCameFirst) {
  Node node = node_of(1);
  enter(node, {{0, 80 * kGiB, 0}});
  Queue queue;
  const auto first = queue.wait(on_gpu(0, 50), Priority::normal);
  const auto second = queue.wait(on_gpu(0, 50), Priority::normal);
  EXPECT_FALSE(queue.admit(node));
  EXPECT_EQ(queue.place(*second), 1u);
  node.tenants.clear();
  const auto admitted = queue.admit(node);
  ASSERT_TRUE(admitted);
  EXPECT_EQ(admitted->ticket, *first);
  EXPECT_EQ(queue.place(*second), 0u);
  enter(node, admitted->parts);
  EXPECT_FALSE(queue.admit(node));
}

TEST(Queue, PriorityGoesFirst) {
  Queue queue;
  queue.wait(on_gpu(0, 50), Priority::low);
  queue.wait(on_gpu(0, 50), Priority::normal);
  const auto high = queue.wait(on_gpu(0, 50), Priority::high);
  EXPECT_EQ(queue.admit(node_of(1))->ticket, *high);
}

TEST(Queue, WhoFitsGoesPastWhoDoesnt) {
  Node node = node_of(1);
  enter(node, {{0, 60 * kGiB, 0}});
  Queue queue;
  queue.wait(on_gpu(0, 50), Priority::normal);
  const auto small = queue.wait(on_gpu(0, 10), Priority::normal);
  EXPECT_EQ(queue.admit(node)->ticket, *small);
}

TEST(Queue, ALargeOneIsPassedOnlySoOften) {
  Node node = node_of(1);
  enter(node, {{0, 20 * kGiB, 0}});
  Queue queue;
  const auto large = queue.wait(on_gpu(0, 80), Priority::low);
  // Small ones that never wait long, each gone before the next: without a bound, for ever.
  unsigned passed = 0;
  for (; passed < 100; ++passed) {
    const Decision decision = queue.ask(node, on_gpu(0, 20));
    if (!decision.granted()) {
      EXPECT_EQ(decision.refusal->rule, Rule::gpus_held);
      EXPECT_TRUE(decision.refusal->waiting_helps);
      break;
    }
    EXPECT_FALSE(queue.admit(node));
  }
  EXPECT_EQ(passed, kMostOvertaken);
  const auto small = queue.wait(on_gpu(0, 20), Priority::high);
  EXPECT_FALSE(queue.admit(node));
  node.tenants.clear();
  EXPECT_EQ(queue.admit(node)->ticket, *large);
  EXPECT_EQ(queue.place(*small), 0u);
}

TEST(Queue, OtherGpusStayOpenWhileOneIsHeld) {
  Node node = node_of(2);
  enter(node, {{0, 20 * kGiB, 0}});
  Queue queue;
  queue.wait(on_gpu(0, 80), Priority::normal);
  for (unsigned i = 0; i < kMostOvertaken; ++i)
    ASSERT_TRUE(queue.ask(node, on_gpu(0, 1)).granted());
  EXPECT_FALSE(queue.ask(node, on_gpu(0, 1)).granted());
  const Decision decision = queue.ask(node, anywhere(1, 1));
  ASSERT_TRUE(decision.granted());
  EXPECT_EQ(decision.parts.front().gpu, 1u);
}

TEST(Queue, NothingIsHeldForWhomAnAllowanceKeepsBack) {
  const User anna{1000, false}, bert{1001, false};
  Node node = node_of(1);
  enter(node, {{0, 20 * kGiB, 0}}, bert);
  Queue queue;
  queue.wait(on_gpu(0, 60, anna), Priority::normal);  // half of 80 is allowed
  for (unsigned i = 0; i < 3 * kMostOvertaken; ++i)
    ASSERT_TRUE(queue.ask(node, on_gpu(0, 10, bert)).granted());
}

TEST(Queue, WhoeverIsForgottenHoldsNothing) {
  Node node = node_of(1);
  enter(node, {{0, 20 * kGiB, 0}});
  Queue queue;
  const auto large = queue.wait(on_gpu(0, 80), Priority::normal);
  while (queue.ask(node, on_gpu(0, 1)).granted()) {
  }
  queue.forget(*large);
  EXPECT_TRUE(queue.ask(node, on_gpu(0, 1)).granted());
  EXPECT_EQ(queue.place(*large), std::nullopt);
}

TEST(Queue, HasAnEnd) {
  Queue queue;
  for (std::size_t i = 0; i < kMostWaiting; ++i)
    ASSERT_TRUE(queue.wait(on_gpu(0, 1), Priority::normal));
  EXPECT_FALSE(queue.wait(on_gpu(0, 1), Priority::normal));
}

// Small ones arrive without end, at every priority; large ones among them. Each large one that
// fits an empty node is served, and on a GPU that it named nobody who came later got in more than
// kMostOvertaken times.
TEST(QueueProperties, EverybodyIsServedAndNobodyIsPassedTooOften) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t bound) { return random() % bound; };
    Node node = node_of(1 + below(4));
    Queue queue;
    struct Wanted {
      Wish wish;
      int since;
      unsigned passed = 0;
    };
    std::map<Ticket, Wanted> waiting;
    std::vector<int> until;  // parallel to node.tenants
    const auto let_in = [&](const std::vector<Part>& parts, Ticket ticket, int now) {
      enter(node, parts);
      until.push_back(now + 1 + static_cast<int>(below(20)));
      for (auto& [other, wanted] : waiting) {
        if (other >= ticket || wanted.wish.named.empty()) continue;
        for (const Part& part : parts) {
          if (part.gpu == wanted.wish.named.front().gpu) ++wanted.passed;
        }
        EXPECT_LE(wanted.passed, kMostOvertaken);
      }
    };
    constexpr int kArrivalsEnd = 300;
    int now = 0;
    for (; now < kArrivalsEnd || !waiting.empty(); ++now) {
      ASSERT_LT(now, 20 * kArrivalsEnd) << waiting.size() << " wait for ever";
      for (std::size_t i = node.tenants.size(); i-- > 0;) {
        if (until[i] > now) continue;
        node.tenants.erase(node.tenants.begin() + static_cast<std::ptrdiff_t>(i));
        until.erase(until.begin() + static_cast<std::ptrdiff_t>(i));
      }
      if (now < kArrivalsEnd) {
        const bool large = below(8) == 0;
        const std::uint64_t gib = large ? 60 + below(21) : 1 + below(20);
        const Wish wish = below(2) == 0 ? on_gpu(below(node.gpus.size()), gib)
                                        : anywhere(1 + below(node.gpus.size()), gib);
        const Decision decision = queue.ask(node, wish);
        if (decision.granted()) {
          let_in(decision.parts, UINT64_MAX, now);
        } else {
          ASSERT_TRUE(decision.refusal->waiting_helps);
          if (const auto ticket = queue.wait(wish, static_cast<Priority>(below(3))))
            waiting[*ticket] = {wish, now};
        }
      }
      while (const auto admitted = queue.admit(node)) {
        ASSERT_EQ(waiting.erase(admitted->ticket), 1u);
        let_in(admitted->parts, admitted->ticket, now);
      }
    }
    EXPECT_EQ(queue.size(), 0u);
  }
}

// The same without an end of arrivals: a large one is served while small ones go on coming.
TEST(QueueProperties, AnEndlessStreamOfSmallOnesStarvesNobody) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    Node node = node_of(1 + random() % 3);
    Queue queue;
    std::vector<int> until;
    const std::size_t count = 1 + random() % node.gpus.size();
    std::optional<Ticket> large;
    int now = 0;
    for (bool served = false; !served; ++now) {
      ASSERT_LT(now, 150) << "the large one starves";
      for (std::size_t i = node.tenants.size(); i-- > 0;) {
        if (until[i] > now) continue;
        node.tenants.erase(node.tenants.begin() + static_cast<std::ptrdiff_t>(i));
        until.erase(until.begin() + static_cast<std::ptrdiff_t>(i));
      }
      if (now == 50) large = queue.wait(anywhere(count, 80), Priority::low);
      for (int i = 0; i < 4; ++i) {
        const Wish small = anywhere(1, 1 + random() % 10);
        const Decision decision = queue.ask(node, small);
        if (decision.granted()) {
          enter(node, decision.parts);
          until.push_back(now + 5 + static_cast<int>(random() % 20));
        } else if (queue.size() < 20) {
          queue.wait(small, Priority::high);
        }
      }
      while (const auto admitted = queue.admit(node)) {
        served = served || admitted->ticket == large;
        enter(node, admitted->parts);
        until.push_back(now + 5 + static_cast<int>(random() % 20));
      }
    }
  }
}

}  // namespace
}  // namespace vgpu::admission
