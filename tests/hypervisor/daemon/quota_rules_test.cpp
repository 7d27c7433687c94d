// SPDX-License-Identifier: Apache-2.0
// Which rule matches whom, what it gives, and which rules aren't taken.
#include "quota_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "settings/apply.h"

namespace vgpu::hypervisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kId(64, 'a');

QuotaRule rule(std::optional<uid_t> user, std::string cgroup, std::string container = "") {
  return {"", user, std::move(cgroup), std::move(container), {}};
}

bool is_match(const QuotaRule& one, const AskingProcess& who) {
  return matching_rule({one}, who) != nullptr;
}

TEST(QuotaRules, MatchUserControlGroupAndContainer) {
  const AskingProcess who{1000, {"/user.slice/user-1000.slice/session-3.scope"}};
  EXPECT_TRUE(is_match(rule(1000, ""), who));
  EXPECT_FALSE(is_match(rule(1001, ""), who));
  EXPECT_TRUE(is_match(rule({}, "/user.slice"), who));
  EXPECT_TRUE(is_match(rule({}, "/user.slice/user-1000.slice/"), who));
  EXPECT_TRUE(is_match(rule({}, "/"), who));
  EXPECT_FALSE(is_match(rule({}, "/user"), who)) << "a path has whole parts";
  EXPECT_FALSE(is_match(rule(1000, "/system.slice"), who)) << "all matches have to hold";
  EXPECT_FALSE(is_match(rule({}, "", "*"), who));
  const AskingProcess boxed{1000, {"/system.slice/docker-" + kId + ".scope"}};
  EXPECT_TRUE(is_match(rule({}, "", "*"), boxed));
  EXPECT_TRUE(is_match(rule({}, "", "aaaa"), boxed));
  EXPECT_FALSE(is_match(rule({}, "", "aaab"), boxed));
  EXPECT_FALSE(is_match(rule({}, "/"), {1000, {}})) << "a process of which nothing is known";
}

