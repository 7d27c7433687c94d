// SPDX-License-Identifier: Apache-2.0
// The usage log: lines in both formats, batches, the daily file.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "scratch.h"
#include "usage_lines.h"
#include "usage_log.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(UsageLines, AreThePredecessors) {
  const UsageLine line{
      "tf_gpu_usage",
      {{"node", "n1"}, {"uuid", "GPU-1"}, {"pool", ""}},
      {{"rx", 1.5}, {"memory_bytes", std::uint64_t{4096}}, {"power_usage", std::int64_t{-7}}},
      1'700'000'000'123};
  EXPECT_EQ(
      influx_line(line),
      "tf_gpu_usage,node=n1,uuid=GPU-1 memory_bytes=4096u,power_usage=-7i,rx=1.5 1700000000123\n");
  EXPECT_EQ(json_line(line),
            R"({"measure":"tf_gpu_usage","ts":1700000000123,"tag":{"node":"n1","uuid":"GPU-1"},)"
            R"("field":{"memory_bytes":4096,"power_usage":-7,"rx":1.5}})"
            "\n");
}

TEST(UsageLines, WriteNoFieldThatHasNoValue) {
  UsageLine line{"m", {}, {{"a", std::nan("")}, {"b", std::numeric_limits<double>::infinity()}}, 1};
  EXPECT_EQ(influx_line(line), "");
  EXPECT_EQ(json_line(line), "");
  line.fields["c"] = 0.0;
  EXPECT_EQ(influx_line(line), "m c=0 1\n");
}

// InfluxDB's reading of a line, from its documentation: a backslash escapes a comma, an equals sign
// or a blank; before anything else it is itself.
struct Parsed {
  std::string measurement;
  std::map<std::string, std::string> tags, fields;
  std::string time;
};
Parsed parse_influx(std::string_view line) {
  Parsed out;
  std::size_t at = 0;
  const auto token = [&](std::string_view ends) {
    std::string text;
    while (at < line.size() && ends.find(line[at]) == std::string_view::npos) {
      const bool escapes = line[at] == '\\' && at + 1 < line.size() &&
                           std::string_view(",= ").find(line[at + 1]) != std::string_view::npos;
      at += escapes;
      text += line[at++];
    }
    return text;
  };
  out.measurement = token(", ");
  while (at < line.size() && line[at] == ',') {
    ++at;
    const std::string key = token("=");
    ++at;
    out.tags[key] = token(", ");
  }
  do {
    ++at;
    const std::string key = token("=");
    ++at;
    out.fields[key] = token(", ");
  } while (at < line.size() && line[at] == ',');
  ++at;
  out.time = token("\n");
  EXPECT_EQ(at + 1, line.size());
  return out;
}

// What can't be written as it is: what would end the line, and a backslash at the end.
std::string written(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (!text.empty() && text.back() == '\\') text.back() = '/';
  return text;
}

TEST(UsageLines, AnyTagComesBackAsItWas) {
  constexpr std::string_view kBytes = "ab\\ ,=\"'\n\r\t\xc3\xa9\xff\x7f{}";
  for (unsigned seed = 0; seed < 20'000; ++seed) {
    std::mt19937 random(seed);
    const auto text = [&] {
      std::string out;
      for (auto i = 1 + random() % 6; i > 0; --i) out += kBytes[random() % kBytes.size()];
      return out;
    };
    UsageLine line{text(), {}, {{"f", 1.0}}, 7};
    std::map<std::string, std::string> expected;
    for (auto i = random() % 4; i > 0; --i) {
      const std::string key = fmt::format("{}{}", i, text()), value = text();
      line.tags[key] = value;
      expected[written(key)] = written(value);
    }
    const std::string out = influx_line(line);
    ASSERT_EQ(std::count(out.begin(), out.end(), '\n'), 1) << seed;
    if (line.measurement.find('=') == std::string::npos) {
      ASSERT_EQ(parse_influx(out).measurement, written(line.measurement)) << seed << out;
    }
    ASSERT_EQ(parse_influx(out).tags, expected) << seed << out;
    ASSERT_EQ(parse_influx(out).fields.at("f"), "1");
    const std::string json = json_line(line);
    ASSERT_EQ(std::count(json.begin(), json.end(), '\n'), 1) << seed;
    ASSERT_FALSE(nlohmann::json::parse(json, nullptr, false).is_discarded()) << seed;
  }
}

