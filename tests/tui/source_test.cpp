// SPDX-License-Identifier: Apache-2.0
// The daemon as a source, served in this test from a moment made by hand; and what becomes of the
// interface when it goes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "hand_made.h"
#include "http/server.h"
#include "http/service.h"
#include "vgpu/survey/problem.h"
#include "vgpu/tui/interface.h"
#include "vgpu/tui/sources.h"

namespace vgpu::tui {
namespace {

namespace http = hypervisor::http;
using hypervisor::http_test::HandMadeControl;
using hypervisor::http_test::kHostile;
using hypervisor::http_test::uuid_of;
using testing::HasSubstr;

class SourceTest : public testing::Test {
 protected:
  SourceTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "source-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    setenv("VGPU_STATE_DIR", (folder_ + "/state").c_str(), 1);
    setenv("VGPU_SOCKET", path().c_str(), 1);
    unsetenv("VGPU_TENANT");
  }
  ~SourceTest() override {
    server_.reset();
    unsetenv("VGPU_STATE_DIR");
    unsetenv("VGPU_SOCKET");
    std::filesystem::remove_all(folder_);
  }
  std::string path() const { return folder_ + "/socket"; }

  void serve() {
    http::Router router;
    http::add_all_routes(router, control_, options_, [] { return nullptr; });
    http::ServerSettings settings;
    settings.addresses = {http::parse_listen_address("unix:" + path())};
    server_ = std::make_unique<http::Server>(
        settings, std::move(router), [](const http::Peer& peer, const http::Credentials& given) {
          return http::identify(peer, given, {geteuid(), false}, nullptr, 0);
        });
    server_->start();
  }
  SourceOptions usual() const {
    SourceOptions options;
    options.addresses = client::usual_addresses();
    return options;
  }

