// SPDX-License-Identifier: Apache-2.0
#include "compute/collectives.h"

#include <gtest/gtest.h>

#include <memory>

namespace vgpu::limiter {
namespace {

TEST(Collectives, AreKnownByTheirNames) {
  for (const char* const name :
       {"_Z40ncclDevKernel_AllReduce_Sum_f32_RING_LL24ncclDevKernelArgsStorageILm4096EE",
        "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t", "ncclSymkDevKernel_AllGather_LL",
        "_ZN4vllm26cross_device_reduce_1stageIfLi2EEEvPNS_8RankDataE", "oneShotAllReduceKernel",
        "nvshmemi_barrier_all_kernel", "NCCL", "my_all_to_all"}) {
    EXPECT_TRUE(is_collective_name(name)) << name;
  }
  for (const char* const name :
       {"", "n", "ncc", "ncc_l", "_ZN2at6native13reduce_kernelILi512ELi1E", "all_reduc",
        "ampere_sgemm_128x64_tn", "vectorized_elementwise_kernel"}) {
    EXPECT_FALSE(is_collective_name(name)) << name;
  }
}

TEST(Collectives, AreThoseThatWereNoted) {
  const auto collectives = std::make_unique<Collectives>();
  EXPECT_FALSE(collectives->has(0x1000));
  collectives->note(0x1000, true);
  collectives->note(0x2000, false);
  EXPECT_TRUE(collectives->has(0x1000));
  EXPECT_FALSE(collectives->has(0x2000));
}

TEST(Collectives, AGraphIsNoFillOrCopyOfAnySize) {
  EXPECT_TRUE(is_graph(graph_work(reinterpret_cast<CUgraphExec>(0x3000))));
  for (std::uint64_t bytes = 1; bytes != 0; bytes <<= 1) {
    EXPECT_FALSE(is_graph(fill_work(bytes))) << bytes;
    EXPECT_FALSE(is_graph(copy_work(bytes | 1))) << bytes;
  }
  EXPECT_FALSE(is_graph(kernel_work(reinterpret_cast<CUfunction>(0x3000))));
}

// The module was unloaded, and another function has its handle.
TEST(Collectives, AHandleMayBeAnothersLater) {
  const auto collectives = std::make_unique<Collectives>();
  collectives->note(0x1000, true);
  collectives->note(0x1000, false);
  EXPECT_FALSE(collectives->has(0x1000));
  collectives->note(0x1000, true);
  EXPECT_TRUE(collectives->has(0x1000));
  collectives->reset_after_fork();
  EXPECT_FALSE(collectives->has(0x1000));
}

// NCCL has some hundred kernels. Of more than there is place for, some are taken for ordinary ones;
// none for another.
TEST(Collectives, ThereIsPlaceForThoseOfALibrary) {
  const auto collectives = std::make_unique<Collectives>();
  const auto function = [](std::uint64_t i) { return 0x7f0000000000 + i * 0x40; };
  for (std::uint64_t i = 0; i < 400; ++i) collectives->note(function(i), true);
  for (std::uint64_t i = 0; i < 400; ++i) EXPECT_TRUE(collectives->has(function(i))) << i;
  for (std::uint64_t i = 400; i < 5'000; ++i) collectives->note(function(i), true);
  for (std::uint64_t i = 5'000; i < 10'000; ++i) EXPECT_FALSE(collectives->has(function(i))) << i;
}

}  // namespace
}  // namespace vgpu::limiter
