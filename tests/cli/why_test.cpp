// SPDX-License-Identifier: Apache-2.0
// What held a tenant back: each cause staged by hand in a node segment, and the sentence that names
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "stage.h"
#include "tool.h"
#include "vgpu/survey/causes.h"

namespace vgpu::survey {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Why : public testing::Test {
 protected:
  Explanation why(const std::string& name, const Snapshot& before) {
    const auto all = explain(before, stage_.snapshot(), name + "-1");
    EXPECT_EQ(all.size(), 1U);
    return all.empty() ? Explanation{} : all.front();
  }
  Explanation why(const std::string& name) { return why(name, stage_.snapshot(kNow - kSecond)); }
  // The causes' names, the weightiest first.
  static std::vector<std::string> kinds(const Explanation& explanation) {
    std::vector<std::string> names;
    for (const auto& cause : explanation.causes) names.emplace_back(cause_name(cause.kind));
    return names;
  }
  static Cause cause(const Explanation& explanation, CauseKind kind) {
    for (const auto& one : explanation.causes) {
      if (one.kind == kind) return one;
    }
    ADD_FAILURE() << "no " << cause_name(kind) << " among "
                  << testing::PrintToString(kinds(explanation));
    return {};
  }

  Stage stage_;
};

TEST_F(Why, NothingHeldBackATenantThatHadTheGpu) {
  stage_.tenant("train", 30);
  stage_.history(stage_.sit("train"), 12, {.work_ms = 990});
  const Explanation one = why("train");
  EXPECT_TRUE(one.causes.empty()) << testing::PrintToString(kinds(one));
  EXPECT_EQ(one.summary,
            "it got 99 % of the GPU in the last 10 s (share 30 %, limit none, elastic, priority "
            "normal)");
}

TEST_F(Why, NamesItsComputeLimit) {
  stage_.tenant("train", 0, 30);
  stage_.history(stage_.sit("train"), 10, {.work_ms = 300, .limit_ms = 650});
  const Explanation one = why("train");
  EXPECT_EQ(kinds(one), std::vector<std::string>{"compute_limit"});
  EXPECT_EQ(one.causes[0].text,
            "its compute limit of 30 % (elastic) held launches back 65 % of the time");
  EXPECT_EQ(one.causes[0].next, "vgpu set train --compute-limit PERCENT");
  EXPECT_DOUBLE_EQ(*one.causes[0].percent, 65);
}

TEST_F(Why, AdvisesAnotherPolicyWhereTheLimitIsAFixedShare) {
  stage_.tenant("train", 30, 30).spec.gpus[0].quota.policy = Policy::fixed;
  stage_.history(stage_.sit("train"), 10, {.work_ms = 300, .limit_ms = 650});
  EXPECT_EQ(cause(why("train"), CauseKind::compute_limit).next, "vgpu set train --policy elastic");
}

TEST_F(Why, NamesThoseItWaitedBehindByTheTimeThatTheyTook) {
  stage_.tenant("train", 30);
  stage_.tenant("chat", 50);
  stage_.tenant("render", 20);
  const auto own = stage_.sit("train"), chat = stage_.sit("chat"), render = stage_.sit("render");
  stage_.history(own, 8, {.work_ms = 200, .turn_ms = 750, .behind = chat});
  stage_.second(own, 8, {.work_ms = 200, .turn_ms = 750, .behind = render});
  stage_.second(own, 9, {.work_ms = 200, .turn_ms = 750, .behind = render});
  const Explanation one = why("train");
  EXPECT_EQ(kinds(one), std::vector<std::string>{"turn"});
  EXPECT_EQ(one.causes[0].text,
            "it waited for its turn 75 % of the time, behind chat (60 %), render (15 %)");
  EXPECT_THAT(one.causes[0].next, HasSubstr("--priority high"));
}

TEST_F(Why, NamesADaemonThatIsGoneWhereLaunchesWaitForTheNext) {
  stage_.tenant("train", 30);
  stage_.history(stage_.sit("train"), 10, {.work_ms = 0, .turn_ms = 900});
  Snapshot before = stage_.snapshot(kNow - kSecond), now = stage_.snapshot();
  before.launches_are_stopped = now.launches_are_stopped = true;
  const auto all = explain(before, now, "train-1");
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(kinds(all[0]).front(), "daemon_gone");
  EXPECT_THAT(all[0].causes[0].text, HasSubstr("on-daemon-loss = stop"));
}

TEST_F(Why, SaysWhenATenantThatWaitsHadItsShare) {
  stage_.tenant("train", 30);
  stage_.tenant("chat", 70);
  const auto own = stage_.sit("train"), chat = stage_.sit("chat");
  stage_.history(own, 10, {.work_ms = 300, .turn_ms = 690, .behind = chat});
  EXPECT_THAT(cause(why("train"), CauseKind::turn).text,
              AllOf(HasSubstr("behind chat"), HasSubstr("it had the 30 % that it is owed")));
}

TEST_F(Why, TellsItsOwnProcessesFromOthers) {
  stage_.tenant("train", 30);
  const auto first = stage_.sit("train"), second = stage_.sit("train");
  stage_.history(first, 10, {.work_ms = 500, .turn_ms = 450, .behind = second});
  stage_.history(second, 10, {.work_ms = 450, .turn_ms = 500, .behind = first});
  const Cause turn = cause(why("train"), CauseKind::turn);
  EXPECT_THAT(turn.text, HasSubstr("behind other processes of its own"));
  EXPECT_DOUBLE_EQ(*turn.percent, 47.5) << "the mean of the two";
}

TEST_F(Why, NamesAWaitThatHasNotEndedYet) {
  stage_.tenant("train", 30);
  stage_.tenant("chat", 70);
  const auto own = stage_.sit("train"), chat = stage_.sit("chat");
  stage_.seat(own).want_since_ns = kNow - 3 * kSecond;
  stage_.seat(own).behind = chat + 1;
  const Cause turn = cause(why("train"), CauseKind::turn);
  EXPECT_THAT(turn.text,
              AllOf(HasSubstr("behind chat"), HasSubstr("a launch has been waiting for 3.0 s")));
}

TEST_F(Why, NamesDebtByItsLag) {
  stage_.tenant("train", 30);
  const auto own = stage_.sit("train");
  stage_.history(own, 10, {.work_ms = 900});
  stage_.seat(own).lag_ns = static_cast<std::uint64_t>(-std::int64_t{35 * kMs});
  EXPECT_THAT(cause(why("train"), CauseKind::debt).text, HasSubstr("35 ms in debt"));
  stage_.seat(own).lag_ns = static_cast<std::uint64_t>(-std::int64_t{8 * kMs});
  EXPECT_TRUE(why("train").causes.empty()) << "turns make everybody swing as far";
  stage_.seat(own).lag_ns = 35 * kMs;  // it is owed something
  EXPECT_TRUE(why("train").causes.empty());
}

TEST_F(Why, CountsRefusedMemoryNowAndSinceItBegan) {
  ListedTenant& tenant = stage_.tenant("train", 30);
  tenant.spec.gpus[0].quota.memory_limit_bytes = std::uint64_t{4} << 30;
  tenant.charged_bytes[0] = std::uint64_t{4000} << 20;
  tenant.denied[0] = 5;
  stage_.history(stage_.sit("train"), 10, {.work_ms = 990});
  const Snapshot before = stage_.snapshot(kNow - kSecond);
  EXPECT_THAT(cause(why("train", before), CauseKind::refused_memory).text,
              HasSubstr("5 allocations were refused since it began, none just now"));
  tenant.denied[0] = 12;
  const Explanation one = why("train", before);
  EXPECT_EQ(one.causes[0].text,
            "7 allocations were refused just now, 12 since it began: it holds 3.91 GiB of 4 GiB");
  EXPECT_EQ(one.causes[0].next, "vgpu set train --memory SIZE");
}

TEST_F(Why, NamesItsOwnIdleness) {
  stage_.tenant("train", 30);
  stage_.history(stage_.sit("train"), 10, {.work_ms = 100, .turn_ms = 50});
  const Explanation one = why("train");
  EXPECT_EQ(kinds(one), (std::vector<std::string>{"idle", "turn"}));
  EXPECT_THAT(one.causes[0].text,
              AllOf(HasSubstr("its own idleness: 85 %"), HasSubstr("busy 10 %")));
}

TEST_F(Why, SaysThatItLaunchedNothing) {
  stage_.tenant("train", 30);
  stage_.seat(stage_.sit("train")).last_launch_ns = kNow - 40 * kSecond;
  EXPECT_THAT(cause(why("train"), CauseKind::idle).text,
              HasSubstr("launched nothing in the last 10 s"));
}

TEST_F(Why, JudgesOnlyTheSecondsSinceItBegan) {
  stage_.tenant("train", 30);
  stage_.history(stage_.sit("train"), 3, {.work_ms = 980});
  const Explanation one = why("train");
  EXPECT_EQ(one.seconds, 3U);
  EXPECT_TRUE(one.causes.empty());
  EXPECT_THAT(one.summary, HasSubstr("98 % of the GPU in the last 3 s"));
}

TEST_F(Why, NamesTheBoundOnWorkInFlight) {
  stage_.tenant("train", 30);
  stage_.history(stage_.sit("train"), 10, {.work_ms = 950, .in_flight_ms = 400});
  EXPECT_THAT(cause(why("train"), CauseKind::in_flight).text,
              AllOf(HasSubstr("40 % of the time"), HasSubstr("costs it no GPU time")));
}

TEST_F(Why, NamesANeighbourWhoseWorkIsPredictedToGoOn) {
  stage_.tenant("train", 50);
  stage_.tenant("spin", 50);
  const auto own = stage_.sit("train"), spin = stage_.sit("spin");
  stage_.history(own, 10, {.work_ms = 400});
  stage_.seat(spin).last_launch_ns = kNow - 12 * kSecond;
  stage_.seat(spin).busy_until_ns = kNow + kSecond;
  EXPECT_THAT(cause(why("train"), CauseKind::endless_neighbour).text,
              AllOf(HasSubstr("spin (pid " + std::to_string(getpid())), HasSubstr("12.0 s ago"),
                    HasSubstr("never yields")));
  EXPECT_THAT(cause(why("spin"), CauseKind::endless_work).text, HasSubstr("still runs"));
}

TEST_F(Why, NamesANeighbourThatIsChargedThoughItCompletesNothing) {
  stage_.tenant("train", 50);
  stage_.tenant("spin", 50);
  const auto own = stage_.sit("train"), spin = stage_.sit("spin");
  stage_.history(own, 10, {.work_ms = 400});
  stage_.seat(spin).last_launch_ns = kNow - 12 * kSecond;
  stage_.seat(spin).held_ns = kSecond;
  const Snapshot before = stage_.snapshot(kNow - kSecond);
  EXPECT_THAT(kinds(why("train", before)), Not(testing::Contains("endless_neighbour")))
      << "who only idles is none";
  stage_.seat(spin).held_ns = 2 * kSecond;
  EXPECT_THAT(kinds(why("train", before)), testing::Contains("endless_neighbour"));
  stage_.seat(spin).work_ns = 5 * kMs;  // something was completed after all
  EXPECT_THAT(kinds(why("train", before)), Not(testing::Contains("endless_neighbour")));
}

TEST_F(Why, SaysThatItHasNoShare) {
  stage_.tenant("train");
  stage_.tenant("chat", 70);
  const auto own = stage_.sit("train"), chat = stage_.sit("chat");
  stage_.history(own, 10, {.work_ms = 200, .turn_ms = 790, .behind = chat});
  EXPECT_EQ(cause(why("train"), CauseKind::no_share).text,
            "it has no share: it splits what those with one leave (chat 70 %)");
}

TEST_F(Why, SaysThatSharesAreScaledOrBestEffort) {
  stage_.tenant("train", 60);
  stage_.tenant("chat", 90);
  stage_.outsider("python", 77, Limiter::absent);
  stage_.history(stage_.sit("train"), 10, {.work_ms = 990});
  const Explanation one = why("train");
  EXPECT_EQ(cause(one, CauseKind::scaled_share).text,
            "shares add up to 150 %, so its 60 % come down to 40 % while all want the GPU");
  EXPECT_EQ(cause(one, CauseKind::best_effort).text,
            "shares are best effort: python (pid 77) is on it without the limiter");
}

TEST_F(Why, PutsTheWeightiestFirst) {
  stage_.tenant("train", 30, 40);
  stage_.tenant("chat", 70);
  const auto own = stage_.sit("train"), chat = stage_.sit("chat");
  stage_.history(own, 10, {.work_ms = 200, .limit_ms = 300, .turn_ms = 480, .behind = chat});
  EXPECT_EQ(kinds(why("train")), (std::vector<std::string>{"turn", "compute_limit"}));
}

TEST_F(Why, SaysThatNobodyOfItUsesTheGpu) {
  stage_.tenant("train", 30);
  EXPECT_EQ(kinds(why("train")), std::vector<std::string>{"not_started"});
}

TEST_F(Why, OfATenantThatIsGoneHasNoAnswer) {
  EXPECT_TRUE(explain(stage_.snapshot(), stage_.snapshot(), "gone-1").empty());
}

}  // namespace
}  // namespace vgpu::survey

namespace vgpu::cli_test {
namespace {

class WhyTool : public ToolTest {};

TEST_F(WhyTool, AnswersInWordsAndInJson) {
  auto running =
      start({"run", "-q", "--name", "train", "--compute", "30", "--", CLIENT, "alloc=256", "hold"});
  ASSERT_TRUE(running.wait_for("holding"));
  const Result words = vgpu({"why", "tra"});
  EXPECT_EQ(words.exit_code, 0) << words.err;
  EXPECT_THAT(words.out,
              testing::AllOf(testing::HasSubstr("train on GPU 1: "), testing::HasSubstr("\n  - ")));
  const auto all = nlohmann::json::parse(vgpu({"why", "train", "--json"}).out, nullptr, false);
  EXPECT_EQ(all["tenant"]["name"], "train");
  EXPECT_EQ(all["gpus"][0]["index"], 1);
  EXPECT_TRUE(all["gpus"][0]["causes"][0]["kind"].is_string());
}

TEST_F(WhyTool, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(vgpu({"why"}).exit_code, 2);
  const Result unknown = vgpu({"why", "nobody"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, testing::HasSubstr("VG1022"));
}

}  // namespace
}  // namespace vgpu::cli_test
