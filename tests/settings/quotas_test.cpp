// SPDX-License-Identifier: Apache-2.0
// From variables to quotas: each way to say a limit, who wins over whom, and the one line that a
// bad value gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "environment.h"

namespace vgpu::settings {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::uint64_t limit_of(const Resolved& resolved, std::size_t gpu) {
  return resolved.quotas.per_gpu[gpu].memory_limit_bytes;
}
const Quota& quota_of(const Resolved& resolved, std::size_t gpu) {
  return resolved.quotas.per_gpu[gpu];
}

TEST(Quotas, GpuThatNoSettingNamesIsUnlimited) {
  const Resolved resolved = resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "1=2GiB"}});
  EXPECT_EQ(resolved.error(), "");
  ASSERT_EQ(resolved.quotas.per_gpu.size(), 3u);
  EXPECT_EQ(limit_of(resolved, 0), kNoLimit);
  EXPECT_EQ(limit_of(resolved, 1), 2 * kGiB);
  EXPECT_EQ(limit_of(resolved, 2), kNoLimit);
  EXPECT_EQ(quota_of(resolved, 0).memory_source, Source::none);
  EXPECT_EQ(quota_of(resolved, 1).memory_source, Source::vgpu);
}

TEST(Quotas, EmptyAndBlankValuesAreUnset) {
  for (const char* value : {"", " ", "\t\n"}) {
    const TableEnvironment environment{{"VGPU_MEMORY_LIMIT", value},
                                       {"TENSOR_FUSION_CUDA_MEM_LIMIT", value},
                                       {"VGPU_COMPUTE", value},
                                       {"CUDA_MEM_LIMIT_0", value}};
    EXPECT_FALSE(any_limit_set(environment));
    const Resolved resolved = resolve(environment);
    EXPECT_EQ(resolved.error(), "");
    EXPECT_EQ(resolved.notices(), "");
    EXPECT_EQ(limit_of(resolved, 0), kNoLimit);
  }
}

TEST(Quotas, OneValueIsForAllGpus) {
  const Resolved resolved = resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "4GiB"}});
  for (int gpu = 0; gpu < 3; ++gpu) EXPECT_EQ(limit_of(resolved, gpu), 4 * kGiB);
}

TEST(Quotas, GpuIsNamedByIndexUuidOrUniquePrefixInAnyCase) {
  for (const char* name :
       {"2", "GPU-ab12cd34-0000-1111-2222-333344445555", "gpu-AB12CD34-0000-1111-2222-333344445555",
        "ab12cd34-0000-1111-2222-333344445555", "GPU-ab", "Gpu-A", "aB12", "AB12CD34-00"}) {
    const Resolved resolved =
        resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", std::string(name) + " = 1GiB"}});
    EXPECT_EQ(resolved.error(), "") << name;
    EXPECT_EQ(limit_of(resolved, 2), kGiB) << name;
    EXPECT_EQ(limit_of(resolved, 0), kNoLimit) << name;
  }
}

TEST(Quotas, UuidBeatsIndexWithinOneVariable) {
  const std::string uuid(kUuid0);
  for (const std::string& text : {"0=1GiB," + uuid + "=2GiB", uuid + "=2GiB,0=1GiB"}) {
    EXPECT_EQ(limit_of(resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", text}}), 0), 2 * kGiB)
        << text;
  }
  const Resolved json = resolve(
      TableEnvironment{{"TENSOR_FUSION_CUDA_MEM_LIMIT",
                        "{\"0\": 1073741824, \"" + uuid + "\": 2147483648, \"1\": 3221225472}"}});
  EXPECT_EQ(json.error(), "");
  EXPECT_EQ(limit_of(json, 0), 2 * kGiB);
  EXPECT_EQ(limit_of(json, 1), 3 * kGiB);
}

TEST(Quotas, IndexBeatsAllGpusWithinOneFamily) {
  const Resolved hami = resolve(
      TableEnvironment{{"CUDA_DEVICE_MEMORY_LIMIT", "1g"}, {"CUDA_DEVICE_MEMORY_LIMIT_1", "2g"}});
  EXPECT_EQ(limit_of(hami, 0), kGiB);
  EXPECT_EQ(limit_of(hami, 1), 2 * kGiB);
  const Resolved manager =
      resolve(TableEnvironment{{"CUDA_MEM_LIMIT", "1g"}, {"CUDA_MEM_LIMIT_1", "2048m"}});
  EXPECT_EQ(limit_of(manager, 0), kGiB);
  EXPECT_EQ(limit_of(manager, 1), 2 * kGiB);
}

// Every pair of families: the stronger one wins on the GPU that it names, by whatever name, and
// nowhere else.
TEST(Quotas, StrongerFamilyWinsForEachGpu) {
  struct Saying {
    const char* variable;
    const char* for_gpu1;
    std::uint64_t bytes;
    Source source;
  };
  const Saying sayings[] = {
      {"VGPU_MEMORY_LIMIT", "1=4GiB", 4 * kGiB, Source::vgpu},
      {"TENSOR_FUSION_CUDA_MEM_LIMIT", "{\"1\": 5368709120}", 5 * kGiB, Source::tensor_fusion},
      {"CUDA_DEVICE_MEMORY_LIMIT_1", "6g", 6 * kGiB, Source::hami},
      {"CUDA_MEM_LIMIT_1", "7g", 7 * kGiB, Source::vgpu_manager},
  };
  for (std::size_t strong = 0; strong < 4; ++strong) {
    for (std::size_t weak = strong + 1; weak < 4; ++weak) {
      const Resolved resolved =
          resolve(TableEnvironment{{sayings[strong].variable, sayings[strong].for_gpu1},
                                   {sayings[weak].variable, sayings[weak].for_gpu1}});
      EXPECT_EQ(resolved.error(), "");
      EXPECT_EQ(limit_of(resolved, 1), sayings[strong].bytes)
          << sayings[strong].variable << " " << sayings[weak].variable;
      EXPECT_EQ(quota_of(resolved, 1).memory_source, sayings[strong].source);
      EXPECT_EQ(limit_of(resolved, 0), kNoLimit);
    }
  }
  // Family before name: an index of vgpu's beats a UUID of vgpu.rs's; where vgpu's is silent, the
  // other holds.
  const Resolved mixed =
      resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "0=1GiB"},
                               {"TENSOR_FUSION_CUDA_MEM_LIMIT",
                                "{\"" + std::string(kUuid0) + "\": 2147483648, \"2\": 3221225472}"},
                               {"CUDA_DEVICE_MEMORY_LIMIT", "4g"}});
  EXPECT_EQ(limit_of(mixed, 0), kGiB);
  EXPECT_EQ(limit_of(mixed, 1), 4 * kGiB);
  EXPECT_EQ(limit_of(mixed, 2), 3 * kGiB);
}