TEST(QuotaRules, ContainersAreFoundInControlGroups) {
  const std::string other = std::string(63, 'b') + "0";
  EXPECT_EQ(container_of("/docker/" + kId), kId);
  EXPECT_EQ(container_of("/machine.slice/libpod-" + kId + ".scope/container"), kId);
  EXPECT_EQ(container_of("/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + kId + ".scope"),
            kId);
  EXPECT_EQ(container_of("/docker/" + kId + "/docker/" + other), other) << "the innermost";
  EXPECT_EQ(container_of("/user.slice/user-1000.slice"), "");
  EXPECT_EQ(container_of("/docker/" + kId + "0"), "") << "65 digits are no id";
}

TEST(QuotaRules, ControlGroupsOfBothVersionsAreRead) {
  EXPECT_THAT(cgroups_in("0::/user.slice/a:b\n"), ElementsAre("/user.slice/a:b"));
  EXPECT_THAT(cgroups_in("4:memory:/x\n1:name=systemd:/y\nnonsense\n"), ElementsAre("/x", "/y"));
  EXPECT_THAT(cgroups_in(""), IsEmpty());
}

TEST(QuotaRules, AProcessOfAnotherUserTellsNothing) {
  EXPECT_FALSE(asking_process(geteuid(), getpid()).cgroups.empty());
  EXPECT_TRUE(asking_process(geteuid() + 1, getpid()).cgroups.empty());
  EXPECT_TRUE(asking_process(geteuid(), std::nullopt).cgroups.empty());
}

TEST(QuotaRules, FillWhatTheRequestLeavesOpen) {
  QuotaRule one = rule(1000, "");
  one.quota.memory = "8GiB";
  one.quota.compute = "20";
  one.quota.policy = "fixed";
  one.quota.priority = "low";
  survey::QuotaFlags open, share;
  TflopsQuota none;
  EXPECT_FALSE(fill_from(one, open, none));
  EXPECT_EQ(open.memory + open.compute + open.policy + open.priority, "8GiB20fixedlow");
  share.compute = "50";
  fill_from(one, share, none);
  EXPECT_EQ(share.memory + share.compute + share.policy + share.priority, "8GiB50low")
      << "a share of its own goes with a policy of its own";
}

TEST(QuotaRules, TflopsAreAShareLikeAnyOther) {
  QuotaRule one = rule(1000, "");
  one.tflops = {"60", "90"};
  survey::QuotaFlags open, share;
  TflopsQuota given, own{"5", ""};
  EXPECT_TRUE(fill_from(one, open, given));
  EXPECT_EQ(given.share + given.limit, "6090");
  share.compute = "50";
  TflopsQuota not_given;
  EXPECT_FALSE(fill_from(one, share, not_given));
  EXPECT_FALSE(not_given.is_given());
  one.quota.policy = "fixed";
  survey::QuotaFlags other;
  EXPECT_FALSE(fill_from(one, other, own)) << "they are the request's";
  EXPECT_EQ(own.share + own.limit + other.policy, "5");
}

TEST(QuotaRules, TheFirstThatMatchesCounts) {
  const std::vector<QuotaRule> rules = {rule(1, ""), rule({}, "/a"), rule({}, "/")};
  EXPECT_EQ(matching_rule(rules, {2, {"/a/b"}}), &rules[1]);
  EXPECT_EQ(matching_rule(rules, {1, {"/a/b"}}), &rules[0]);
}

class NoVariables final : public vgpu::settings::Environment {
 public:
  const char* get(const char* /*name*/) const override { return nullptr; }
};

std::string first_fault(const std::string& toml) {
  settings::Loaded loaded = settings::read({}, NoVariables(), toml, "f.toml");
  if (loaded.faults.empty()) settings::check_meaning(loaded);
  return loaded.faults.empty() ? "" : loaded.faults[0].text();
}

TEST(QuotaRules, ThatMeanNothingAreFaults) {
  EXPECT_EQ(first_fault("[[rule]]\nuser = 0\nmemory = \"1GiB\"\n"), "");
  EXPECT_THAT(first_fault("[[rule]]\nmemory = \"1GiB\"\n"),
              HasSubstr("f.toml:1:1: a rule without a"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\n"), HasSubstr("without a quota"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = \"no-such-user-here\"\ncompute = 5\n"),
              HasSubstr("no user no-such-user-here"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\ncompute = 101\n"), HasSubstr("101"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\nmemory = \"0=1GiB\"\n"), HasSubstr("GPU=VALUE"));
  EXPECT_THAT(first_fault("[[rule]]\ncgroup = \"a\"\ncompute = 5\n"), HasSubstr("no path"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\ntflops = 60\n"), HasSubstr("beside gpu-info"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\ntflops = \"60TF\"\n"),
              HasSubstr("rule.tflops: \"60TF\" is no number of TFLOPS above 0"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\ntflops-limit = \"0\"\n"),
              HasSubstr("rule.tflops-limit: \"0\" is no number of TFLOPS above 0"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\ntflops = 60\ncompute = 5\n"),
              HasSubstr("rule.tflops and rule.compute say the same"));
  EXPECT_THAT(first_fault("[[rule]]\nuser = 0\ntflops = 60\ntflops-limit = \"59.5\"\n"),
              HasSubstr("rule.tflops-limit: 59.5 is less than the share of 60"));
}

TEST(Authority, SettingsThatMeanNothingAreFaults) {
  EXPECT_EQ(first_fault("[authority]\nallowance = \"0\"\ngroup = \"0\"\n"), "");
  EXPECT_THAT(first_fault("[authority]\nallowance = \"101\"\n"), HasSubstr("neither `equal` nor"));
  EXPECT_THAT(first_fault("[authority]\ngroup = \"no-such-group-here\"\n"), HasSubstr("no group"));
  EXPECT_THAT(first_fault("[api]\nsocket-access = \"group\"\n"), HasSubstr("authority.group"));
}

}  // namespace
}  // namespace vgpu::hypervisor
