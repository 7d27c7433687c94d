// SPDX-License-Identifier: Apache-2.0
// How much of the server one peer may have: connections at a time, requests a second, streams,
// requests that wait for room. One
// instance for all listeners; time is an argument. Of what is counted here a peer that floods
// uses up its own part and nobody else's.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>
#include <unordered_map>

namespace vgpu::hypervisor::http {

struct Limits {
  std::size_t header_bytes = 16 * 1024;
  std::size_t body_bytes = 64 * 1024;
  std::chrono::milliseconds header_time{5'000};  // from a request's first byte to its last header
  std::chrono::milliseconds body_time{5'000};
  std::chrono::milliseconds write_time{10'000};  // without any progress
  std::chrono::milliseconds idle_time{30'000};   // between two requests of a connection
  std::size_t connections = 96;                  // of TCP; as many again of Unix sockets
  std::size_t connections_of_peer = 24;
  // Requests that wait for room; their connections don't count as such meanwhile.
  std::size_t waits = 256;
  std::size_t waits_of_peer = 64;
  std::size_t streams = 32;
  std::size_t streams_of_peer = 8;
  double requests_per_second = 100;  // of one peer, over a longer time
  double burst = 400;                // at once
};

class PeerLimits {
 public:
  using Time = std::chrono::steady_clock::time_point;
  explicit PeerLimits(const Limits& limits) : limits_(limits) {}

  // A place for a connection or a stream; false: none is left, and nothing is held.
  bool enter_connection(const std::string& peer, bool by_unix_socket, Time now);
  void leave_connection(const std::string& peer, bool by_unix_socket);
  bool enter_stream(const std::string& peer);
  void leave_stream(const std::string& peer);
  // From now on the connection waits, and gives its place up meanwhile; false: as many wait as may.
  bool enter_wait(const std::string& peer, bool by_unix_socket);
  // It is a connection again, also where there are as many as may be.
  void leave_wait(const std::string& peer, bool by_unix_socket);
  // One request more; false: too many lately.
  bool admit_request(const std::string& peer, Time now);

  std::size_t connections() const;
  std::size_t streams() const;
  std::size_t waits() const;
  std::size_t known_peers() const;

 private:
  struct Account {
    std::size_t connections = 0, streams = 0, waits = 0;
    double tokens = 0;
    Time filled{};
  };
  Account& account(const std::string& peer);
  void forget_idle(Time now);
  double tokens_at(const Account& account, Time now) const;

  const Limits limits_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Account> accounts_;
  std::size_t tcp_ = 0, unix_ = 0, streams_ = 0, waits_ = 0;
};

}  // namespace vgpu::hypervisor::http
