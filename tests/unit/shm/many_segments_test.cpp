// SPDX-License-Identifier: Apache-2.0
// One host for the segments of several users: they share a GPU as the tenants of one do, nobody's
// own word of its terms counts, and when the host is gone each segment keeps the plan that was left
// in it. By a clock of the test's own.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node_layout.h"
#include "vgpu/host/host.h"
#include "vgpu/shm/node.h"

namespace vgpu::shm {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kKernelNs = kMs / 2;

struct Terms final : host::SeatTerms {
  std::map<std::uint64_t, Quota> of;
  bool find(std::uint64_t tenant, const GpuUuid&, Quota& out) const override {
    const auto at = of.find(tenant);
    if (at != of.end()) out = at->second;
    return at != of.end();
  }
};

Quota share(int percent) {
  Quota quota;
  quota.compute_share_percent = static_cast<std::uint8_t>(percent);
  return quota;
}

// A user's directory with its node segment, and one process of a tenant that saturates the GPU.
class User {
 public:
  User(std::string_view tenant, int said_percent, std::uint64_t now) {
    std::string name = (std::filesystem::temp_directory_path() / "vgpu-user-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) directory.path.append(name);
    EXPECT_EQ(Node::open(directory, node), Status::ok);
    sit(tenant, said_percent, now);
  }
  ~User() {
    std::error_code ignored;
    std::filesystem::remove_all(directory.path.c_str(), ignored);
  }
  void sit(std::string_view tenant, int said_percent, std::uint64_t now) {
    GpuUuid gpu;
    gpu.bytes[0] = 0x5a;
    std::uint32_t number = kNoSeat;
    EXPECT_EQ(node.take_seat(gpu, tenant, now, number), Status::ok);
    seat = Seat(node.seat(number));
    seat.set_terms(share(said_percent));
  }
  bool may_launch(std::uint64_t now) const {
    const std::uint64_t grant = seat.grant().load();
    return core::GrantWord::epoch(grant) == core::Hosting::unpack(node.host().load()).epoch &&
           now < core::GrantWord::end_ns(grant);
  }
  void play(std::uint64_t now) {
    if (report.busy_until_ns > now) return;
    report.done_ns = report.work_ns;
    if (may_launch(now)) {
      report.want_since_ns = 0;
      report.last_launch_ns = now;
      report.busy_until_ns = now + kKernelNs;
      report.work_ns += kKernelNs;
      ++report.place;
    } else if (report.want_since_ns == 0) {
      report.want_since_ns = now;
    }
    seat.report(report);
  }

  StateDir directory;
  Node node;
  Seat seat;
  SeatReport report;
};

// Gives how many kernels each did.
std::vector<std::uint64_t> run(host::Host& host, const std::vector<User*>& users,
                               std::uint64_t& now, std::uint64_t length) {
  std::vector<std::uint64_t> before;
  for (const User* user : users) before.push_back(user->report.place);
  for (const std::uint64_t end = now + length; now < end; now += kMs / 10) {
    for (User* user : users) user->play(now);
    host.step(now);
  }
  std::vector<std::uint64_t> done;
  for (std::size_t i = 0; i < users.size(); ++i) done.push_back(users[i]->report.place - before[i]);
  return done;
}

class ManySegments : public ::testing::Test {
 protected:
  std::uint64_t now = 1'000 * kMs;
  User first{"train", 30, now};
  User second{"train", 70, now};
};

TEST_F(ManySegments, ShareAGpuAsTheTenantsOfOneDo) {
  host::Host host;
  ASSERT_TRUE(host.add(first.node) && host.add(second.node));
  EXPECT_EQ(host.replace(now), 2u);
  EXPECT_TRUE(host.hosts_all());
  (void)run(host, {&first, &second}, now, 300 * kMs);
  const auto done = run(host, {&first, &second}, now, 1'500 * kMs);
  const double sum = static_cast<double>(done[0] + done[1]);
  EXPECT_NEAR(100 * static_cast<double>(done[0]) / sum, 30, 2);
  EXPECT_GT(sum, 2'800);  // of 3,000
}

TEST_F(ManySegments, WhatATenantSaysOfItselfDoesNotCountWhereTheHostKnowsBetter) {
  Terms of_first, of_second;
  of_first.of[tenant_number("train")] = share(80);
  of_second.of[tenant_number("train")] = share(20);
  host::Host host;
  ASSERT_TRUE(host.add(first.node, &of_first) && host.add(second.node, &of_second));
  host.replace(now);
  (void)run(host, {&first, &second}, now, 300 * kMs);
  second.seat.set_terms(share(100));
  const auto done = run(host, {&first, &second}, now, 1'500 * kMs);
  EXPECT_NEAR(100.0 * static_cast<double>(done[0]) / static_cast<double>(done[0] + done[1]), 80, 2);

  // A tenant that nobody knows is owed nothing.
  second.sit("invented", 100, now);
  second.report = {};
  (void)run(host, {&first, &second}, now, 300 * kMs);
  const auto then = run(host, {&first, &second}, now, 600 * kMs);
  EXPECT_GT(then[0], 8 * then[1]);
}

TEST_F(ManySegments, OneMayGoAndTheOthersStayHosted) {
  User third("alone", 50, now);
  host::Host host;
  ASSERT_TRUE(host.add(first.node) && host.add(second.node) && host.add(third.node));
  host.replace(now);
  (void)run(host, {&first, &second, &third}, now, 200 * kMs);
  host.remove(first.node);
  EXPECT_EQ(core::Hosting::unpack(first.node.host().load()).deadline_ns, 0u);
  EXPECT_TRUE(host.hosts_all());
  (void)run(host, {&second, &third}, now, 300 * kMs);
  const auto done = run(host, {&second, &third}, now, 1'000 * kMs);
  EXPECT_NEAR(100.0 * static_cast<double>(done[0]) / static_cast<double>(done[0] + done[1]), 58, 3);
}

TEST_F(ManySegments, OneThatIsTakenAwayComesBackAndTheOthersNeverStop) {
  host::Host host;
  ASSERT_TRUE(host.add(first.node) && host.add(second.node));
  host.replace(now);
  (void)run(host, {&first, &second}, now, 100 * kMs);
  host::Host thief(first.node);
  ASSERT_EQ(thief.replace(now), 1u);
  const auto done = run(host, {&second}, now, 100 * kMs);
  EXPECT_FALSE(host.hosts_all());
  EXPECT_TRUE(host.hosts());
  EXPECT_GT(done[0], 150u);
  EXPECT_EQ(host.replace(now), 1u);
  EXPECT_TRUE(host.hosts_all());
}

TEST_F(ManySegments, WithoutTheDaemonEachKeepsToItsWindow) {
  constexpr std::uint64_t kPeriod = 100 * kMs;
  first.node.set_plan({OnDaemonLoss::hold, kPeriod, 0, 30 * kMs});
  second.node.set_plan({OnDaemonLoss::hold, kPeriod, 30 * kMs, kPeriod});
  host::Host of_first(first.node), of_second(second.node);
  of_first.replace(now);
  of_second.replace(now);
  std::array<std::uint64_t, 2> launches{};
  for (const std::uint64_t end = now + 1'000 * kMs; now < end; now += kMs / 10) {
    const std::uint64_t before[] = {first.report.place, second.report.place};
    first.play(now);
    second.play(now);
    const bool in_first = now % kPeriod < 30 * kMs;
    if (first.report.place != before[0]) {
      ++launches[0];
      EXPECT_TRUE(in_first);
    }
    if (second.report.place != before[1]) {
      ++launches[1];
      EXPECT_FALSE(in_first);
    }
    of_first.step(now);
    of_second.step(now);
  }
  EXPECT_NEAR(static_cast<double>(launches[0]), 600, 40);  // 30 % of 2,000
  EXPECT_NEAR(static_cast<double>(launches[1]), 1'400, 40);
}

TEST_F(ManySegments, APlanToStopOrToOpenIsKeptWhenTheDaemonIsGone) {
  for (const OnDaemonLoss policy : {OnDaemonLoss::stop, OnDaemonLoss::open}) {
    first.node.set_plan({policy, 0, 0, 0});
    Quota limited = share(30);
    limited.compute_limit_percent = 30;
    first.seat.set_terms(limited);
    {
      host::Host daemon;
      daemon.set_daemon(policy);
      ASSERT_TRUE(daemon.add(first.node));
      daemon.replace(now);
      EXPECT_FALSE(daemon.take_daemon_lost()) << "it is one itself";
      EXPECT_GT(run(daemon, {&first}, now, 200 * kMs)[0], 300u);
      // Alone, and yet nothing is given for ever: its end would never be noticed.
      EXPECT_TRUE(core::GrantWord::is_counted(first.seat.grant().load()));
      EXPECT_FALSE(first.may_launch(now + 1'000 * kMs));
    }
    host::Host fallback(first.node);
    now += 100 * kMs;
    ASSERT_TRUE(fallback.take_over(now, now - 50 * kMs));
    EXPECT_TRUE(fallback.take_daemon_lost());
    EXPECT_FALSE(fallback.take_daemon_lost()) << "once";
    EXPECT_FALSE(first.node.is_daemons());
    const auto done = run(fallback, {&first}, now, 200 * kMs);
    if (policy == OnDaemonLoss::stop) {
      EXPECT_EQ(done[0], 0u);
    } else {
      EXPECT_GT(done[0], 300u);
      EXPECT_TRUE(core::GrantWord::is_alone(first.seat.grant().load()));
    }
  }
}

TEST_F(ManySegments, APlanThatMakesNoSenseIsNone) {
  first.node.set_plan({static_cast<OnDaemonLoss>(9), 60'000 * kMs, 7, 3});
  EXPECT_EQ(first.node.plan(), LossPlan());
  first.node.set_plan({OnDaemonLoss::hold, 10 * kMs, 5 * kMs, 20 * kMs});
  EXPECT_EQ(first.node.plan(), LossPlan());
}

// One of many segments can't have all the seats that there are for all.
TEST_F(ManySegments, ACrowdInOneLeavesSeatsToTheOthers) {
  for (std::uint32_t i = 1; i < kSeats; ++i) first.sit("crowd", 0, now);
  host::Host host;
  ASSERT_TRUE(host.add(first.node) && host.add(second.node));
  host.replace(now);
  host.step(now);
  const auto done = run(host, {&second}, now, 60 * kMs);
  EXPECT_GT(done[0], 100u);  // the crowd has seats, and asks for nothing
}

}  // namespace
}  // namespace vgpu::shm
