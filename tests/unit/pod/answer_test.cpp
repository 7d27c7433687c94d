// SPDX-License-Identifier: Apache-2.0
// What a daemon's answer makes of a tenant: the predecessor's, ours, and what isn't one.
#include "vgpu/pod/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace vgpu::pod {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kAnswerGiB = std::uint64_t{1} << 30;
#define UUID "GPU-3430f778-7a25-704c-9090-8b0bb2478114"

// `fields`: of `data`, besides the list of GPUs.
std::string answer(const std::string& fields) {
  return R"({"success":true,"data":{"pod_name":"a \"b\" \\","namespace":"ml","gpu_uuids":[")" UUID
         R"("],)" +
         fields + R"("compute_shard":false},"message":"Pod \"found\""})";
}

// `body` with the UUID where "@" stands.
std::string with_uuid(std::string body) {
  for (std::size_t at = body.find('@'); at != std::string::npos; at = body.find('@'))
    body.replace(at, 1, UUID);
  return body;
}

Limits limits_of(const std::string& body) {
  Limits limits;
  Why why;
  EXPECT_TRUE(parse_answer(with_uuid(body), limits, why)) << why.view() << "\n" << body;
  return limits;
}

std::string why_not(const std::string& body) {
  Limits limits;
  Why why;
  EXPECT_FALSE(parse_answer(with_uuid(body), limits, why)) << body;
  EXPECT_FALSE(why.empty());
  return std::string(why.view());
}

TEST(PodAnswer, ThePredecessorsHasMemoryAndNothingOfCompute) {
  const Limits limits = limits_of(
      answer(R"("tflops_limit":31.5,"vram_limit":4294967296,"qos_level":"High","isolation":"soft",)"
             R"("auto_freeze":{"freeze_to_mem_ttl":"5m","enable":true},)"));
  ASSERT_EQ(limits.gpus.size(), 1u);
  EXPECT_FALSE(limits.has_compute);
  EXPECT_TRUE(limits.has_tflops);
  EXPECT_EQ(limits.gpus[0].quota.memory_limit_bytes, 4 * kAnswerGiB);
  EXPECT_EQ(limits.gpus[0].quota.memory_source, Source::tensor_fusion);
  EXPECT_EQ(limits.gpus[0].quota.priority, Priority::high);
  EXPECT_FALSE(limits.gpus[0].quota.limits_compute());
}

TEST(PodAnswer, NullLimitsNothing) {
  const Limits limits = limits_of(
      answer(R"("tflops_limit":null,"vram_limit":null,"qos_level":null,"isolation":null,)"));
  EXPECT_FALSE(limits.has_tflops);
  EXPECT_FALSE(limits.gpus[0].quota.limits_memory());
  EXPECT_EQ(limits.gpus[0].quota.priority, Priority::normal);
}

TEST(PodAnswer, OursHasTheWholeQuotaOfEachGpu) {
  const Limits limits = limits_of(answer(
      R"("vram_limit":1,"vgpu":{"more":[[{}]],"gpus":[{"uuid":")" UUID R"(","quota":)"
      R"({"memory_limit_bytes":8589934592,"share_percent":30,"limit_percent":60,)"
      R"("policy":"elastic","priority":"low","memory_source":"daemon","compute_source":"run"}},)"
      R"({"uuid":"GPU-ab12cd34-0000-1111-2222-333344445555","quota":{"memory_limit_bytes":null,)"
      R"("share_percent":null,"limit_percent":null,"policy":"elastic","priority":"normal"}}]},)"));
  ASSERT_EQ(limits.gpus.size(), 2u);
  EXPECT_TRUE(limits.has_compute);
  Quota wanted;
  wanted.memory_limit_bytes = 8 * kAnswerGiB;
  wanted.compute_share_percent = 30;
  wanted.compute_limit_percent = 60;
  wanted.priority = Priority::low;
  wanted.memory_source = wanted.compute_source = Source::daemon;
  EXPECT_EQ(limits.gpus[0].quota, wanted);
  EXPECT_EQ(limits.gpus[1].quota, Quota());
}