TEST(Quotas, EachQuantityIsDecidedByItself) {
  const Resolved resolved =
      resolve(TableEnvironment{{"VGPU_COMPUTE", "30"},
                               {"TENSOR_FUSION_CUDA_MEM_LIMIT", "{\"0\": 1073741824}"},
                               {"CUDA_CORE_LIMIT", "70"}});
  EXPECT_EQ(quota_of(resolved, 0).memory_source, Source::tensor_fusion);
  EXPECT_EQ(quota_of(resolved, 0).compute_source, Source::vgpu);
  EXPECT_EQ(quota_of(resolved, 0).compute_share_percent, 30);
}

TEST(Quotas, NoneLiftsWhatAWeakerSettingLimits) {
  const Resolved resolved = resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "0=none"},
                                                     {"VGPU_COMPUTE", "none"},
                                                     {"CUDA_DEVICE_MEMORY_LIMIT", "1g"},
                                                     {"CUDA_DEVICE_SM_LIMIT", "20"}});
  EXPECT_EQ(limit_of(resolved, 0), kNoLimit);
  EXPECT_EQ(quota_of(resolved, 0).memory_source, Source::vgpu);
  EXPECT_EQ(limit_of(resolved, 1), kGiB);
  EXPECT_FALSE(quota_of(resolved, 1).limits_compute());
  EXPECT_EQ(limit_of(resolve(TableEnvironment{{"TENSOR_FUSION_CUDA_MEM_LIMIT", "{\"0\": \"none\"}"},
                                              {"CUDA_MEM_LIMIT", "1g"}}),
                     0),
            kNoLimit);
}

TEST(Quotas, ComputeOfVgpuIsAnElasticShareUnlessItSaysOtherwise) {
  Quota quota = quota_of(resolve(TableEnvironment{{"VGPU_COMPUTE", "30"}}), 0);
  EXPECT_EQ(quota.compute_share_percent, 30);
  EXPECT_EQ(quota.compute_limit_percent, 0);
  EXPECT_EQ(quota.policy, Policy::elastic);
  quota =
      quota_of(resolve(TableEnvironment{{"VGPU_COMPUTE", "30"}, {"VGPU_COMPUTE_LIMIT", "60"}}), 0);
  EXPECT_EQ(quota.compute_limit_percent, 60);
  quota = quota_of(resolve(TableEnvironment{{"VGPU_COMPUTE", "30"}, {"VGPU_POLICY", "Fixed"}}), 0);
  EXPECT_EQ(quota.compute_limit_percent, 30);
  EXPECT_EQ(quota.policy, Policy::fixed);
  quota = quota_of(
      resolve(TableEnvironment{{"VGPU_COMPUTE_LIMIT", "0=60"}, {"VGPU_PRIORITY", "0=high"}}), 0);
  EXPECT_EQ(quota.compute_share_percent, 0);
  EXPECT_EQ(quota.compute_limit_percent, 60);
  EXPECT_EQ(quota.priority, Priority::high);
}

