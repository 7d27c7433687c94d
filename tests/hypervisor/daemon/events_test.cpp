// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include <gtest/gtest.h>

#include <thread>

namespace vgpu::hypervisor {
namespace {

using std::chrono::milliseconds;

TEST(EventLogTest, WhoAsksWithTheLastNumberGetsWhatCameSince) {
  EventLog log;
  for (int i = 0; i < 5; ++i) log.add(1, EventKind::xid_error, "", std::to_string(i));
  const EventBatch first = log.after(0, 3, milliseconds(0));
  ASSERT_EQ(first.events.size(), 3u);
  EXPECT_EQ(first.next, 3u);
  const EventBatch rest = log.after(first.next, 100, milliseconds(0));
  ASSERT_EQ(rest.events.size(), 2u);
  EXPECT_EQ(rest.events[0].text, "3");
  EXPECT_TRUE(log.after(rest.next, 100, milliseconds(0)).events.empty());
  EXPECT_EQ(log.after(rest.next, 100, milliseconds(0)).next, 5u);
}

TEST(EventLogTest, WhatIsForgottenIsSaid) {
  EventLog log;
  for (std::size_t i = 0; i < EventLog::kRemembered + 10; ++i)
    log.add(1, EventKind::xid_error, "", "");
  const EventBatch late = log.after(3, 1, milliseconds(0));
  EXPECT_TRUE(late.missed);
  ASSERT_EQ(late.events.size(), 1u);
  EXPECT_EQ(late.events[0].sequence, 11u);
  EXPECT_FALSE(log.after(late.next, 1, milliseconds(0)).missed);
}

TEST(EventLogTest, ANumberOfAnotherRunGetsAll) {
  EventLog log;
  log.add(1, EventKind::xid_error, "", "only");
  EXPECT_EQ(log.after(999, 10, milliseconds(0)).events.size(), 1u);
}

TEST(EventLogTest, WhoWaitsIsWokenByAnEventAndByTheEnd) {
  EventLog log;
  std::thread other([&] { log.add(1, EventKind::xid_error, "", "woken"); });
  EXPECT_EQ(log.after(0, 10, std::chrono::minutes(1)).events.size(), 1u);
  other.join();
  std::thread closes([&] { log.close(); });
  EXPECT_TRUE(log.after(1, 10, std::chrono::minutes(1)).events.empty());
  closes.join();
}

}  // namespace
}  // namespace vgpu::hypervisor
