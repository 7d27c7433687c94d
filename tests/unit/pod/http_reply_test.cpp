// SPDX-License-Identifier: Apache-2.0
// Replies in every form that a server may send them, in pieces of any size, and what isn't one.
#include "vgpu/pod/http_reply.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace vgpu::pod {
namespace {

using State = HttpReply::State;

struct ReadReply {
  State state;
  unsigned status;
  std::string body;
};

ReadReply read_reply(const std::string& text, std::size_t piece = 1, bool ends = true) {
  const auto reply = std::make_unique<HttpReply>();
  for (std::size_t at = 0; at < text.size() && reply->state() == State::more; at += piece)
    reply->feed(std::string_view(text).substr(at, piece));
  if (ends) reply->end();
  return {reply->state(), reply->status(), std::string(reply->body())};
}

void expect_body(const std::string& text, const std::string& body, bool ends = false) {
  for (const std::size_t piece : {1u, 2u, 7u, 4096u}) {
    const ReadReply got = read_reply(text, piece, ends);
    EXPECT_EQ(got.state, State::complete) << text;
    EXPECT_EQ(got.status, 200u) << text;
    EXPECT_EQ(got.body, body) << text;
  }
}

TEST(HttpReply, HasABodyOfItsLength) {
  expect_body("HTTP/1.1 200 OK\r\ncontent-LENGTH: 5 \r\nX: y\r\n\r\nhello", "hello");
  expect_body("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "hello");
  expect_body("HTTP/1.0 200\r\nContent-Length: 0\r\n\r\n", "");
  expect_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", "hello");
}

TEST(HttpReply, HasABodyInChunks) {
  expect_body(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\nc;name=value\r\n, chunks are\r\n0\r\nTrailer: x\r\n\r\n",
      "hello, chunks are");
}

TEST(HttpReply, HasABodyToItsEnd) {
  expect_body("HTTP/1.1 200 OK\r\n\r\nhello", "hello", true);
  EXPECT_EQ(read_reply("HTTP/1.1 200 OK\r\n\r\nhello", 1, false).state, State::more);
}

TEST(HttpReply, FollowsWhatComesBeforeIt) {
  expect_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x");
}

TEST(HttpReply, HasItsStatus) {
  EXPECT_EQ(read_reply("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").status, 401u);
  EXPECT_EQ(read_reply("HTTP/1.1 204 No Content\r\n\r\n", 1, false).state, State::complete);
}

TEST(HttpReply, IsRefusedWhereItIsNone) {
  for (const char* text :
       {"", "\n", "GET / HTTP/1.1\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\n"})
    EXPECT_EQ(read_reply(text).state, State::bad) << text;
}

TEST(HttpReply, IsBounded) {
  const std::string head = "HTTP/1.1 200 OK\r\n";
  EXPECT_EQ(read_reply(head + std::string(HttpReply::kMostHead, 'x'), 4096, false).state,
            State::bad);
  EXPECT_EQ(
      read_reply(head + "\r\n" + std::string(HttpReply::kMostBody + 1, 'x'), 4096, false).state,
      State::bad);
  EXPECT_EQ(read_reply(head + "\r\n" + std::string(HttpReply::kMostBody, 'x'), 4096).state,
            State::complete);
  std::string chunks = head + "Transfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 100; ++i) chunks += "400\r\n" + std::string(1024, 'x') + "\r\n";
  EXPECT_EQ(read_reply(chunks, 4096, false).state, State::bad);
  std::string interim;
  for (int i = 0; i < 10000; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
  EXPECT_EQ(read_reply(interim, 4096, false).state, State::bad);
  // A long header that means nothing to us is no reason.
  EXPECT_EQ(
      read_reply(head + "X: " + std::string(5000, 'x') + "\r\nContent-Length: 1\r\n\r\ny").body,
      "y");
}

}  // namespace
}  // namespace vgpu::pod