TEST(Quotas, LimitsOfOthersAreFixed) {
  for (const auto& [name, value, source] :
       {std::tuple{"TENSOR_FUSION_CUDA_UP_LIMIT", "{\"0\": 40}", Source::tensor_fusion},
        std::tuple{"CUDA_DEVICE_SM_LIMIT", "40", Source::hami},
        std::tuple{"CUDA_DEVICE_SM_LIMIT_0", "40", Source::hami},
        std::tuple{"CUDA_CORE_LIMIT_0", "40", Source::vgpu_manager}}) {
    const Quota quota = quota_of(resolve(TableEnvironment{{name, value}}), 0);
    EXPECT_EQ(quota.compute_share_percent, 40) << name;
    EXPECT_EQ(quota.compute_limit_percent, 40) << name;
    EXPECT_EQ(quota.policy, Policy::fixed) << name;
    EXPECT_EQ(quota.compute_source, source) << name;
  }
}

TEST(Quotas, PolicyAndLimitOfVgpuQualifyAForeignLimit) {
  Quota quota = quota_of(resolve(TableEnvironment{{"TENSOR_FUSION_CUDA_UP_LIMIT", "{\"0\": 40}"},
                                                  {"VGPU_POLICY", "elastic"}}),
                         0);
  EXPECT_EQ(quota.compute_share_percent, 40);
  EXPECT_EQ(quota.compute_limit_percent, 0);
  EXPECT_EQ(quota.policy, Policy::elastic);
  quota = quota_of(resolve(TableEnvironment{{"TENSOR_FUSION_CUDA_UP_LIMIT", "{\"0\": 40}"},
                                            {"VGPU_COMPUTE_LIMIT", "70"}}),
                   0);
  EXPECT_EQ(quota.compute_limit_percent, 70);
  EXPECT_EQ(quota.policy, Policy::elastic);
}

TEST(Quotas, HamiZeroAndAHundredAndMoreAreOff) {
  EXPECT_EQ(limit_of(resolve(TableEnvironment{{"CUDA_DEVICE_MEMORY_LIMIT", "0"},
                                              {"CUDA_MEM_LIMIT", "1g"}}),
                     0),
            kNoLimit);
  EXPECT_EQ(limit_of(resolve(TableEnvironment{{"CUDA_DEVICE_MEMORY_LIMIT", "1g"},
                                              {"CUDA_DEVICE_MEMORY_LIMIT_0", "0"}}),
                     0),
            kNoLimit);
  for (const char* off : {"0", "100", "101", "4000000000000000000000"}) {
    const Resolved resolved = resolve(TableEnvironment{{"CUDA_DEVICE_SM_LIMIT", off}});
    EXPECT_EQ(resolved.error(), "") << off;
    EXPECT_FALSE(quota_of(resolved, 0).limits_compute()) << off;
  }
  EXPECT_EQ(
      quota_of(resolve(TableEnvironment{{"CUDA_DEVICE_SM_LIMIT", "99"}}), 0).compute_limit_percent,
      99);
}

TEST(Quotas, HamiPolicyAndPriorityAreUnderstood) {
  const auto with_policy = [](const char* policy) {
    return quota_of(resolve(TableEnvironment{{"CUDA_DEVICE_SM_LIMIT", "40"},
                                             {"GPU_CORE_UTILIZATION_POLICY", policy}}),
                    0);
  };
  EXPECT_EQ(with_policy("FORCE").policy, Policy::fixed);
  EXPECT_EQ(with_policy("force").compute_limit_percent, 40);
  EXPECT_EQ(with_policy("DEFAULT").policy, Policy::elastic);
  EXPECT_EQ(with_policy("default").compute_share_percent, 40);
  EXPECT_EQ(with_policy("default").compute_limit_percent, 0);
  EXPECT_FALSE(with_policy("DISABLE").limits_compute());
  EXPECT_EQ(quota_of(resolve(TableEnvironment{{"CUDA_TASK_PRIORITY", "0"}}), 0).priority,
            Priority::high);
  EXPECT_EQ(quota_of(resolve(TableEnvironment{{"CUDA_TASK_PRIORITY", "1"}}), 0).priority,
            Priority::low);
  EXPECT_EQ(
      quota_of(resolve(TableEnvironment{{"CUDA_TASK_PRIORITY", "1"}, {"VGPU_PRIORITY", "normal"}}),
               0)
          .priority,
      Priority::normal);
}

TEST(Quotas, SoftLimitOfVgpuManagerMakesTheHardOneAShare) {
  const auto with = [](const char* hard, const char* soft) {
    return resolve(TableEnvironment{{"CUDA_CORE_LIMIT_0", hard}, {"CUDA_CORE_SOFT_LIMIT_0", soft}});
  };
  EXPECT_EQ(quota_of(with("40", "80"), 0).policy, Policy::elastic);
  EXPECT_EQ(quota_of(with("40", "80"), 0).compute_share_percent, 40);
  EXPECT_EQ(quota_of(with("40", "80"), 0).compute_limit_percent, 80);
  EXPECT_EQ(quota_of(with("40", "40"), 0).policy, Policy::fixed);
  EXPECT_EQ(quota_of(with("", "80"), 0).compute_limit_percent, 80);
  EXPECT_FALSE(quota_of(with("100", ""), 0).limits_compute());
  EXPECT_THAT(with("40", "20").error(), AllOf(StartsWith("CUDA_CORE_SOFT_LIMIT_0=\"20\", column 1"),
                                              HasSubstr("at least 40")));
  // It belongs to vgpu-manager's own limit, not to a share from elsewhere.
  const Resolved mixed =
      resolve(TableEnvironment{{"VGPU_COMPUTE", "90"}, {"CUDA_CORE_SOFT_LIMIT", "40"}});
  EXPECT_EQ(mixed.error(), "");
  EXPECT_EQ(quota_of(mixed, 0).compute_limit_percent, 0);
}

