// SPDX-License-Identifier: Apache-2.0
// The table of GPU models: what is right, and that what isn't is refused with its place.
#include "gpu_capacity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kTable = R"(
- model: A100_SXM_80G
  fullModelName: "NVIDIA A100-SXM4-80GB"
  vendor: NVIDIA
  costPerHour: 1.89
  fp16TFlops: 312
- model: H200
  fullModelName: "NVIDIA H200"
  vendor: NVIDIA
  fp16TFlops: "989"
)";

std::string fault_of(const std::string& yaml) {
  try {
    GpuCapacity::parse(yaml, "gpu-info.yaml");
  } catch (const CapacityError& error) {
    return error.what;
  }
  return "";
}

TEST(GpuCapacity, FindsAModelByEitherName) {
  const GpuCapacity capacity = GpuCapacity::parse(kTable, "gpu-info.yaml");
  EXPECT_EQ(capacity.models().size(), 2U);
  EXPECT_EQ(capacity.tflops_of("H200"), 989);
  EXPECT_EQ(capacity.tflops_of("NVIDIA A100-SXM4-80GB"), 312);
  EXPECT_FALSE(capacity.tflops_of("nvidia h200"));
}

TEST(GpuCapacity, TurnsTflopsIntoPercent) {
  const GpuCapacity capacity = GpuCapacity::parse(kTable, "gpu-info.yaml");
  EXPECT_EQ(capacity.percent_of("H200", 989), 100U);
  EXPECT_EQ(capacity.percent_of("H200", 494), 50U);
  EXPECT_EQ(capacity.percent_of("H200", 0.5), 1U) << "never nothing";
  EXPECT_EQ(capacity.percent_of("H200", 990), 100U) << "rounded";
}

TEST(GpuCapacity, RefusesWhatIsNotInItInsteadOfGivingAll) {
  const GpuCapacity capacity = GpuCapacity::parse(kTable, "gpu-info.yaml");
  const auto error = [&](const char* name, double tflops) -> std::string {
    try {
      static_cast<void>(capacity.percent_of(name, tflops));
    } catch (const CapacityError& caught) {
      return caught.what;
    }
    return "";
  };
  EXPECT_THAT(error("NVIDIA H100", 100), HasSubstr("\"NVIDIA H100\" isn't in gpu-info.yaml"));
  EXPECT_THAT(error("H200", 2000), HasSubstr("more than the 989"));
  EXPECT_THAT(error("H200", 994.5), HasSubstr("more than the 989")) << "101 %";
  EXPECT_THAT(error("H200", 1e300), HasSubstr("more than the 989"));
  EXPECT_THAT(error("H200", 0), HasSubstr("above 0"));
  EXPECT_THAT(error("H200", std::numeric_limits<double>::quiet_NaN()), HasSubstr("above 0"));
}

TEST(GpuCapacity, SaysWhereAndWhatIsWrong) {
  EXPECT_THAT(fault_of("{}"), HasSubstr("holds a map; a list"));
  EXPECT_THAT(fault_of(""), HasSubstr("holds nothing; a list"));
  EXPECT_THAT(fault_of("- 3"), HasSubstr("gpu-info.yaml:1: entry 1: is \"3\"; a map"));
  EXPECT_THAT(fault_of("- model: A\n- fp16TFlops: 1\n"), HasSubstr("entry 1: has no fp16TFlops"));
  EXPECT_THAT(fault_of("- fp16TFlops: 1\n"), HasSubstr("neither model nor fullModelName"));
  EXPECT_THAT(fault_of("- model: A\n  fp16TFlops: fast\n"),
              HasSubstr("fp16TFlops is \"fast\"; a number above 0"));
  EXPECT_THAT(fault_of("- model: A\n  fp16TFlops: 0\n"), HasSubstr("fp16TFlops is \"0\""));
  EXPECT_THAT(fault_of("- model: A\n  fp16TFlops: .inf\n"), HasSubstr("fp16TFlops"));
  EXPECT_THAT(fault_of("- model: A\n  fp16TFlops: [1]\n"), HasSubstr("is a list"));
  EXPECT_THAT(fault_of("- model: A\n  fp16TFlops: 1\n- model: A\n  fp16TFlops: 2\n"),
              HasSubstr("entry 2: \"A\" has 2 TFLOPS here and 1 above"));
  EXPECT_THAT(fault_of("- model: [\n"), HasSubstr("no YAML"));
  EXPECT_THAT(fault_of(std::string(100'000, '[')), HasSubstr("nested"));
  EXPECT_THAT(fault_of(std::string(GpuCapacity::kMostBytes + 1, ' ')), HasSubstr("larger"));
}

TEST(GpuCapacity, BreaksOnNoInput) {
  for (unsigned seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    std::string text = kTable;
    for (auto i = 1 + random() % 12; i > 0; --i) {
      const std::size_t at = random() % text.size();
      constexpr std::string_view kSpice = "[]{}:-&*!|>'\"%@`#,?\n\t 0.e\xff\x00";
      const char c = kSpice[random() % kSpice.size()];
      if (random() % 3 == 0) {
        text.erase(at, 1 + random() % 5);
      } else if (random() % 2 == 0) {
        text.insert(at, 1, c);
      } else {
        text[at] = c;
      }
      if (text.empty()) text = "-";
    }
    try {
      const GpuCapacity capacity = GpuCapacity::parse(text, "f");
      for (const auto& model : capacity.models()) {
        ASSERT_GT(model.fp16_tflops, 0) << seed;
      }
    } catch (const CapacityError& error) {
      ASSERT_EQ(error.what.find("f"), 0U) << seed << error.what;
    }
  }
}

TEST(GpuCapacity, SaysWhichFileCannotBeRead) {
  try {
    GpuCapacity::load("/nonexistent/gpu-info.yaml");
    FAIL();
  } catch (const CapacityError& error) {
    EXPECT_THAT(error.what, HasSubstr("/nonexistent/gpu-info.yaml"));
  }
}

}  // namespace
}  // namespace vgpu::hypervisor::testing
