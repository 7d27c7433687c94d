// SPDX-License-Identifier: Apache-2.0
// Flags, variables and the file: which wins, and what is said of what can't be understood.
#include "settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "pages.h"

namespace vgpu::hypervisor::settings {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Map = std::map<std::string, std::string>;

class Table final : public vgpu::settings::Environment {
 public:
  explicit Table(Map values = {}) : values_(std::move(values)) {}
  const char* get(const char* name) const override {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : found->second.c_str();
  }

 private:
  Map values_;
};

Loaded of_file(const std::string& toml) { return read({}, Table(), toml, "f.toml"); }

std::vector<std::string> faults(const Loaded& loaded) {
  std::vector<std::string> texts;
  for (const Fault& fault : loaded.faults) texts.push_back(fault.text());
  return texts;
}

const Origin& origin(const Loaded& loaded, std::string_view key) {
  for (std::size_t i = 0; i < rows().size(); ++i) {
    if (rows()[i].key == key) return loaded.origins[i];
  }
  throw std::out_of_range("no such key");
}

TEST(DaemonSettings, NothingAtAllIsGood) {
  const Loaded loaded = read({}, Table(), std::nullopt, "");
  EXPECT_THAT(faults(loaded), IsEmpty());
  EXPECT_EQ(loaded.values.guard_grace, std::chrono::seconds(5));
  EXPECT_EQ(loaded.values.guard_slack, 64u << 20);
  EXPECT_THAT(loaded.values.api_listen, ElementsAre("127.0.0.1:8001"));
  EXPECT_EQ(origin(loaded, "guard.grace").source, Source::fallback);
}

TEST(DaemonSettings, EveryDefaultIsAValueOfItsKind) {
  Values values;
  for_each_setting(values, [](std::size_t, const Row& row, auto& value) {
    std::string why;
    if (!row.fallback.empty()) {
      EXPECT_TRUE(parse(row, row.fallback, value, why)) << row.key << ": " << why;
    }
  });
}

TEST(DaemonSettings, KeysFlagsAndVariablesAreUnique) {
  std::set<std::string_view> seen;
  for (const Row& row : rows()) {
    EXPECT_TRUE(seen.insert(row.key).second) << row.key;
    EXPECT_TRUE(seen.insert(row.flag).second) << row.flag;
    if (!row.variable.empty()) {
      EXPECT_TRUE(seen.insert(row.variable).second) << row.variable;
    }
  }
}

TEST(DaemonSettings, AFlagWinsOverAVariableOverTheFile) {
  const std::string toml =
      "node-name = \"file\"\n[guard]\ngrace = \"1s\"\nunlimited-processes = \"kill\"\n";
  const Table environment(
      Map{{"GPU_NODE_NAME", "variable"}, {"VGPU_HYPERVISOR_GUARD_GRACE", "2s"}});
  const Loaded loaded = read({{"--node-name", "flag"}}, environment, toml, "f.toml");
  ASSERT_THAT(faults(loaded), IsEmpty());
  EXPECT_EQ(loaded.values.node_name, "flag");
  EXPECT_EQ(origin(loaded, "node-name").place.text(), "--node-name");
  EXPECT_EQ(loaded.values.guard_grace, std::chrono::seconds(2));
  EXPECT_EQ(origin(loaded, "guard.grace").source, Source::variable);
  EXPECT_EQ(loaded.values.guard_unlimited, "kill");
  EXPECT_EQ(origin(loaded, "guard.unlimited-processes").place.text(), "f.toml:4:23");
}

TEST(DaemonSettings, AnEmptyVariableIsUnset) {
  const Loaded loaded = read({}, Table(Map{{"GPU_NODE_NAME", ""}}), "node-name = \"file\"", "f");
  EXPECT_EQ(loaded.values.node_name, "file");
}

TEST(DaemonSettings, AFaultOfALayerThatIsOverruledIsAFault) {
  const Loaded loaded = read({{"--guard-grace", "1s"}}, Table(), "[guard]\ngrace = 5\n", "f.toml");
  EXPECT_EQ(loaded.faults.size(), 1u);
}

TEST(DaemonSettings, EveryFaultOfAFileIsListedWithItsPlace) {
  const Loaded loaded = of_file(
      "node_name = \"a\"\n"
      "[guard]\n"
      "grace = \"5\"\n"
      "  unlimited-processes = \"shoot\"\n"
      "[api]\n"
      "connections = 3\n"
      "listen = \"127.0.0.1:1\"\n"
      "[gaurd]\n");
  std::vector<std::string> sorted = faults(loaded);
  std::sort(sorted.begin(), sorted.end());
  ASSERT_EQ(sorted.size(), 6u);
  EXPECT_EQ(sorted[0], "f.toml:1:1: node_name is no setting; node-name?");
  EXPECT_THAT(sorted[1], HasSubstr("f.toml:3:9: guard.grace: \"5\" is no time from 0s to 1h"));
  EXPECT_EQ(sorted[2],
            "f.toml:4:25: guard.unlimited-processes: \"shoot\" is none of: report, stop-admitting, "
            "signal, kill");
  EXPECT_EQ(sorted[3], "f.toml:6:15: api.connections: \"3\" is no whole number from 4 to 4096");
  EXPECT_THAT(sorted[4], HasSubstr("f.toml:7:10: api.listen: a list of texts"));
  EXPECT_THAT(sorted[5], HasSubstr("f.toml:8:2: gaurd is no setting"));
}

TEST(DaemonSettings, TypesAreNotGuessed) {
  EXPECT_EQ(of_file("node-name = 5").faults.size(), 1u);
  EXPECT_EQ(of_file("simulated = \"true\"").faults.size(), 1u);
  EXPECT_EQ(of_file("simulated = 1").faults.size(), 1u);
  EXPECT_EQ(of_file("[guard]\ngrace = 5").faults.size(), 1u);
  EXPECT_EQ(of_file("[api]\nconnections = \"96\"").faults.size(), 1u);
  EXPECT_EQ(of_file("[api]\nconnections = 96.0").faults.size(), 1u);
  EXPECT_EQ(of_file("[guard]\nexempt = [1]").faults.size(), 1u);
  EXPECT_EQ(of_file("guard = 1").faults.size(), 1u);
  EXPECT_EQ(of_file("[node-name]").faults.size(), 1u);
  EXPECT_EQ(of_file("[guard]\nover-memory-slack = -1").faults.size(), 1u);
  EXPECT_EQ(of_file("[guard]\nover-memory-slack = 1048576").values.guard_slack, 1u << 20);
}

TEST(DaemonSettings, WhatIsNoTomlHasItsPlaceToo) {
  const Loaded loaded = of_file("node-name = \"a\"\nnode-name = \"b\"\n");
  ASSERT_EQ(loaded.faults.size(), 1u);
  EXPECT_EQ(loaded.faults[0].place.line, 2u);
  EXPECT_THAT(faults(of_file(std::string("a\0b", 3))),
              ElementsAre("f.toml:1:1: a NUL byte; this is no text"));
}

TEST(DaemonSettings, ListsStandBetweenCommasInFlagsAndVariables) {
  const Loaded loaded =
      read({{"--exempt", "Xorg,blender"}}, Table(Map{{"API_LISTEN_ADDR", "127.0.0.1:1,unix:/a"}}),
           std::nullopt, "");
  EXPECT_THAT(loaded.values.guard_exempt, ElementsAre("Xorg", "blender"));
  EXPECT_THAT(loaded.values.api_listen, ElementsAre("127.0.0.1:1", "unix:/a"));
  EXPECT_THAT(of_file("[guard]\nexempt = [\"a\", \"b\"]").values.guard_exempt,
              ElementsAre("a", "b"));
}

TEST(DaemonSettings, TimesHaveARange) {
  const auto grace = [](const std::string& text) {
    return read({{"--guard-grace", text}}, Table(), std::nullopt, "");
  };
  EXPECT_EQ(grace("500ms").values.guard_grace, std::chrono::milliseconds(500));
  EXPECT_EQ(grace("1h").values.guard_grace, std::chrono::hours(1));
  for (const char* bad : {"61m", "5", "s", "-1s", "1.5s", "5 s", "9999999999999999999s", "1d"})
    EXPECT_EQ(grace(bad).faults.size(), 1u) << bad;
}

TEST(DaemonSettings, PodsAreDeclaredInTheFile) {
  const Loaded loaded = of_file(
      "[[pod]]\nnamespace = \"ml\"\nname = \"train-0\"\ntenant = \"train\"\n"
      "[[pod]]\nnamespace = \"ml\"\nname = \"train-1\"\ntenant = \"train\"\n");
  ASSERT_THAT(faults(loaded), IsEmpty());
  ASSERT_EQ(loaded.values.pods.size(), 2u);
  EXPECT_EQ(loaded.values.pods[1].name, "train-1");
}

TEST(DaemonSettings, FaultsOfPodsHaveTheirPlaces) {
  const std::string one = "[[pod]]\nnamespace = \"ml\"\nname = \"a\"\ntenant = \"t\"\n";
  EXPECT_THAT(faults(of_file(one + one)), ElementsAre(HasSubstr("pod ml/a is declared twice")));
  EXPECT_THAT(faults(of_file("[[pod]]\nnamespace = \"ml\"\nname = \"a\"\n")),
              ElementsAre("f.toml:1:1: a pod without tenant"));
  EXPECT_THAT(faults(of_file(one + "tenent = \"x\"\n")),
              ElementsAre("f.toml:5:1: pod.tenent is no setting; pod.tenant?"));
  EXPECT_THAT(faults(of_file("pod = 1")), ElementsAre(HasSubstr("[[pod]]")));
  EXPECT_THAT(faults(of_file("[pod]\n")), ElementsAre(HasSubstr("[[pod]]")));
}

TEST(DaemonSettings, RulesAreTextsAndNumbersOfTheFile) {
  const Loaded loaded = of_file(
      "[[rule]]\nuser = 1000\ncompute = 30\nmemory = \"8GiB\"\n"
      "[[rule]]\nname = \"all\"\ncgroup = \"/\"\npolicy = \"fixed\"\n");
  ASSERT_THAT(faults(loaded), IsEmpty());
  ASSERT_EQ(loaded.values.rules.size(), 2u);
  EXPECT_EQ(loaded.values.rules[0].user, "1000");
  EXPECT_EQ(loaded.values.rules[0].compute, "30");
  EXPECT_EQ(loaded.values.rules[0].memory, "8GiB");
  EXPECT_EQ(loaded.values.rules[1].name, "all");
  EXPECT_EQ(loaded.values.rules[1].place.line, 5u);
}

TEST(DaemonSettings, FaultsOfRulesHaveTheirPlaces) {
  EXPECT_THAT(faults(of_file("[[rule]]\nuser = \"a\"\nmemroy = \"1GiB\"\n")),
              ElementsAre("f.toml:3:1: rule.memroy is no setting; rule.memory?"));
  EXPECT_THAT(faults(of_file("[[rule]]\nuser = 1.5\n")),
              ElementsAre("f.toml:2:8: rule.user: a text in quotes is wanted"));
  EXPECT_THAT(faults(of_file("[rule]\n")), ElementsAre(HasSubstr("[[rule]]")));
}

TEST(DaemonSettings, SighupChangesOnlyWhatItCan) {
  const Loaded before = of_file("node-name = \"a\"\n[guard]\ngrace = \"1s\"\n");
  Loaded after = of_file("node-name = \"b\"\n[guard]\ngrace = \"2s\"\n");
  EXPECT_THAT(keep_unreloadable(before, after), ElementsAre("node-name"));
  EXPECT_EQ(after.values.node_name, "a");
  EXPECT_EQ(after.values.guard_grace, std::chrono::seconds(2));
}

// --- the predecessor's

TEST(PredecessorSettings, EveryFlagAndVariableOfItsDaemonHasARow) {
  std::set<std::string_view> names;
  for (const Foreign& row : foreign()) names.insert(row.name);
  for (const char* name : {"--gpu-metrics-file",
                           "GPU_METRICS_FILE",
                           "--metrics-batch-size",
                           "--gpu-info-path",
                           "TENSOR_FUSION_GPU_INFO_PATH",
                           "--enable-k8s",
                           "--k8s-namespace",
                           "--node-name",
                           "GPU_NODE_NAME",
                           "--gpu-pool",
                           "TENSOR_FUSION_POOL_NAME",
                           "--kubeconfig",
                           "KUBECONFIG",
                           "--api-listen-addr",
                           "API_LISTEN_ADDR",
                           "--enable-metrics",
                           "--metrics-format",
                           "TF_HYPERVISOR_METRICS_FORMAT",
                           "--metrics-extra-labels",
                           "TF_HYPERVISOR_METRICS_EXTRA_LABELS",
                           "--kubelet-device-state-path",
                           "--kubelet-socket-path",
                           "--detect-in-used-gpus",
                           "DETECT_IN_USED_GPUS",
                           "--shared-memory-base-path",
                           "SHM_BASE_PATH",
                           "--erl-update-interval-ms",
                           "ERL_UPDATE_INTERVAL_MS",
                           "--scheduling-config",
                           "TF_HYPERVISOR_SCHEDULING_CONFIG",
                           "--device-plugin-path",
                           "DEVICE_PLUGIN_PATH",
                           "--device-plugin-resource-name",
                           "DEVICE_PLUGIN_RESOURCE_NAME",
                           "--nvidia-dev-root",
                           "NVIDIA_DEV_ROOT",
                           "HYPERVISOR_PORT",
                           "POD_NAME",
                           "TF_PRODUCT_NAME",
                           "NVIDIA_VISIBLE_DEVICES",
                           "ENABLE_POD_RESOURCES_PROXY",
                           "SA_TOKEN_VERIFY_ENABLED",
                           "SA_TOKEN_VERIFY_PUBLIC_KEY",
                           "TF_ENABLE_LOG",
                           "TF_LOG_LEVEL",
                           "TF_LOG_PATH",
                           "RUST_LOG",
                           "--namespace",
                           "--pod-name",
                           "--shm-base-path",
                           "--mount-point",
                           "--size-mb",
                           "--size",
                           "--glob",
                           "--log-path",
                           "--refresh-interval"})
    EXPECT_EQ(names.count(name), 1u) << name;
}

TEST(PredecessorSettings, WhatWorksIsASettingAndWhatDoesntIsNone) {
  for (const Foreign& row : foreign()) {
    const bool ours = std::any_of(rows().begin(), rows().end(), [&](const Row& one) {
      return one.flag == row.name || one.variable == row.name;
    });
    // The rest are of other commands; commands_test.cpp and tests/tui type them.
    if (row.what == ForeignWhat::flag || row.what == ForeignWhat::variable) {
      EXPECT_EQ(ours, row.effect == Effect::works || row.effect == Effect::changed) << row.name;
    }
    EXPECT_EQ(row.only.empty(), row.effect != Effect::same) << row.name;
    EXPECT_FALSE(row.text.empty()) << row.name;
  }
}

TEST(PredecessorSettings, NoneIsParsedAndForgotten) {
  for (const Foreign& row : foreign()) {
    if (row.what != ForeignWhat::flag && row.what != ForeignWhat::variable) continue;
    const std::string name(row.name), odd = "7919";
    const Loaded loaded = row.what == ForeignWhat::flag
                              ? read({{name, odd}}, Table(), std::nullopt, "")
                              : read({}, Table(Map{{name, odd}}), std::nullopt, "");
    switch (row.effect) {
      case Effect::same:
      case Effect::refused:
        ASSERT_EQ(loaded.faults.size(), 1u) << name;
        EXPECT_EQ(loaded.faults[0].place.text(), name);
        EXPECT_THAT(loaded.faults[0].what, HasSubstr(std::string(row.text)));
        break;
      case Effect::said:
        ASSERT_EQ(loaded.notices.size(), 1u) << name;
        EXPECT_THAT(loaded.notices[0], HasSubstr(name));
        break;
      case Effect::works:
      case Effect::changed:
      case Effect::apart:
        // Taken; or refused as a value of that setting.
        for (const auto& fault : loaded.faults) EXPECT_EQ(fault.place.text(), name);
        break;
    }
  }
}

TEST(PredecessorSettings, TheValueThatIsKeptAnywayIsTaken) {
  EXPECT_THAT(faults(read({{"--enable-k8s", "false"}}, Table(Map{{"SA_TOKEN_VERIFY_ENABLED", "1"}}),
                          std::nullopt, "")),
              IsEmpty());
}

// toml++ 3.3 has undefined behaviour there (load.cpp).
TEST(SettingsFile, NonAsciiIsForStringsAndComments) {
  EXPECT_THAT(faults(of_file("# gerät\nnode-name = \"gerät # \\\"é\" # é\n")), IsEmpty());
  EXPECT_THAT(faults(of_file("node-name = 'é\\'\n")), IsEmpty());
  for (const char* text : {"é = 1\n", "node-name é= \"a\"\n", "node-name = é\n", "[guard]é\n",
                           "node-name = \"a\"é\n", "node-name = \"\"\"a\\\n  é\"\"\"\n"}) {
    const auto found = faults(of_file(text));
    ASSERT_EQ(found.size(), 1u) << text;
    EXPECT_THAT(found[0], HasSubstr("a character that isn't ASCII")) << text;
  }
}

// --- what is written from the table

TEST(SettingsPages, TheExampleIsGoodAsItIsAndWithEveryKeySet) {
  std::string example = example_toml();
  EXPECT_THAT(faults(of_file(example)), IsEmpty());
  std::string set;
  for (std::size_t at = 0; at < example.size();) {
    const std::size_t end = example.find('\n', at);
    std::string line = example.substr(at, end - at);
    if (line.starts_with("#") && !line.starts_with("# ")) line.erase(0, 1);
    set += line + "\n";
    at = end + 1;
  }
  const Loaded loaded = of_file(set);
  EXPECT_THAT(faults(loaded), IsEmpty());
  const Loaded defaults = read({}, Table(), std::nullopt, "");
  for (std::size_t i = 0; i < rows().size(); ++i)
    EXPECT_EQ(loaded.origins[i].source, Source::file) << rows()[i].key;
  EXPECT_EQ(loaded.values.api_listen, defaults.values.api_listen);
  EXPECT_EQ(loaded.values.guard_grace, defaults.values.guard_grace);
}

TEST(SettingsPages, WhatIsShownNamesTheSource) {
  const Loaded loaded = read({{"--node-name", "a"}}, Table(Map{{"VGPU_SIMULATED", "1"}}),
                             "[guard]\ngrace = \"9s\"\n", "f.toml");
  const std::string text = shown(loaded);
  EXPECT_THAT(text, HasSubstr("# flag --node-name"));
  EXPECT_THAT(text, HasSubstr("# environment VGPU_SIMULATED"));
  EXPECT_THAT(text, HasSubstr("# file f.toml:2:9"));
}

TEST(SettingsPages, WhatIsShownIsAFileThatSaysTheSame) {
  const Loaded loaded =
      read({{"--exempt", "a\"b,c"}, {"--guard-grace", "90s"}}, Table(), std::nullopt, "");
  const Loaded again = of_file(shown(loaded));  // dotted keys are TOML too
  EXPECT_THAT(faults(again), IsEmpty());
  EXPECT_EQ(again.values.guard_exempt, loaded.values.guard_exempt);
  EXPECT_EQ(again.values.guard_grace, loaded.values.guard_grace);
}

}  // namespace
}  // namespace vgpu::hypervisor::settings