TEST(Quotas, SuffixOfVgpuManagerMeansTheDeviceThatItNames) {
  const Resolved resolved =
      resolve(TableEnvironment{{"CUDA_MEM_LIMIT_7", "1g"},
                               {"MANAGER_VISIBLE_DEVICE_7", std::string(kUuid2)},
                               {"CUDA_MEM_LIMIT_0", "2g"}});
  EXPECT_EQ(resolved.error(), "");
  EXPECT_EQ(limit_of(resolved, 2), kGiB);
  EXPECT_EQ(limit_of(resolved, 0), 2 * kGiB);
}

TEST(Quotas, SayWhichQuantitiesWereSet) {
  const Resolved resolved =
      resolve(TableEnvironment{{"VGPU_COMPUTE", "0=none"}, {"VGPU_PRIORITY", "1=normal"}});
  EXPECT_EQ(resolved.notices(), "");
  EXPECT_TRUE(resolved.quotas.set[0].share);
  EXPECT_FALSE(resolved.quotas.set[0].priority);
  EXPECT_FALSE(resolved.quotas.set[1].share);
  EXPECT_TRUE(resolved.quotas.set[1].priority);
  EXPECT_FALSE(resolved.quotas.set[1].memory);
}

TEST(Quotas, WhatCannotBeHonouredIsSaidOnce) {
  const Resolved resolved = resolve(TableEnvironment{{"CUDA_MEM_RATIO", "1.5"},
                                                     {"CUDA_MEM_RATIO_0", "2"},
                                                     {"CUDA_MEM_OVERSOLD_1", "true"},
                                                     {"CUDA_OVERSUBSCRIBE", "true"},
                                                     {"CUDA_DISABLE_CONTROL", "true"}});
  EXPECT_EQ(resolved.error(), "");
  EXPECT_EQ(resolved.messages.notices.size(), 4u) << resolved.notices();
  EXPECT_THAT(
      resolved.notices(),
      AllOf(HasSubstr("CUDA_MEM_RATIO=\"1.5\" is ignored"), HasSubstr("CUDA_MEM_OVERSOLD_1="),
            HasSubstr("CUDA_OVERSUBSCRIBE="), HasSubstr("CUDA_DISABLE_CONTROL=")));
  EXPECT_EQ(
      resolve(TableEnvironment{{"CUDA_OVERSUBSCRIBE", "false"}, {"CUDA_MEM_RATIO", "1"}}).notices(),
      "");
}

TEST(Quotas, LimitBelowOneContextIsRefused) {
  const Resolved resolved =
      resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "0=4GiB,1=100MiB"}}, 520 * kMiB);
  ASSERT_EQ(resolved.messages.errors.size(), 1u);
  EXPECT_EQ(resolved.error(),
            "VGPU_MEMORY_LIMIT=\"0=4GiB,1=100MiB\", column 10: 100 MiB can't be met: one context "
            "needs 520 MiB; write a larger size");
  EXPECT_EQ(
      resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "100MiB"}}, 520 * kMiB).messages.errors.size(),
      1u);
  EXPECT_EQ(resolve(TableEnvironment{{"VGPU_MEMORY_LIMIT", "520MiB"}}, 520 * kMiB).error(), "");
}

struct Bad {
  const char* name;
  const char* value;
  std::size_t column;
  const char* reason;
};

void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.name << "=" << bad.value; }

class BadValue : public testing::TestWithParam<Bad> {};

TEST_P(BadValue, IsRefusedInOneLineWithNameTextPlaceAndRemedy) {
  const Bad& bad = GetParam();
  const Resolved resolved = resolve(TableEnvironment{{bad.name, bad.value}});
  ASSERT_EQ(resolved.messages.errors.size(), 1u) << bad.name << "=" << bad.value;
  EXPECT_THAT(resolved.error(), StartsWith(std::string(bad.name) + "=\"")) << bad.value;
  EXPECT_THAT(resolved.error(), HasSubstr("\", column " + std::to_string(bad.column) + ": "))
      << bad.value;
  EXPECT_THAT(resolved.error(), HasSubstr(bad.reason)) << bad.value;
  EXPECT_EQ(resolved.error().find('\n'), std::string::npos);
}

