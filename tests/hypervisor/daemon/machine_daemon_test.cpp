// SPDX-License-Identifier: Apache-2.0
// What the daemon takes upon itself where nobody says anything: root's looks after the machine's
// users, and is where they look for it; told of a state directory, or anybody else's, it isn't.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "loss_plan.h"
#include "settings/apply.h"
#include "state_directories.h"

namespace vgpu::hypervisor {
namespace {

class NothingSet final : public vgpu::settings::Environment {
 public:
  const char* get(const char* /*name*/) const override { return nullptr; }
};

DaemonOptions of_file(const std::string& toml) {
  settings::Loaded loaded = settings::read({}, NothingSet(), toml, "f.toml");
  settings::check_meaning(loaded);
  EXPECT_TRUE(loaded.faults.empty());
  return settings::options_of(loaded);
}

class MachineDaemon : public ::testing::Test {
 protected:
  MachineDaemon() {
    if (const char* before = std::getenv("VGPU_STATE_DIR")) before_ = before;
    unsetenv("VGPU_STATE_DIR");
  }
  ~MachineDaemon() override {
    if (!before_.empty()) setenv("VGPU_STATE_DIR", before_.c_str(), 1);
  }
  std::string before_;
};

TEST_F(MachineDaemon, OfRootIsWhereEveryUserLooks) {
  if (geteuid() != 0) GTEST_SKIP() << "it is root's";
  const DaemonOptions options = of_file("");
  EXPECT_EQ(options.users_directories.size(), 2u);
  EXPECT_EQ(options.http.default_socket, kMachineSocket);
  EXPECT_EQ(options.http.socket_access, SocketAccess::all);
  // What is said holds.
  const DaemonOptions told = of_file("[api]\nsocket = \"/x/s\"\nsocket-access = \"owner\"\n");
  EXPECT_EQ(told.http.default_socket, "");
  EXPECT_EQ(told.http.socket, "/x/s");
  EXPECT_EQ(told.http.socket_access, SocketAccess::owner);
  EXPECT_EQ(told.quotas_folder, "/x/quotas");
  EXPECT_TRUE(of_file("[tenants]\ndirectories = [\"own\"]\n").users_directories.empty());
}

TEST_F(MachineDaemon, ToldOfAStateDirectoryLooksAfterThatOne) {
  setenv("VGPU_STATE_DIR", "/x/state", 1);
  const DaemonOptions options = of_file("");
  unsetenv("VGPU_STATE_DIR");
  EXPECT_TRUE(options.users_directories.empty());
  EXPECT_EQ(options.http.default_socket, "");
  EXPECT_EQ(options.http.socket_access, SocketAccess::owner);
}

TEST(UserDirectories, GiveTenantsIdsThatAreOneUsersOnly) {
  UserDirectory directory;
  directory.user = 1001;
  EXPECT_EQ(directory.public_id("train"), "train");
  directory.is_own = false;
  EXPECT_EQ(directory.public_id("train"), "train@1001");
  EXPECT_EQ(user_in("train@1001"), 1001u);
  EXPECT_EQ(user_in("train"), std::nullopt);
  EXPECT_EQ(user_in("train@here"), std::nullopt);
  const std::string longest(shm::kMaxName, 'x');
  EXPECT_EQ(directory.public_id(longest).size(), shm::kMaxName);
  EXPECT_EQ(user_in(directory.public_id(longest)), 1001u);
}

TEST(LossPlans, GiveWindowsToThoseThatMeetByWhatTheyAreOwed) {
  GpuUuid first, second;
  first.bytes[0] = 1;
  second.bytes[0] = 2;
  DirectoryUse a, b, apart, idle;
  a.percent = {{first, 30}};
  b.percent = {{first, 60}, {second, 10}};
  GpuUuid third;
  third.bytes[0] = 3;
  apart.percent = {{third, 50}};
  const auto plans = loss_plans(shm::OnDaemonLoss::hold, {a, b, apart, idle});
  EXPECT_EQ(plans[0].begin_ns, 0u);
  EXPECT_NEAR(static_cast<double>(plans[0].end_ns), static_cast<double>(plans[0].period_ns) / 3, 2);
  EXPECT_EQ(plans[1].begin_ns, plans[0].end_ns);
  EXPECT_EQ(plans[1].end_ns, plans[1].period_ns);
  EXPECT_EQ(plans[0].period_ns, plans[1].period_ns);
  // Who meets nobody works at any time.
  EXPECT_EQ(plans[2].period_ns, 0u);
  EXPECT_EQ(plans[3].period_ns, 0u);
  for (const auto& plan : loss_plans(shm::OnDaemonLoss::stop, {a, b})) {
    EXPECT_EQ(plan.policy, shm::OnDaemonLoss::stop);
    EXPECT_EQ(plan.period_ns, 0u);
  }
}

}  // namespace
}  // namespace vgpu::hypervisor
