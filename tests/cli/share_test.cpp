// SPDX-License-Identifier: Apache-2.0
// Shares and limits from outside: programs that want the whole GPU, run by the tool on the
// simulated one. What each gets is what it completes. Parts of one run are compared with each other
// or with its length, with bounds for machines that are busy with other things.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tool.h"

namespace vgpu::cli_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr double kWindowMs = 50;

class ShareTest : public ToolTest {
 protected:
  ShareTest() : meeting_(folder() + "/meeting") { std::filesystem::create_directory(meeting_); }

  // A tenant that wants the GPU all the time, by kernels of a millisecond.
  Running tenant(const std::string& name, std::vector<std::string> options,
                 const std::string& gpu = "1") {
    options.insert(options.begin(), {"run", "-q", "--gpu", gpu, "--name", name});
    // On the simulated GPU a step is a nanosecond.
    options.insert(options.end(), {"--", WORKLOAD, "--mode", "queued", "--steps", "1000000",
                                   "--kernel-us", "1000", "--window-ms", "50", "--seconds", "300",
                                   "--rendezvous", meeting_, "--name", name});
    names_.push_back(name);
    return start(options);
  }

  void begin() {
    for (const std::string& name : names_) wait_for_file(name + ".0.ready");
    start_ns_ = now_ns() + 100'000'000;
    std::ofstream(meeting_ + "/go.new") << start_ns_;
    std::filesystem::rename(meeting_ + "/go.new", meeting_ + "/go");
  }