constexpr char kMem[] = "TENSOR_FUSION_CUDA_MEM_LIMIT";
constexpr char kUp[] = "TENSOR_FUSION_CUDA_UP_LIMIT";

INSTANTIATE_TEST_SUITE_P(
    Json, BadValue,
    testing::Values(Bad{kMem, "1073741824", 1, "not a JSON object"},
                    Bad{kMem, "[1]", 1, "not a JSON object"}, Bad{kMem, "{", 2, "ends before"},
                    Bad{kMem, "{\"0\"", 5, "colon"}, Bad{kMem, "{\"0\":", 6, "ends before a value"},
                    Bad{kMem, "{\"0\": 1073741824", 17, "ends before the closing brace"},
                    Bad{kMem, "{\"0\": 1073741824,}", 18, "in double quotes"},
                    Bad{kMem, "{0: 1073741824}", 2, "in double quotes"},
                    Bad{kMem, "{'0': 1073741824}", 2, "in double quotes"},
                    Bad{kMem, "{\"0: 1}", 2, "closing quote"},
                    Bad{kMem, "{\"0\": 1073741824} x", 19, "something follows"},
                    Bad{kMem, "{\"0\": 1 \"1\": 1}", 9, "a comma or }"},
                    Bad{kMem, "{\"0\": abc}", 7, "a number is expected"},
                    Bad{kMem, "{\"0\": 01}", 7, "leading zero"},
                    Bad{kMem, "{\"0\": 1.}", 9, "digits are missing"},
                    Bad{kMem, "{\"0\": {\"a\": 1}}", 7, "nested"},
                    Bad{kMem, "{\"0\": null}", 7, "not a whole number of bytes"},
                    Bad{kMem, "{\"0\": true}", 7, "not a whole"},
                    Bad{kMem, "{\"0\": 1.5}", 7, "not a whole number"},
                    Bad{kMem, "{\"0\": 1e9}", 7, "not a whole number"},
                    Bad{kMem, "{\"\\u0030\": 1}", 3, "escape"},
                    Bad{kMem, "{\"0\": 0}", 7, "is zero"}, Bad{kMem, "{\"0\": -1}", 7, "negative"},
                    Bad{kMem, "{\"0\": 9223372036854775808}", 7, "2^63"},
                    Bad{kMem, "{\"0\": \"1073741824\"}", 7, "drop the quotes"},
                    Bad{kMem, "{\"0\": \"4GiB\"}", 7, "VGPU_MEMORY_LIMIT"},
                    Bad{kMem, "{\"0\": 1, \"0\": 2}", 11, "second time"},
                    Bad{kMem,
                        "{\"GPU-ab12cd34-0000-1111-2222-333344445555\": 1, "
                        "\"gpu-AB12CD34-0000-1111-2222-333344445555\": 2}",
                        50, "second time"},
                    Bad{kMem, "{\"ab\": 1, \"GPU-ab12\": 2}", 12, "second time"},
                    Bad{kMem, "{\"3\": 1}", 3, "there are 3 GPUs"},
                    Bad{kMem, "{\"GPU-ffff\": 1}", 3, "no GPU here"},
                    Bad{kMem, "{\"GPU-3430\": 1}", 3, "fits several"},
                    Bad{kMem, "{\"cuda:0\": 1}", 3, "names no GPU"},
                    Bad{kMem, "{\"\": 1}", 3, "no GPU named"},
                    Bad{kUp, "{\"0\": 101}", 7, "over 100"}, Bad{kUp, "{\"0\": 0}", 7, "zero"},
                    Bad{kUp, "{\"0\": -10}", 7, "negative"},
                    Bad{kUp, "{\"0\": 12.5}", 7, "whole number"},
                    Bad{kUp, "{\"0\": \"20\"}", 7, "drop the quotes"},
                    Bad{kUp, "{\"0\": 20, \"0\": 30}", 12, "second time"},
                    Bad{kUp, "{\"9\": 20}", 3, "no GPU here"}));

constexpr char kVgpuMem[] = "VGPU_MEMORY_LIMIT";

