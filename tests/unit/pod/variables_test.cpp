// SPDX-License-Identifier: Apache-2.0
// Which variables mean a pod, and what they say.
#include "vgpu/pod/variables.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace vgpu::pod {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

class PodTable final : public settings::Environment {
 public:
  PodTable(std::initializer_list<std::pair<const std::string, std::string>> values)
      : values_(values) {}
  const char* get(const char* name) const override {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : found->second.c_str();
  }

 private:
  std::map<std::string, std::string> values_;
};

TEST(PodVariables, NothingIsNoPod) {
  const Variables none = read_variables(PodTable{{"PATH", "/bin"}, {"HYPERVISOR_PORT", "8001"}});
  EXPECT_FALSE(none.may_speak());
  EXPECT_TRUE(none.file.empty());
}

TEST(PodVariables, AFileIsNamedOrInTheUsualPlace) {
  const auto file = [](const PodTable& table) {
    const Variables variables = read_variables(table);
    return std::string(variables.file.view()) + " " + std::string(variables.file_from) + " " +
           (variables.speaks() ? "pod" : "perhaps");
  };
  EXPECT_EQ(file({{"TF_SHM_PATH", "/a/b"}, {"SHM_PATH", "/c"}}), "/a/b TF_SHM_PATH pod");
  EXPECT_EQ(file({{"TF_SHM_PATH", ""}, {"SHM_PATH", "/c"}}), "/c/shm SHM_PATH pod");
  EXPECT_EQ(file({{"HYPERVISOR_IP", "10.0.0.1"}}), "/run/tensor-fusion/shm/shm  pod");
  EXPECT_EQ(file({{"POD_NAME", "a"}}), "/run/tensor-fusion/shm/shm  perhaps");
}

TEST(PodVariables, ADaemonHasAnAddressAndAPort) {
  EXPECT_FALSE(read_variables(PodTable{{"HYPERVISOR_IP", "h"}}).has_daemon());
  const Variables variables = read_variables(PodTable{{"HYPERVISOR_IP", " h "},
                                                      {"HYPERVISOR_PORT", "8001"},
                                                      {"HTTP_CONNECT_TIMEOUT", "500ms"},
                                                      {"HTTP_REQUEST_TIMEOUT", "soon"}});
  EXPECT_TRUE(variables.has_daemon());
  EXPECT_EQ(variables.host.view(), "h");
  EXPECT_EQ(variables.connect_ns, 500 * kMs);
  EXPECT_EQ(variables.unread, "HTTP_REQUEST_TIMEOUT");
  EXPECT_EQ(variables.request_ns, 30'000 * kMs) << "what can't be read is the default";
  EXPECT_EQ(variables.token_file.view(), "/var/run/secrets/kubernetes.io/serviceaccount/token");
}

TEST(PodVariables, DurationsAreWrittenAsThePredecessorReadsThem) {
  const auto milliseconds = [](std::string_view text) -> long long {
    std::uint64_t ns = 0;
    return parse_duration(text, ns) ? static_cast<long long>(ns / kMs) : -1;
  };
  EXPECT_EQ(milliseconds("30s"), 30'000);
  EXPECT_EQ(milliseconds("1h 30m"), 5'400'000);
  EXPECT_EQ(milliseconds("1m30s"), 90'000);
  EXPECT_EQ(milliseconds(" 2 min 5sec 1ms "), 125'001);
  for (const char* text :
       {"", "5", "s", "-1s", "1.5s", "1d", "0s", "99999999999999999999s", "1s x", "25h"})
    EXPECT_EQ(milliseconds(text), -1) << text;
}

TEST(PodVariables, PodsAreToldApartByTheirNames) {
  const auto id = [](const char* space, const char* name) {
    return std::string(
        tenant_id(read_variables(PodTable{{"POD_NAMESPACE", space}, {"POD_NAME", name}})).view());
  };
  EXPECT_EQ(id("ml", "trainer").size(), 36u);
  EXPECT_TRUE(is_tenant_id(id("ml", "trainer")));
  EXPECT_EQ(id("ml", "trainer"), id("ml", "trainer"));
  EXPECT_NE(id("ml", "trainer"), id("ml", "trainer2"));
  EXPECT_NE(id("ml", "trainer"), id("mltrainer", ""));
  EXPECT_NE(id("mlt", "rainer"), id("ml", "trainer"));
  EXPECT_EQ(id("ml", ""), "");
  EXPECT_FALSE(is_tenant_id("t-0123"));
}

TEST(PodVariables, ATenantIsCalledWhatOurDaemonCallsThePod) {
  EXPECT_EQ(
      tenant_name(read_variables(PodTable{{"POD_NAMESPACE", "ml"}, {"POD_NAME", "a b"}})).view(),
      "ml.a_b");
  EXPECT_EQ(tenant_name(read_variables(PodTable{{"POD_NAME", std::string(200, 'x')}})).size(), 63u);
  EXPECT_TRUE(tenant_name(read_variables(PodTable{})).empty());
}

TEST(PodVariables, OnlyAPodWithoutANameNeedsOneToInherit) {
  const char* with_name[] = {"TF_SHM_PATH=/a", "POD_NAME=x", nullptr};
  const char* without[] = {"HOME=/", "POD_NAME=", "HYPERVISOR_IP=10.0.0.1", nullptr};
  const char* empty[] = {"TF_SHM_PATH=", "HYPERVISOR_PORT=1", "TF_SHM_PATHS=x", nullptr};
  EXPECT_FALSE(is_pod_without_name(with_name));
  EXPECT_TRUE(is_pod_without_name(without));
  EXPECT_FALSE(is_pod_without_name(empty));
  EXPECT_FALSE(is_pod_without_name(nullptr));
}

}  // namespace
}  // namespace vgpu::pod