TEST(PodAnswer, SaysWhatTheDaemonSays) {
  EXPECT_EQ(why_not(R"({"success":false,"data":null,"message":"pod x isn't a tenant"})"),
            "the daemon says \"pod x isn't a tenant\"");
  EXPECT_THAT(why_not(answer(R"("isolation":"hard",)")), HasSubstr("isolation \"hard\""));
  EXPECT_THAT(why_not(answer(R"("isolation":7,)")), HasSubstr("isolation"));
  EXPECT_EQ(limits_of(answer(R"("isolation":"shared",)")).gpus.size(), 1u);
}

TEST(PodAnswer, GarbageIsNoAnswer) {
  for (const char* body :
       {"", "x", "[]", "{}", "<html></html>", R"({"success":true})", R"({"success":"true"})",
        R"({"success":true,"data":null})", R"({"success":true,"data":[]})",
        R"({"success":true,"data":{}})", R"({"success":true,"data":{"gpu_uuids":[]}})",
        R"({"success":true,"data":{"gpu_uuids":"GPU-x"}})",
        R"({"success":true,"data":{"gpu_uuids":["GPU-x"]}})",
        R"({"success":true,"data":{"gpu_uuids":[1]}})",
        R"({"success":true,"data":{"gpu_uuids":["@","@"]}})",
        R"({"success":true,"data":{"gpu_uuids":["@"]})",
        R"({"success":true,"data":{"gpu_uuids":["@"]}}})",
        R"({"success":true,"data":{"gpu_uuids":["@"}}])"})
    EXPECT_THAT(why_not(body), HasSubstr("isn't what such a daemon says")) << body;
  for (const char* field : {R"("vram_limit":-1,)", R"("vram_limit":0,)", R"("vram_limit":1.5,)",
                            R"("vram_limit":"1",)", R"("vram_limit":99999999999999999999,)",
                            R"("vgpu":{"gpus":[]},)", R"("vgpu":{"gpus":[{"quota":{}}]},)",
                            R"("vgpu":{"gpus":[{"uuid":"@"}]},)", R"("vgpu":{"gpus":[1]},)"})
    EXPECT_THAT(why_not(answer(field)), HasSubstr("isn't what such a daemon says")) << field;
  const auto quota = [](const std::string& text) {
    return answer(R"("vgpu":{"gpus":[{"uuid":"@","quota":)" + text + "}]},");
  };
  EXPECT_EQ(limits_of(quota(R"({"share_percent":30})")).gpus[0].quota.compute_share_percent, 30);
  for (const char* text :
       {"7", R"({"share_percent":0})", R"({"share_percent":101})", R"({"share_percent":"30"})",
        R"({"limit_percent":1.5})", R"({"share_percent":60,"limit_percent":30})",
        R"({"share_percent":20,"limit_percent":30,"policy":"fixed"})", R"({"policy":"hard"})",
        R"({"priority":7})", R"({"memory_limit_bytes":0})"})
    EXPECT_THAT(why_not(quota(text)), HasSubstr("isn't what such a daemon says")) << text;
}

TEST(PodAnswer, DepthIsBounded) {
  EXPECT_THAT(why_not(answer("\"more\":" + std::string(5000, '[') + std::string(5000, ']') + ",")),
              HasSubstr("broken JSON"));
  limits_of(answer("\"more\":" + std::string(30, '[') + std::string(30, ']') + ","));
}

TEST(PodAnswer, RegistrationSucceedsOrSaysWhyNot) {
  Why why;
  EXPECT_TRUE(parse_success(R"({"success":true,"data":{"host_pid":7},"message":""})", why));
  EXPECT_FALSE(parse_success(R"({"success":false,"data":null,"message":"who?"})", why));
  EXPECT_EQ(why.view(), "the daemon says \"who?\"");
  EXPECT_FALSE(parse_success("{", why));
}

}  // namespace
}  // namespace vgpu::pod