  // Until the last two whole seconds were seconds of work. The programs go on until end().
  void wait_for_history(const std::string& name) {
    for (int tries = 0; tries < 600; ++tries) {
      const json history = figures_of(name).value("history_percent", json::array());
      if (history.size() > 1 && history[0] > 1.0 && history[1] > 1.0) return;
      ::usleep(100'000);
    }
    FAIL() << name << " has not worked for two seconds";
  }
  // The window that it is in the programs' count.
  std::size_t window_now() const {
    const auto passed_ns =
        static_cast<double>(std::max(0LL, now_ns() - start_ns_));  // it begins soon
    return static_cast<std::size_t>(passed_ns / 1e6 / kWindowMs);
  }

  void wait_for_window(std::size_t window) const {
    while (window_now() < window) ::usleep(5'000);
  }

  // One that was killed has no record.
  void forget(const std::string& name) { std::erase(names_, name); }

  // Kernels completed by each, window by window, until now: they are told to stop.
  std::vector<std::vector<double>> end() {
    std::ofstream(meeting_ + "/stop");
    std::vector<std::vector<double>> all;
    for (const std::string& name : names_) {
      wait_for_file(name + ".0.json");
      std::ifstream file(meeting_ + "/" + name + ".0.json");
      all.push_back(json::parse(file)["work"].get<std::vector<double>>());
    }
    return all;
  }

  void kill_program_of(const std::string& name) {
    const json all = json::parse(vgpu({"ls", "--json"}).out, nullptr, false);
    int killed = 0;
    for (const auto& tenant : all["tenants"]) {
      if (tenant["name"] != name) continue;
      for (const auto& process : tenant["processes"])
        killed += kill(process["pid"].get<pid_t>(), SIGKILL) == 0 ? 1 : 0;
    }
    ASSERT_EQ(killed, 1) << all;
  }

  json figures_of(const std::string& name) {
    const json all = json::parse(vgpu({"top", "--json"}).out, nullptr, false);
    for (const auto& gpu : all["gpus"]) {
      for (const auto& tenant : gpu["tenants"]) {
        if (tenant["name"] == name && gpu["index"] == 1) return tenant;
      }
    }
    return {};
  }

 private:
  static long long now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  }
  void wait_for_file(const std::string& name) {
    for (int tries = 0; !std::filesystem::exists(meeting_ + "/" + name); ++tries) {
      ASSERT_LT(tries, 30'000) << name << " never came";
      ::usleep(1'000);
    }
  }

  std::string meeting_;
  std::vector<std::string> names_;
  long long start_ns_ = 0;
};

double sum(const std::vector<double>& windows, std::size_t from, std::size_t to) {
  double all = 0;
  for (std::size_t i = from; i < to && i < windows.size(); ++i) all += windows[i];
  return all;
}

// Of what both did between two windows, the part of the first in percent.
double part_of_first(const std::vector<std::vector<double>>& work, std::size_t from,
                     std::size_t to) {
  const double first = sum(work[0], from, to);
  return 100 * first / (first + sum(work[1], from, to));
}

TEST_F(ShareTest, ThirtyAndSeventyAreWhatIsCompletedAndTurnRoundLive) {
  auto small = tenant("small", {"--compute", "30"});
  auto large = tenant("large", {"--compute", "70"});
  begin();
  wait_for_history("small");
  const std::string why = vgpu({"why", "small"}).out;  // looks for a second
  EXPECT_THAT(why, HasSubstr("behind large"));
  const json shown = figures_of("small");
  EXPECT_NEAR(shown["owed_percent"].get<double>(), 30, 0.1);
  EXPECT_NEAR(shown["got_1s_percent"].get<double>(), 30, 10) << shown;
  const std::size_t before = window_now();
  EXPECT_EQ(vgpu({"set", "large", "--compute", "1=30"}).exit_code, 0);
  EXPECT_EQ(vgpu({"set", "small", "--compute", "1=70"}).exit_code, 0);
  const std::size_t after = window_now() + 10;
  wait_for_window(after + 50);
  const auto work = end();
  EXPECT_NEAR(part_of_first(work, 4, before), 30, 6);
  EXPECT_NEAR(part_of_first(work, after, after + 46), 70, 6);
}

TEST_F(ShareTest, ALimitIsNeverPassedAndSeenInside) {
  auto limited = tenant("limited", {"--compute-limit", "30"});
  begin();
  wait_for_history("limited");
  auto inside = start({"exec", "limited", "--", "nvidia-smi", "--query-gpu=utilization.gpu",
                       "--format=csv,noheader,nounits"});
  EXPECT_NEAR(std::stod(inside.finish().out), 30, 10) << "of the whole GPU it is 30 as well";
  wait_for_window(84);
  const auto work = end();
  const double percent = sum(work[0], 4, 80) / (76 * kWindowMs) * 100;
  EXPECT_LE(percent, 32);
  EXPECT_GE(percent, 20) << "far less: it was held back more than it had to be";
}

// Whoever is alone on a GPU asks nobody for anything, and would not miss a host that is gone.
TEST_F(ShareTest, ALimitComesIntoForceThoughTheHostWasKilled) {
  auto host = tenant("host", {}, "0");
  auto alone = tenant("alone", {});
  begin();
  wait_for_window(40);
  kill_program_of("host");
  (void)host.finish();
  forget("host");
  const std::size_t before = window_now();
  EXPECT_EQ(vgpu({"set", "alone", "--compute-limit", "25"}).exit_code, 0);
  const std::size_t after = window_now() + 10;
  wait_for_window(after + 50);
  const auto work = end();
  const double free = sum(work[0], 4, before) / static_cast<double>(before - 4);
  const double limited = sum(work[0], after, after + 46) / 46;
  EXPECT_LT(limited, 0.35 * free);
  EXPECT_GT(limited, 0.15 * free);
}

TEST_F(ShareTest, WhoHasNoShareGetsWhatIsLeft) {
  auto owed = tenant("owed", {"--compute", "80"});
  auto rest = tenant("rest", {"--memory", "8GiB"});
  begin();
  wait_for_window(64);
  const auto work = end();
  EXPECT_NEAR(part_of_first(work, 4, 60), 80, 7);
}

TEST_F(ShareTest, AnUtilisationInsideIsTheTenantsOwn) {
  auto small = tenant("small", {"--compute", "20"});
  auto large = tenant("large", {"--compute", "80"});
  begin();
  wait_for_history("small");
  auto inside = start({"exec", "small", "--", "nvidia-smi", "--query-gpu=utilization.gpu",
                       "--format=csv,noheader,nounits"});
  EXPECT_NEAR(std::stod(inside.finish().out), 20, 10) << "the whole GPU is busy";
  end();
}

}  // namespace
}  // namespace vgpu::cli_test
