// SPDX-License-Identifier: Apache-2.0
// The simulated NVML gives the codes that a real one gives, and the limiter gives the same ones
// too: what is refused, and how, isn't part of the virtual view. answers/ is nvml_answers' output
// on an H200 with driver 580.159.04.
#include <fstream>

#include "run.h"

namespace {

using namespace nvml_test;

std::string recorded() {
  std::ifstream file(std::string(VGPU_ANSWERS_DIR) + "/h200-580.159.04.txt");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Lines of `a` that aren't in the same place in `b`, so that a failure can be read.
std::string difference(const std::string& a, const std::string& b) {
  std::istringstream first(a);
  std::istringstream second(b);
  std::string text;
  std::string expected;
  while (std::getline(first, expected)) {
    std::string got;
    std::getline(second, got);
    if (got != expected) text += "expected " + expected + "\n     got " + got + "\n";
  }
  return text;
}

TEST(SimulatedNvml, RefusesWhatARealOneRefusesWithTheSameCodes) {
  const Machine machine("h200");
  const Output output = run({VGPU_NVML_ANSWERS}, machine.plain());
  ASSERT_EQ(output.status, 0) << output.err;
  ASSERT_GT(recorded().size(), 1000U) << "the file of a real driver's answers";
  EXPECT_EQ(difference(recorded(), output.out), "");
}

// Utilization is the one exception: where the tenant's part isn't known it is not supported instead
// of the whole GPU's.
TEST(NvmlView, RefusesWhatTheDriverRefusesWithTheSameCodes) {
  const Machine machine("h200");
  const Output output = run({VGPU_NVML_ANSWERS}, machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}}));
  ASSERT_EQ(output.status, 0) << output.err;
  ASSERT_GT(recorded().size(), 1000U) << "the file of a real driver's answers";
  std::istringstream expected(recorded());
  std::istringstream got(output.out);
  std::string expected_line;
  std::string got_line;
  while (std::getline(expected, expected_line) && std::getline(got, got_line)) {
    const bool is_own = expected_line.find("UtilizationRates") != std::string::npos ||
                        expected_line.find("ProcessUtilization") != std::string::npos ||
                        expected_line.find("ProcessesUtilization") != std::string::npos;
    const bool utilization = !is_own && (expected_line.find("Utilization") != std::string::npos ||
                                         expected_line.find("UTILIZATION") != std::string::npos);
    if (utilization && (expected_line.ends_with(" 0") || expected_line.ends_with(" 7"))) {
      EXPECT_TRUE(got_line.ends_with(" 3")) << got_line;
    } else {
      EXPECT_EQ(got_line, expected_line);
    }
  }
}

}  // namespace
