// SPDX-License-Identifier: Apache-2.0
#include "containment.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace vgpu::hypervisor {
namespace {

const std::string kOneId(64, 'a'), kOtherId(64, 'b');

Surroundings host() {
  Surroundings one;
  one.pid_namespaces = 1;
  one.user_map = "         0          0 4294967295\n";
  one.pid_namespace = 4'026'531'836;
  return one;
}

TEST(Containment, APidForEachNamespaceFromOursInwards) {
  EXPECT_EQ(pid_namespaces_in("Name:\tx\nNSpid:\t100\nNSpgid:\t100\n"), 1u);
  EXPECT_EQ(pid_namespaces_in("Name:\tx\nNSpid:\t100\t7\t1\n"), 3u);
  EXPECT_EQ(pid_namespaces_in("Name:\tNSpid: 1 2\nPid:\t5\n"), 0u) << "a name says nothing";
  EXPECT_EQ(pid_namespaces_in(""), 0u);
  EXPECT_EQ(pid_namespaces_in("Name:\tx\nNSpid:"), 0u);
}

TEST(Containment, WhatLiesWithinOrIsNotKnownIsAContainer) {
  EXPECT_FALSE(is_contained(host(), host()));
  Surroundings nested = host();
  nested.pid_namespaces = 2;
  EXPECT_TRUE(is_contained(nested, host()));
  Surroundings mapped = host();
  mapped.user_map = "0 1000 1\n";
  EXPECT_TRUE(is_contained(mapped, host())) << "root there is a user of this machine";
  Surroundings grouped = host();
  grouped.containers = {kOneId};
  EXPECT_TRUE(is_contained(grouped, host())) << "a pod with the machine's PID namespace";
  Surroundings ours = host();
  ours.containers = {kOneId};
  EXPECT_FALSE(is_contained(grouped, ours)) << "beside a daemon that is in a container itself";
  EXPECT_FALSE(is_contained(host(), ours));
  EXPECT_TRUE(is_contained(Surroundings(), host()));
}

TEST(Containment, EachContainerHasANameOfItsOwn) {
  Surroundings one = host(), other = host();
  one.containers = {kOneId};
  other.containers = {kOtherId};
  EXPECT_EQ(container_name(one, host()), kOneId.substr(0, 12));
  EXPECT_NE(container_name(one, host()), container_name(other, host()));
  EXPECT_EQ(container_name(one, one), "ns4026531836")
      << "a namespace within the daemon's container";
  EXPECT_EQ(container_name(Surroundings(), host()), "");
}

TEST(Containment, ThisProcessIsInNone) {
  EXPECT_EQ(container_around(getpid()), std::nullopt);
  const Surroundings own = surroundings_of(getpid());
  EXPECT_EQ(own.pid_namespaces, 1u);
  EXPECT_FALSE(own.user_map.empty());
}

}  // namespace
}  // namespace vgpu::hypervisor