INSTANTIATE_TEST_SUITE_P(
    Vgpu, BadValue,
    testing::Values(
        Bad{kVgpuMem, "0", 1, "is zero"}, Bad{kVgpuMem, "-1G", 1, "negative"},
        Bad{kVgpuMem, "lots", 1, "not a size"}, Bad{kVgpuMem, "4Q", 2, "not a unit"},
        Bad{kVgpuMem, "8388608T", 1, "2^63"}, Bad{kVgpuMem, "0=", 3, "nothing there"},
        Bad{kVgpuMem, "0=4Q", 4, "not a unit"}, Bad{kVgpuMem, "=4G", 1, "no GPU named"},
        Bad{kVgpuMem, "0=4G,", 6, "empty entry"}, Bad{kVgpuMem, ",0=4G", 1, "empty entry"},
        Bad{kVgpuMem, "0=4G,,1=4G", 6, "empty entry"}, Bad{kVgpuMem, "4G,1=2G", 1, "names no GPU"},
        Bad{kVgpuMem, "0=4G,2G", 6, "names no GPU"}, Bad{kVgpuMem, "4G,2G", 1, "names no GPU"},
        Bad{kVgpuMem, "0=4G, 0=2G", 7, "second time"},
        Bad{kVgpuMem, "ab=4G,AB12=2G", 7, "second time"}, Bad{kVgpuMem, "3=4G", 1, "no GPU here"},
        Bad{kVgpuMem, "34=4G", 1, "no GPU here"}, Bad{kVgpuMem, "123456=4G", 1, "written GPU-"},
        Bad{kVgpuMem, "4294967296=4G", 1, "no GPU here"},
        Bad{kVgpuMem, "00=4G", 1, "leading zeros"}, Bad{kVgpuMem, "GPU-3430=4G", 1, "fits several"},
        Bad{kVgpuMem, "GPU-=4G", 1, "names no GPU"},
        Bad{kVgpuMem, "MIG-ab12cd34=4G", 1, "names no GPU"},
        Bad{kVgpuMem, "GPU-ab12cd34-0000-1111-2222-3333444455556=4G", 1, "names no GPU"},
        Bad{kVgpuMem, "\"4G\"", 1, "not a size"}, Bad{"VGPU_COMPUTE", "0", 1, "zero"},
        Bad{"VGPU_COMPUTE", "101", 1, "over 100"}, Bad{"VGPU_COMPUTE", "-3", 1, "negative"},
        Bad{"VGPU_COMPUTE", "30%", 1, "whole number"},
        Bad{"VGPU_COMPUTE", "1=2.5", 3, "whole number"},
        Bad{"VGPU_COMPUTE_LIMIT", "1000", 1, "over 100"},
        Bad{"VGPU_POLICY", "hard", 1, "elastic or fixed"},
        Bad{"VGPU_POLICY", "0=hard", 3, "elastic or fixed"},
        Bad{"VGPU_PRIORITY", "urgent", 1, "high, normal or low"},
        Bad{"VGPU_GPUS", "0,7", 3, "no GPU here"}, Bad{"VGPU_GPUS", "0,", 3, "no GPU named"},
        Bad{"VGPU_GPUS", "1,GPU-3430a", 3, "second time"},
        Bad{"VGPU_GPUS", "GPU-3430", 1, "fits several"},
        Bad{"VGPU_GPUS", "none", 1, "names no GPU"},
        Bad{"VGPU_ON_ERROR", "ignore", 1, "refuse or open"}, Bad{"VGPU_LOG", "loud", 1, "debug"},
        Bad{"VGPU_LOG", "info:", 5, "no file"}, Bad{"VGPU_SIMULATED", "maybe", 1, "true"},
        Bad{"VGPU_ACK", "?", 1, "true"}));

INSTANTIATE_TEST_SUITE_P(
    Others, BadValue,
    testing::Values(
        Bad{"CUDA_DEVICE_MEMORY_LIMIT", "-1", 1, "negative"},
        Bad{"CUDA_DEVICE_MEMORY_LIMIT", "3x", 2, "not a unit"},
        Bad{"CUDA_DEVICE_MEMORY_LIMIT", "9999999999g", 1, "2^63"},
        Bad{"CUDA_DEVICE_MEMORY_LIMIT_1", "0k", 1, "is zero"},
        Bad{"CUDA_DEVICE_MEMORY_LIMIT_3", "1g", 1, "no GPU here"},
        Bad{"CUDA_DEVICE_SM_LIMIT", "-1", 1, "not a percentage"},
        Bad{"CUDA_DEVICE_SM_LIMIT", "half", 1, "not a percentage"},
        Bad{"CUDA_DEVICE_SM_LIMIT_31", "50", 1, "no GPU here"},
        Bad{"GPU_CORE_UTILIZATION_POLICY", "never", 1, "force, default or disable"},
        Bad{"CUDA_TASK_PRIORITY", "2", 1, "0 or 1"}, Bad{"CUDA_MEM_LIMIT", "0", 1, "is zero"},
        Bad{"CUDA_MEM_LIMIT_0", "-5m", 1, "negative"},
        Bad{"CUDA_MEM_LIMIT_4", "5m", 1, "no GPU here"}, Bad{"CUDA_CORE_LIMIT", "0", 1, "zero"},
        Bad{"CUDA_CORE_LIMIT_0", "101", 1, "over 100"},
        Bad{"CUDA_CORE_SOFT_LIMIT", "200", 1, "over 100"},
        Bad{"MANAGER_VISIBLE_DEVICES", "GPU-ffff", 1, "no GPU here"},
        Bad{"MANAGER_VISIBLE_DEVICE", "GPU-ab", 1, "needs the index"},
        Bad{"MANAGER_VISIBLE_DEVICE_0", "GPU-ffff", 1, "no GPU here"},
        Bad{"TF_GPU_MEMORY_LIMIT", "1024", 1, "is refused"},
        Bad{"TF_CUDA_MEMORY_LIMIT", "1024", 1, "is refused"},
        Bad{"TF_CUDA_SM_PERCENT_LIMIT", "20", 1, "is refused"},
        Bad{"TF_ISOLATION_MODE", "hard", 1, "can't be kept"},
        Bad{"TF_ISOLATION_MODE", "partitioned", 1, "can't be kept"},
        Bad{"TF_ISOLATION_MODE", "firm", 1, "soft or shared"},
        Bad{"ENABLE_CUDA_HOOKS", "never", 1, "true"}, Bad{"ENABLE_NVML_HOOKS", "2", 1, "true"},
        Bad{"TF_ENABLE_LOG", "perhaps", 1, "true"}));

