// SPDX-License-Identifier: Apache-2.0
#include "ledger/handle_map.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>
#include <vector>

namespace vgpu::limiter {
namespace {

TEST(HandleMap, AgreesWithAnOrderedMapUnderRandomOperations) {
  for (const unsigned seed : {1U, 2U, 3U, 20U}) {
    std::mt19937_64 random{seed};
    HandleMap<std::uint64_t, 2> map;
    std::map<std::uint64_t, std::uint64_t> oracle;
    for (int step = 0; step < 60000; ++step) {
      // Few distinct keys, aligned as handles are, so that runs collide and shift.
      const std::uint64_t key = (1 + random() % 900) * (step % 2 == 0 ? 512 : 1ULL << 21);
      std::uint64_t taken = 0;
      switch (random() % 3) {
        case 0:
          ASSERT_TRUE(map.insert(key, static_cast<std::uint64_t>(step)));
          oracle[key] = static_cast<std::uint64_t>(step);
          break;
        case 1:
          ASSERT_EQ(map.take(key, taken), oracle.erase(key) == 1)
              << "seed " << seed << " step " << step;
          break;
        default:
          ASSERT_EQ(map.find(key, taken), oracle.contains(key))
              << "seed " << seed << " step " << step;
          if (oracle.contains(key)) {
            ASSERT_EQ(taken, oracle[key]);
          }
      }
    }
    ASSERT_EQ(map.size(), oracle.size());
    map.clear();
  }
}

TEST(HandleMap, SweepRemovesExactlyWhatItIsToldTo) {
  HandleMap<std::uint64_t, 1> map;
  for (std::uint64_t key = 1; key <= 5000; ++key) map.insert(key * 16, key);
  map.sweep([](std::uint64_t, std::uint64_t& value) { return value % 3 == 0; });
  EXPECT_EQ(map.size(), 1666U);
  for (std::uint64_t key = 1; key <= 5000; ++key) {
    std::uint64_t value = 0;
    ASSERT_EQ(map.find(key * 16, value), key % 3 == 0) << key;
  }
  map.clear();
}

TEST(HandleMap, NeverStoresTheNullHandle) {
  HandleMap<std::uint64_t> map;
  EXPECT_FALSE(map.insert(0, 7));
  std::uint64_t value = 0;
  EXPECT_FALSE(map.find(0, value));
  EXPECT_EQ(map.size(), 0U);
}

TEST(HandleMap, LosesNothingWhenThreadsInsertAndTakeTheirOwnKeys) {
  HandleMap<std::uint64_t> map;
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&map, thread] {
      for (std::uint64_t round = 0; round < 20; ++round) {
        for (std::uint64_t i = 1; i <= 500; ++i) ASSERT_TRUE(map.insert((i * 8 + thread) << 9, i));
        for (std::uint64_t i = 1; i <= 500; ++i) {
          std::uint64_t value = 0;
          ASSERT_TRUE(map.take((i * 8 + thread) << 9, value));
          ASSERT_EQ(value, i);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(map.size(), 0U);
  map.clear();
}

}  // namespace
}  // namespace vgpu::limiter
