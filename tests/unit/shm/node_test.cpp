// SPDX-License-Identifier: Apache-2.0
// The node segment: made once, opened by many, refused when it is damaged; seats of processes that
// are gone can be had again.
#include "vgpu/shm/node.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "node_layout.h"

namespace vgpu::shm {
namespace {

class NodeSegment : public ::testing::Test {
 protected:
  NodeSegment() {
    std::string name = (std::filesystem::temp_directory_path() / "vgpu-node-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) directory_.path.append(name);
    gpu_.bytes[0] = 0x5a;
  }
  ~NodeSegment() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_.path.c_str(), ignored);
  }
  std::string file() const { return std::string(directory_.path.view()) + "/node.seats"; }
  void overwrite(std::size_t at, const void* bytes, std::size_t size) const {
    const int fd = ::open(file().c_str(), O_WRONLY);
    ASSERT_EQ(::pwrite(fd, bytes, size, static_cast<off_t>(at)), static_cast<ssize_t>(size));
    ::close(fd);
  }

  StateDir directory_;
  GpuUuid gpu_;
};

TEST_F(NodeSegment, IsNotMadeByWhoOnlyLooks) {
  Node node;
  EXPECT_EQ(Node::look(directory_, node), Status::not_found);
  EXPECT_FALSE(std::filesystem::exists(file()));
  EXPECT_EQ(Node::open(directory_, node), Status::ok);
  Node other;
  EXPECT_EQ(Node::look(directory_, other), Status::ok);
}

TEST_F(NodeSegment, ShowsASeatAsItWasTaken) {
  Node node;
  ASSERT_EQ(Node::open(directory_, node), Status::ok);
  std::uint32_t seat = kNoSeat;
  ASSERT_EQ(node.take_seat(gpu_, "train", 5'000'000'000, seat), Status::ok);
  Quota terms;
  terms.compute_share_percent = 30;
  terms.priority = Priority::high;
  SeatRecord& record = node.seat(seat);
  record.terms = pack_terms(terms);
  record.lag_ns = static_cast<std::uint64_t>(std::int64_t{-7});
  record.history[4].work_ns = 250'000'000;
  record.history[4].second = 4;

  Node reader;
  ASSERT_EQ(Node::look(directory_, reader), Status::ok);
  ASSERT_TRUE(reader.is_live(seat));
  SeatFacts facts;
  ASSERT_TRUE(reader.facts(seat, 5'500'000'000, facts));
  EXPECT_EQ(facts.pid, ::getpid());
  EXPECT_EQ(facts.gpu, gpu_);
  EXPECT_EQ(facts.tenant.view(), "train");
  EXPECT_EQ(facts.terms.compute_share_percent, 30);
  EXPECT_EQ(facts.terms.priority, Priority::high);
  EXPECT_EQ(facts.lag_ns, -7);
  EXPECT_FALSE(facts.is_open);
  EXPECT_EQ(facts.seconds[0].work_ns, 250'000'000U);
  EXPECT_EQ(facts.seconds[1].work_ns, 0U) << "a second that left nothing";
  node.leave_seat(seat);
  EXPECT_FALSE(reader.facts(seat, 5'500'000'000, facts));
}

TEST_F(NodeSegment, GivesTheSeatOfADeadProcessAway) {
  Node node;
  ASSERT_EQ(Node::open(directory_, node), Status::ok);
  const pid_t child = ::fork();
  if (child == 0) {
    Node own;
    std::uint32_t seat = kNoSeat;
    const bool good = Node::open(directory_, own) == Status::ok &&
                      own.take_seat(gpu_, "gone", 1, seat) == Status::ok;
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(node.reap(), 1U);
  EXPECT_EQ(node.reap(), 0U);
}

TEST_F(NodeSegment, KeepsTheSeatsOfTheLiving) {
  Node node;
  Node other;
  ASSERT_EQ(Node::open(directory_, node), Status::ok);
  ASSERT_EQ(Node::open(directory_, other), Status::ok);
  std::uint32_t seat = kNoSeat;
  ASSERT_EQ(node.take_seat(gpu_, "lives", 1, seat), Status::ok);
  EXPECT_EQ(other.reap(), 0U);
  EXPECT_EQ(node.reap(), 0U);
  EXPECT_TRUE(other.is_live(seat));
}

TEST_F(NodeSegment, IsRefusedWhenItIsOfAnotherVersionOrDamaged) {
  {
    Node node;
    ASSERT_EQ(Node::open(directory_, node), Status::ok);
  }
  const std::uint32_t newer = kNodeMajor + 1;
  overwrite(offsetof(NodeHeader, major), &newer, sizeof newer);
  Node node;
  EXPECT_EQ(Node::open(directory_, node), Status::bad_version);
  overwrite(offsetof(NodeHeader, major), &kNodeMajor, sizeof kNodeMajor);
  const std::uint32_t seats = 7;
  overwrite(offsetof(NodeHeader, seat_count), &seats, sizeof seats);
  EXPECT_EQ(Node::open(directory_, node), Status::corrupt);
  std::filesystem::resize_file(file(), 100);
  EXPECT_EQ(Node::open(directory_, node), Status::corrupt);
}

}  // namespace
}  // namespace vgpu::shm