TEST(Quotas, ContradictionsAreRefused) {
  EXPECT_THAT(
      resolve(TableEnvironment{{"VGPU_COMPUTE", "50"}, {"VGPU_COMPUTE_LIMIT", "0=60, 1=20"}})
          .error(),
      AllOf(StartsWith("VGPU_COMPUTE_LIMIT=\"0=60, 1=20\", column 9: 20 percent is below"),
            HasSubstr("VGPU_COMPUTE")));
  EXPECT_THAT(
      resolve(TableEnvironment{
                  {"VGPU_COMPUTE", "50"}, {"VGPU_COMPUTE_LIMIT", "60"}, {"VGPU_POLICY", "fixed"}})
          .error(),
      StartsWith("VGPU_POLICY=\"fixed\", column 1: fixed means"));
  EXPECT_THAT(
      resolve(TableEnvironment{{"VGPU_COMPUTE_LIMIT", "60"}, {"VGPU_POLICY", "fixed"}}).error(),
      HasSubstr("VGPU_COMPUTE_LIMIT is 60"));
  EXPECT_THAT(resolve(TableEnvironment{{"TENSOR_FUSION_CUDA_UP_LIMIT", "{\"0\": 40}"},
                                       {"VGPU_COMPUTE_LIMIT", "30"}})
                  .error(),
              HasSubstr("TENSOR_FUSION_CUDA_UP_LIMIT"));
  EXPECT_EQ(
      resolve(TableEnvironment{
                  {"VGPU_COMPUTE", "50"}, {"VGPU_COMPUTE_LIMIT", "50"}, {"VGPU_POLICY", "fixed"}})
          .error(),
      "");
}

TEST(Quotas, MissingDeviceOfVgpuManagersSuffixIsRefused) {
  const Resolved resolved = resolve(
      TableEnvironment{{"CUDA_MEM_LIMIT_7", "1g"}, {"MANAGER_VISIBLE_DEVICE_7", "GPU-ffff"}});
  EXPECT_EQ(resolved.messages.errors.size(), 2u);
  EXPECT_THAT(resolved.error(),
              AllOf(StartsWith("CUDA_MEM_LIMIT_7="), HasSubstr("MANAGER_VISIBLE_DEVICE_7 names")));
}

TEST(Quotas, LongAndUnprintableValuesAreQuotedShort) {
  const std::string padding(5000, ' ');
  const Resolved resolved = resolve(
      TableEnvironment{{"TENSOR_FUSION_CUDA_MEM_LIMIT", "{" + padding + "\x1b[2J\xff" + padding}});
  EXPECT_LT(resolved.error().size(), 300u);
  EXPECT_THAT(resolved.error(), HasSubstr("column 5002"));
  for (const char c : resolved.error()) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
  EXPECT_FALSE(resolved.messages.errors[0].truncated());
}

TEST(Quotas, EachBadVariableHasItsOwnLine) {
  TableEnvironment environment;
  for (int i = 0; i < 31; ++i) environment.set("CUDA_MEM_LIMIT_" + std::to_string(i), "bad");
  environment.set("VGPU_MEMORY_LIMIT", "bad");
  const Resolved resolved = resolve(environment);
  EXPECT_EQ(resolved.messages.errors.size(), 16u);
  EXPECT_THAT(resolved.error(), StartsWith("VGPU_MEMORY_LIMIT"));
}

TEST(Syntax, IsCheckedWithoutKnowingTheGpus) {
  Messages messages;
  check_syntax(TableEnvironment{{"VGPU_MEMORY_LIMIT", "GPU-ffff=1G,63=2G"},
                                {"CUDA_MEM_LIMIT_9", "1g"},
                                {"VGPU_GPUS", "5"}},
               messages);
  EXPECT_TRUE(messages.errors.empty()) << messages.errors[0].view();
  check_syntax(TableEnvironment{{"VGPU_MEMORY_LIMIT", "GPU-ffff=1G,gpu-FFFF=2G"}}, messages);
  check_syntax(TableEnvironment{{"TENSOR_FUSION_CUDA_UP_LIMIT", "{\"0\": 200}"}}, messages);
  check_syntax(TableEnvironment{{"VGPU_LOG", "loud"}, {"VGPU_COMPUTE", "30"}}, messages);
  EXPECT_EQ(messages.errors.size(), 3u);
  check_syntax(TableEnvironment{{"CUDA_OVERSUBSCRIBE", "true"}}, messages);
  EXPECT_EQ(messages.notices.size(), 1u);
}

