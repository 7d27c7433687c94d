// SPDX-License-Identifier: Apache-2.0
// One connection from its first byte to its last: requests are read whole, within their limits, and
// given to cpp-httplib, which parses them, asks for the answer and writes it.
#pragma once

#include <functional>
#include <string>

#include "limits.h"
#include "router.h"
#include "wire.h"

namespace vgpu::hypervisor::http {

// What a conversation needs from the server, and tells it.
struct ConversationHost {
  const Limits& limits;
  PeerLimits& peers;
  std::function<Caller(const Credentials&)> identify;
  std::function<Answer(const Ask&)> answer;  // may throw
  std::function<bool()> stopping;
  std::function<void(const std::string&)> log;
  enum class Count : unsigned char { request, refused_rate, refused_size, timed_out };
  std::function<void(Count)> count;
};

class Conversation {
 public:
  Conversation(Wire& wire, const Peer& peer, const ConversationHost& host)
      : wire_(wire), peer_(peer), key_(peer.limit_key()), host_(host) {}
  // Until the peer or the server has had enough.
  void run();

 private:
  class Engine;
  class MemoryStream;
  enum class Step : unsigned char { next, end };
  Step one_request();
  // 0: a whole head is in `received_`; -1: end silently; else a status.
  int read_head(std::size_t& head_bytes);
  int read_body(std::size_t bytes, std::string& body);
  void say_no(int status, std::string_view kind, std::string_view message);

  Wire& wire_;
  const Peer& peer_;
  const std::string key_;
  const ConversationHost& host_;
  std::string received_;  // read, and not consumed yet
};

}  // namespace vgpu::hypervisor::http
