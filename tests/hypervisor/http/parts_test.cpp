// SPDX-License-Identifier: Apache-2.0
// The pure parts between a connection and a handler: limits, heads, routes, addresses, peers.
#include <gtest/gtest.h>

#include "http/limits.h"
#include "http/listener.h"
#include "http/peer.h"
#include "http/request_head.h"
#include "http/router.h"

namespace vgpu::hypervisor::http {
namespace {

using std::chrono::seconds;

TEST(PeerLimits, AFloodUsesUpItsOwnPartOnly) {
  Limits limits;
  limits.connections = 10;
  limits.connections_of_peer = 4;
  PeerLimits peers(limits);
  const PeerLimits::Time now{};
  int held = 0;
  for (int i = 0; i < 100; ++i) held += peers.enter_connection("flood", false, now) ? 1 : 0;
  EXPECT_EQ(held, 4);
  EXPECT_TRUE(peers.enter_connection("other", false, now));
  for (int i = 0; i < 4; ++i)
    EXPECT_TRUE(peers.enter_connection("x" + std::to_string(i), false, now));
  for (int i = 0; i < 4; ++i) peers.enter_connection("y" + std::to_string(i), false, now);
  EXPECT_FALSE(peers.enter_connection("eleventh", false, now));
  EXPECT_TRUE(peers.enter_connection("uid 0", true, now)) << "the socket's places are its own";
  peers.leave_connection("flood", false);
  EXPECT_TRUE(peers.enter_connection("eleventh", false, now));
}

TEST(PeerLimits, WhoWaitsHoldsNoConnectionAndWaitersHaveABoundOfTheirOwn) {
  Limits limits;
  limits.connections = 2;
  limits.connections_of_peer = 1;
  limits.waits = 3;
  limits.waits_of_peer = 2;
  PeerLimits peers(limits);
  const PeerLimits::Time now{};
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(peers.enter_connection("uid 1", true, now)) << i;
    EXPECT_TRUE(peers.enter_wait("uid 1", true));
  }
  EXPECT_EQ(peers.connections(), 0u);
  ASSERT_TRUE(peers.enter_connection("uid 1", true, now));
  EXPECT_FALSE(peers.enter_wait("uid 1", true)) << "as many of one peer as may";
  ASSERT_TRUE(peers.enter_connection("uid 2", true, now));
  EXPECT_TRUE(peers.enter_wait("uid 2", true));
  ASSERT_TRUE(peers.enter_connection("uid 3", true, now));
  EXPECT_FALSE(peers.enter_wait("uid 3", true)) << "as many as may";
  peers.leave_wait("uid 1", true);
  EXPECT_EQ(peers.waits(), 2u);
  EXPECT_TRUE(peers.enter_wait("uid 3", true));
  EXPECT_FALSE(peers.enter_connection("uid 1", true, now)) << "it has its connections again";
}

TEST(PeerLimits, RequestsComeInBurstsAndThenByTheSecond) {
  Limits limits;
  limits.requests_per_second = 10;
  limits.burst = 20;
  PeerLimits peers(limits);
  PeerLimits::Time now{seconds(1000)};
  int admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += peers.admit_request("a", now) ? 1 : 0;
  EXPECT_EQ(admitted, 20);
  EXPECT_TRUE(peers.admit_request("b", now));
  now += seconds(1);
  admitted = 0;
  for (int i = 0; i < 100; ++i) admitted += peers.admit_request("a", now) ? 1 : 0;
  EXPECT_EQ(admitted, 10);
}

TEST(PeerLimits, ManyPeersArentRememberedForEver) {
  PeerLimits peers(Limits{});
  PeerLimits::Time now{seconds(1000)};
  for (int i = 0; i < 5000; ++i) {
    peers.admit_request(std::to_string(i), now);
    now += std::chrono::milliseconds(100);
  }
  EXPECT_LE(peers.known_peers(), 1100U);
}

int status_of(const std::string& head) { return judge_head(head, 1000).refused; }

TEST(RequestHead, WhatMakesABodyAmbiguousIsRefused) {
  const std::string line = "POST /x HTTP/1.1\r\n";
  EXPECT_EQ(status_of(line + "Host: a\r\nContent-Length: 5\r\n\r\n"), 0);
  EXPECT_EQ(judge_head(line + "Content-Length: 5\r\n\r\n", 1000).body_bytes, 5U);
  EXPECT_EQ(status_of(line + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + "Content-Length: 5, 5\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + "Content-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + "Content-Length: +1\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + "Content-Length: 99999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + "Content-Length: 1001\r\n\r\n"), 413);
  EXPECT_EQ(status_of(line + "Transfer-Encoding: chunked\r\n\r\n"), 411);
  EXPECT_EQ(status_of(line + "Content-Encoding: gzip\r\n\r\n"), 415);
  EXPECT_EQ(status_of(line + "Content-Type: multipart/form-data; boundary=x\r\n\r\n"), 415);
  EXPECT_EQ(status_of(line + "Content-Length : 5\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + " folded: 5\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + "A: b\nContent-Length: 5\r\n\r\n"), 400);
  EXPECT_EQ(status_of(line + std::string("A: \0\r\n\r\n", 8)), 400);
  EXPECT_EQ(status_of("GET /" + std::string(3000, 'a') + " HTTP/1.1\r\n\r\n"), 414);
  std::string many = line;
  for (int i = 0; i < 100; ++i) many += "A: b\r\n";
  EXPECT_EQ(status_of(many + "\r\n"), 431);
}

TEST(RequestHead, WhatMakesAnswersLargerIsLeftOut) {
  const auto head = judge_head(
      "GET / HTTP/1.1\r\nRange: bytes=0-,0-\r\nAccept-Encoding: gzip\r\nExpect: 100-continue\r\n"
      "Authorization: Bearer x\r\nHost: localhost\r\n\r\n",
      10);
  EXPECT_EQ(head.text, "GET / HTTP/1.1\r\nAuthorization: Bearer x\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(head.expects_continue);
  EXPECT_EQ(head.authorization, "Bearer x");
  EXPECT_EQ(head.host, "localhost");
}

Router three_routes() {
  Router router;
  for (const char* path : {"/a", "/a/{x}", "/a/{x}/b"}) router.add({"GET", path, Access::open, {}});
  router.add({"POST", "/a", Access::write, {}});
  return router;
}

TEST(Router, FindsRoutesByWholePaths) {
  const Router router = three_routes();
  EXPECT_EQ(router.find("GET", "/a").route->path, "/a");
  EXPECT_EQ(router.find("HEAD", "/a").route->path, "/a");
  EXPECT_EQ(router.find("POST", "/a").route->access, Access::write);
  const auto match = router.find("GET", "/a/n%2Fs%20x/b");
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.parts.at("x"), "n/s x");
  for (const char* path :
       {"", "a", "/", "/a/", "/a//b", "/b", "/a/%0", "/a/%00", "/a/%zz", "/a/x/b/"})
    EXPECT_EQ(router.find("GET", path).route, nullptr) << path;
  EXPECT_EQ(router.find("DELETE", "/a").allowed, (std::vector<std::string>{"GET", "POST"}));
}

TEST(Router, QueriesAreDecodedOnce) {
  std::map<std::string, std::string> query;
  EXPECT_TRUE(parse_query("a=1&b=x%20y+z&c&d=%2526&a=2", query));
  EXPECT_EQ(query, (std::map<std::string, std::string>{
                       {"a", "1"}, {"b", "x y z"}, {"c", ""}, {"d", "%26"}}));
  EXPECT_FALSE(parse_query("a=%", query));
}

TEST(Router, NobodyIsAskedForATokenAndSomebodyIsRefused) {
  Caller nobody, reader, writer, pod;
  reader.role = Role::reader;
  writer.role = Role::operate;
  pod.pod = PodIdentity{"ml", "trainer"};
  EXPECT_FALSE(refusal(Access::open, nobody));
  for (const Access access : {Access::read, Access::write, Access::self})
    EXPECT_EQ(refusal(access, nobody)->status, 401);
  EXPECT_FALSE(refusal(Access::read, reader));
  EXPECT_EQ(refusal(Access::write, reader)->status, 403);
  EXPECT_FALSE(refusal(Access::write, writer));
  EXPECT_FALSE(refusal(Access::self, pod));
  EXPECT_EQ(refusal(Access::read, pod)->status, 403);
  EXPECT_EQ(refusal(Access::self, writer)->status, 401);
}

TEST(ListenAddress, SaysWhatIsWrongWithIt) {
  EXPECT_EQ(parse_listen_address("localhost:80").text(), "127.0.0.1:80");
  EXPECT_EQ(parse_listen_address("[::1]:80").text(), "[::1]:80");
  EXPECT_EQ(parse_listen_address("unix:/a/b").path, "/a/b");
  EXPECT_TRUE(parse_listen_address("[::1]:80").is_loopback());
  EXPECT_TRUE(parse_listen_address("127.1.2.3:80").is_loopback());
  EXPECT_FALSE(parse_listen_address("0.0.0.0:80").is_loopback());
  EXPECT_FALSE(parse_listen_address("[::]:80").is_loopback());
  for (const char* text : {"", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
                           "::1:80", "host:80", "unix:", "unix:a"})
    EXPECT_THROW(parse_listen_address(text), std::invalid_argument) << text;
  EXPECT_THROW(parse_listen_address("unix:/" + std::string(200, 'a')), std::invalid_argument);
  for (const auto& [text, missing] : {std::pair("8080", "an address"), {"127.0.0.1", "a port"}}) {
    try {
      (void)parse_listen_address(text);
    } catch (const std::invalid_argument& reason) {
      const std::string said = reason.what();
      EXPECT_NE(said.find(std::string(missing) + " is missing"), said.npos) << said;
    }
  }
}

TEST(Peer, TheOwnerOfALoopbackConnectionStandsInTheKernelsTable) {
  constexpr const char* kTable =
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
      "   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 16\n"
      "   1: 0100007F:1F41 0100007F:C000 01 00000000:00000000 00:00000000 00000000  1000 0 17\n"
      "   2: 0100007F:C000 0100007F:1F41 01 00000000:00000000 00:00000000 00000000  1001 0 18\n"
      "   3: 0200000A:C001 0100007F:1F41 01 00000000:00000000 00:00000000 00000000     0 0 19\n";
  EXPECT_EQ(owner_in_table(kTable, 0xC000, 0x1F41), uid_t{1001});
  EXPECT_EQ(owner_in_table(kTable, 0xC001, 0x1F41), std::nullopt);
  EXPECT_EQ(owner_in_table(kTable, 0xC002, 0x1F41), std::nullopt);
  EXPECT_EQ(owner_in_table("nonsense\n\n", 1, 2), std::nullopt);
}

TEST(Peer, AddressesOfOneNetworkShareTheirLimits) {
  Peer one, two;
  one.address = "2001:db8:1:2::1";
  two.address = "2001:db8:1:2:ffff::9";
  EXPECT_EQ(one.limit_key(), two.limit_key());
  two.address = "2001:db8:1:3::1";
  EXPECT_NE(one.limit_key(), two.limit_key());
}

}  // namespace
}  // namespace vgpu::hypervisor::http