  HandMadeControl control_;
  hypervisor::HttpOptions options_;
  std::unique_ptr<http::Server> server_;
  std::string folder_;
};

TEST_F(SourceTest, TheDaemonsAnswersBecomeTheModel) {
  serve();
  const auto source = open_source(usual());
  const RowKey row{uuid_of(1), "ml.trainer-aaaa"};
  const Model model = source->look({row, true});
  EXPECT_EQ(model.source, "daemon of node-1");
  EXPECT_EQ(model.trouble, "");
  EXPECT_EQ(model.time_ns, 1'764'000'001'000'000'000U);
  ASSERT_EQ(model.gpus.size(), 2U);
  EXPECT_EQ(model.gpus[0].gpu.name, "NVIDIA H200");
  EXPECT_EQ(model.gpus[0].gpu.used_bytes, 70ULL << 30);
  EXPECT_EQ(model.gpus[0].got_1s, 91.5);
  EXPECT_TRUE(model.gpus[0].gpu.mig_enabled);
  EXPECT_EQ(model.gpus[0].gpu.mig_devices, 1U);
  EXPECT_FALSE(model.gpus[1].gpu.mig_enabled);
  const GpuSample& sample = model.samples.at(uuid_of(1));
  EXPECT_EQ(sample.temperature_celsius, 61U);
  EXPECT_EQ(sample.promised_percent, 130U);
  EXPECT_FALSE(sample.throttled_by.empty());
  EXPECT_EQ(model.samples.at(uuid_of(2)).trouble, "lost: it fell off the bus");

  const survey::TenantFigures* tenant = model.row(row);
  ASSERT_NE(tenant, nullptr);
  EXPECT_EQ(tenant->quota.compute_share_percent, 30);
  EXPECT_EQ(tenant->quota.priority, Priority::high);
  EXPECT_EQ(tenant->quota.memory_limit_bytes, 8ULL << 30);
  EXPECT_EQ(tenant->quota.memory_source, vgpu::Source::run);
  EXPECT_EQ(tenant->owed, 23);
  EXPECT_EQ(tenant->use.got_1s, 22.75);
  EXPECT_EQ(tenant->use.turn_1s, 12);
  EXPECT_EQ(tenant->use.debt_ns, 1'500'000U);
  EXPECT_EQ(tenant->use.history.at(1), 22.5);
  ASSERT_EQ(tenant->processes.size(), 1U);
  EXPECT_EQ(tenant->processes[0].pid, 7);
  EXPECT_EQ(tenant->processes[0].got_1s, 22.75);
  EXPECT_EQ(model.tenants.at(row.tenant).owner, "ann");
  EXPECT_EQ(model.tenants.at(row.tenant).refused.at(uuid_of(1)), 3U);
  EXPECT_FALSE(model.row({uuid_of(1), "odd-bbbb"})->quota.limits_memory());

  ASSERT_EQ(model.processes.size(), 2U);
  EXPECT_EQ(model.processes[0].tenant, "ml.trainer");
  EXPECT_EQ(model.processes[0].command_line, kHostile);
  EXPECT_TRUE(model.processes[1].is_unlimited());
  ASSERT_EQ(model.gpus[0].outsiders.size(), 1U);
  EXPECT_EQ(model.gpus[0].outsiders[0].pid, 4712U);
  EXPECT_EQ(model.events.size(), 3U);
  EXPECT_EQ(model.events[0].kind, "tenant_began");
  EXPECT_EQ(model.notes, std::vector<std::string>{"a note"});

  ASSERT_TRUE(model.detail);
  ASSERT_TRUE(model.detail->why);
  EXPECT_EQ(model.detail->why->summary, "it got 23 % of the GPU");
  EXPECT_EQ(model.detail->why->causes.at(1).next, "more work");
  ASSERT_EQ(model.detail->plot.got.size(), 2U);
  EXPECT_FALSE(model.detail->plot.got[0]) << "not known";
  EXPECT_EQ(model.detail->plot.got[1], 22.5);
  EXPECT_EQ(model.plots.at(uuid_of(1)).got.size(), 2U);
}

TEST_F(SourceTest, WhoIsUnlimitedIsTheDaemonsToSay) {
  using hypervisor::LimiterPresence;
  hypervisor::NodeState node = hypervisor::http_test::full_state();
  const auto add = [&](pid_t pid, const char* program, LimiterPresence limiter, bool exempt) {
    hypervisor::ProcessState process;
    process.host_pid = pid;
    process.program = program;
    process.limiter = limiter;
    process.exempt = exempt;
    process.gpus = {{uuid_of(1), std::nullopt, 1ULL << 30, std::nullopt}};
    node.processes.push_back(process);
  };
  add(5001, "hider", LimiterPresence::elsewhere, false);
  add(5002, "display", LimiterPresence::absent, true);
  add(5003, "stranger", LimiterPresence::unknown, false);
  control_.set(node);
  serve();
  const Model model = open_source(usual())->look({});
  State state;
  const auto line_with = [&](View view, const std::string& program) {
    state.view = view;
    for (const auto& line : draw(model, state, {40, 100}, Glyphs::unicode)) {
      if (line.text().find(program) != std::string::npos) return line;
    }
    ADD_FAILURE() << "no line about " << program;
    return Line();
  };
  const auto is_red = [](const Line& line) {
    return std::any_of(line.spans.begin(), line.spans.end(),
                       [](const Span& span) { return span.ink == Ink::bad; });
  };
  for (const View view : {View::overview, View::processes}) {
    EXPECT_THAT(line_with(view, "hider").text(), HasSubstr("UNLIMITED"));
    EXPECT_TRUE(is_red(line_with(view, "hider")));
    for (const char* program : {"display", "stranger"}) {
      EXPECT_THAT(line_with(view, program).text(), testing::Not(HasSubstr("UNLIMITED")));
      EXPECT_FALSE(is_red(line_with(view, program)));
    }
    EXPECT_THAT(line_with(view, "display").text(), HasSubstr("exempt"));
  }
}

TEST_F(SourceTest, EventsComeOnce) {
  serve();
  const auto source = open_source(usual());
  EXPECT_EQ(source->look({}).events.size(), 3U);
  control_.say(hypervisor::EventKind::xid_error, "XID 79");
  const Model model = source->look({});
  ASSERT_EQ(model.events.size(), 4U);
  EXPECT_EQ(model.events.back().text, "XID 79");
  EXPECT_GT(model.events.back().sequence, model.events[2].sequence);
}

TEST_F(SourceTest, ADaemonThatWasReplacedTellsItsEventsFromTheStart) {
  serve();
  const auto source = open_source(usual());
  EXPECT_EQ(source->look({}).events.size(), 3U);
  hypervisor::NodeState fresh = hypervisor::http_test::full_state();
  fresh.boot_id = "run-2";
  control_.set(fresh);
  EXPECT_EQ(source->look({}).events.size(), 6U);
  EXPECT_EQ(source->look({}).events.size(), 6U);
}

TEST_F(SourceTest, AChangeIsTheDaemonsToMakeOrToRefuse) {
  serve();
  const auto source = open_source(usual());
  source->look({});
  Change change;
  change.row = {uuid_of(1), "ml.trainer-aaaa"};
  change.flags.compute = "40";
  const ChangeResult done = source->change(change);
  EXPECT_TRUE(done.done) << done.text;
  EXPECT_THAT(done.text, HasSubstr("share 40 %"));
  change.row.tenant = "nobody";
  const ChangeResult refused = source->change(change);
  EXPECT_FALSE(refused.done);
  EXPECT_EQ(refused.code, "VG1003");
  setenv("VGPU_TENANT", "t-1", 1);
  EXPECT_EQ(source->change(change).code, "VG1007") << "not from inside";
  unsetenv("VGPU_TENANT");
}

TEST_F(SourceTest, WithoutADaemonTheSegmentsSayAndThatIsSaid) {
  SourceOptions options = usual();
  options.simulated = true;
  EXPECT_EQ(open_source(options)->look({}).trouble, "");
  options.say_so = true;
  const auto source = open_source(options);
  const Model model = source->look({});
  EXPECT_EQ(model.source, "no daemon");
  EXPECT_THAT(model.trouble, HasSubstr("segments are shown: nothing at unix:" + path()));
}

TEST_F(SourceTest, ADaemonOfOtherDirectoriesOrGpusIsNotThisUsers) {
  serve();
  SourceOptions options = usual();
  options.of_this_user = true;
  options.simulated = true;
  EXPECT_EQ(open_source(options)->look({}).source, "no daemon") << "it looks after /run/vgpu";
  hypervisor::NodeState ours = hypervisor::http_test::full_state();
  ours.state_directories = {"/run/vgpu", folder_ + "/state"};
  control_.set(ours);
  EXPECT_EQ(open_source(options)->look({}).source, "daemon of node-1");
  ours.driver.simulated = false;
  control_.set(ours);
  EXPECT_EQ(open_source(options)->look({}).source, "no daemon") << "of other GPUs";
}

TEST_F(SourceTest, WhenTheDaemonGoesTheSegmentsSay) {
  serve();
  const auto source = open_source(usual());
  EXPECT_EQ(source->look({}).source, "daemon of node-1");
  server_.reset();
  const Model model = source->look({});
  EXPECT_EQ(model.source, "no daemon");
  EXPECT_THAT(model.trouble, HasSubstr("segments are shown: unix:" + path()));
}

TEST_F(SourceTest, WhereADaemonIsNeededItIsAnErrorAndLaterTheLastLook) {
  SourceOptions options = usual();
  options.segments_will_do = false;
  EXPECT_THROW(open_source(options), survey::Problem);
  serve();
  const auto source = open_source(options);
  source->look({});
  server_.reset();
  const Model model = source->look({});
  EXPECT_EQ(model.source, "daemon of node-1");
  EXPECT_THAT(model.trouble, HasSubstr("this is how it was"));
  EXPECT_FALSE(source->change({}).done);
}

}  // namespace
}  // namespace vgpu::tui