TEST(GpuSet, IsAllUnlessRestricted) {
  const auto set_of = [](const TableEnvironment& environment) {
    FixedVector<std::uint32_t, kMaxGpus> positions;
    Messages messages;
    const std::vector<GpuIdentity> gpus = machine();
    resolve_gpu_set(environment, gpus, positions, messages);
    EXPECT_TRUE(messages.errors.empty());
    return std::vector<std::uint32_t>(positions.begin(), positions.end());
  };
  using Positions = std::vector<std::uint32_t>;
  EXPECT_EQ(set_of(TableEnvironment{}), (Positions{0, 1, 2}));
  EXPECT_EQ(set_of(TableEnvironment{{"VGPU_GPUS", "all"}}), (Positions{0, 1, 2}));
  EXPECT_EQ(set_of(TableEnvironment{{"VGPU_GPUS", "GPU-AB, 0"}}), (Positions{0, 2}));
  EXPECT_EQ(set_of(TableEnvironment{{"MANAGER_VISIBLE_DEVICES", std::string(kUuid1)}}),
            (Positions{1}));
  EXPECT_EQ(set_of(TableEnvironment{{"MANAGER_VISIBLE_DEVICE_0", std::string(kUuid1)},
                                    {"MANAGER_VISIBLE_DEVICE_1", std::string(kUuid2)}}),
            (Positions{1, 2}));
  EXPECT_EQ(set_of(TableEnvironment{
                {"MANAGER_VISIBLE_DEVICE_0", std::string(kUuid1)},
                {"MANAGER_VISIBLE_DEVICES", std::string(kUuid1) + "," + std::string(kUuid2)}}),
            (Positions{1, 2}));
  EXPECT_EQ(set_of(TableEnvironment{{"VGPU_GPUS", "0"},
                                    {"MANAGER_VISIBLE_DEVICES", std::string(kUuid1)}}),
            (Positions{0}));
}

bool any_limit_in(const std::vector<std::string>& entries) {
  std::vector<const char*> environment;
  for (const std::string& entry : entries) environment.push_back(entry.c_str());
  environment.push_back(nullptr);
  return any_limit_set(environment.data());
}

// What the one-pass form skips by its first letter must not be one that counts.
TEST(Tenant, IsFoundAlikeInBothForms) {
  for (const Variable& variable : variables()) {
    for (const std::string& name :
         {std::string(variable.name), std::string(variable.name) + "_3"}) {
      if (find_variable(name) == nullptr) continue;
      EXPECT_EQ(any_limit_in({name + "=1"}), any_limit_set(TableEnvironment{{name, "1"}})) << name;
    }
  }
  EXPECT_FALSE(any_limit_set(static_cast<const char* const*>(nullptr)));
  EXPECT_FALSE(any_limit_in({}));
}

TEST(Tenant, IsWhoeverCarriesALimit) {
  for (const char* name :
       {"VGPU_MEMORY_LIMIT", "VGPU_COMPUTE", "VGPU_COMPUTE_LIMIT", "VGPU_POLICY", "VGPU_PRIORITY",
        "VGPU_GPUS", "TENSOR_FUSION_CUDA_MEM_LIMIT", "TENSOR_FUSION_CUDA_UP_LIMIT",
        "CUDA_DEVICE_MEMORY_LIMIT", "CUDA_DEVICE_MEMORY_LIMIT_0", "CUDA_DEVICE_MEMORY_LIMIT_31",
        "CUDA_DEVICE_SM_LIMIT_2", "CUDA_MEM_LIMIT", "CUDA_MEM_LIMIT_3", "CUDA_CORE_LIMIT",
        "CUDA_CORE_SOFT_LIMIT_1", "MANAGER_VISIBLE_DEVICES", "MANAGER_VISIBLE_DEVICE_1",
        "TF_GPU_MEMORY_LIMIT"}) {
    EXPECT_TRUE(any_limit_set(TableEnvironment{{name, "1"}})) << name;
    EXPECT_TRUE(any_limit_in({"PATH=/bin", std::string(name) + "=1"})) << name;
    EXPECT_FALSE(
        any_limit_in({std::string(name) + "= ", std::string(name), "X" + std::string(name) + "=1"}))
        << name;
  }
  for (const char* name : {"VGPU_LOG", "VGPU_TENANT", "CUDA_VISIBLE_DEVICES",
                           "GPU_CORE_UTILIZATION_POLICY", "CUDA_TASK_PRIORITY", "POD_NAME",
                           "CUDA_OVERSUBSCRIBE", "TF_LOG_PATH", "NVIDIA_VISIBLE_DEVICES"}) {
    EXPECT_FALSE(any_limit_set(TableEnvironment{{name, "1"}})) << name;
    EXPECT_FALSE(any_limit_in({std::string(name) + "=1"})) << name;
  }
}

}  // namespace
}  // namespace vgpu::settings