TEST(UsageLines, TheDocsHaveTheirFields) {
  std::ifstream file(DOCS_FOLDER "/predecessor-files.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(page,
              HasSubstr("<!-- usage_fields.def -->\n" + usage_fields_page() + "<!-- end -->"));
}

TEST(UsageBatch, AveragesWhatWasThereAndAddsUpCounts) {
  UsageBatch batch;
  for (int i = 0; i < 4; ++i) {
    WorkerUsage usage;
    usage.tags = {{"worker", "w"}};
    usage.memory_bytes = 100 + i;
    if (i < 2) usage.compute_percentage = 10.0 * i;
    usage.compute_throttled_cnt = 3;
    batch.add(usage);
  }
  const auto lines = batch.take(5);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(influx_line(lines[0]),
            "tf_worker_usage,worker=w "
            "compute_percentage=5,compute_throttled_cnt=12i,memory_bytes=102u 5\n");
  EXPECT_THAT(batch.take(6), IsEmpty());
}

TEST(UsageBatch, KeepsRowsApartByTheirTags) {
  UsageBatch batch;
  GpuUsage one, two, nothing;
  one.tags = {{"uuid", "1"}};
  two.tags = {{"uuid", "2"}};
  one.rx = two.rx = 1;
  batch.add(one);
  batch.add(two);
  batch.add(nothing);
  EXPECT_EQ(batch.take(1).size(), 2U);
}

constexpr std::uint64_t kDay = 86'400;
constexpr std::uint64_t kNoon = 1'700'000'000 / kDay * kDay + kDay / 2;  // 2023-11-14

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

TEST(UsageLog, BeginsANewFileEveryDayAndKeepsThree) {
  const Scratch scratch;
  std::ofstream(scratch.path("metrics.log.old")) << "not ours";
  UsageLog log(scratch.folder());
  for (std::uint64_t day = 0; day < 5; ++day) {
    EXPECT_EQ(log.append("line\n", kNoon + day * kDay), "");
    EXPECT_EQ(log.append("line\n", kNoon + day * kDay + 60), "");
  }
  EXPECT_THAT(files_in(scratch.folder()),
              UnorderedElementsAre("metrics.log.2023-11-16", "metrics.log.2023-11-17",
                                   "metrics.log.2023-11-18", "metrics.log.old"));
  std::ifstream file(scratch.path("metrics.log.2023-11-18"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "line\nline\n");
}

TEST(UsageLog, SaysOnceThatItCannotWriteAndOnceThatItCanAgain) {
  const Scratch scratch;
  UsageLog log(scratch.path("none/metrics.log"));
  EXPECT_THAT(log.append("x\n", kNoon), HasSubstr("No such file"));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(log.append("x\n", kNoon), "");
  std::filesystem::create_directory(scratch.path("none"));
  EXPECT_THAT(log.append("x\n", kNoon), HasSubstr("101 batches were lost"));
  EXPECT_EQ(log.append("x\n", kNoon), "");
}

TEST(UsageLog, FollowsNoLink) {
  const Scratch scratch;
  std::ofstream(scratch.path("target")) << "";
  UsageLog log(scratch.path("metrics.log"));
  std::filesystem::create_symlink(scratch.path("target"),
                                  UsageLog::file_name(scratch.path("metrics.log"), kNoon));
  EXPECT_THAT(log.append("x\n", kNoon), HasSubstr("usage log"));
  EXPECT_EQ(std::filesystem::file_size(scratch.path("target")), 0U);
}

}  // namespace
}  // namespace vgpu::hypervisor::testing
