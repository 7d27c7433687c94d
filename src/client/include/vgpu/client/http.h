// SPDX-License-Identifier: Apache-2.0
// One request after another to an HTTP/1.1 server, over one connection that is kept open where the
// server keeps it. What comes is held to a size and to a time; bodies by length, in chunks, or to
// the connection's end. One thread.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vgpu/client/address.h"

namespace vgpu::client {

// Nobody listens there, or doesn't answer in time, or not in HTTP. what() has the address in it.
struct Unreachable : std::runtime_error {
  using std::runtime_error::runtime_error;
  bool is_silent = false;  // somebody has the connection, and doesn't answer in time
};

struct Answer {
  int status = 0;
  std::string body;
};

using Headers = std::vector<std::pair<std::string, std::string>>;

class Connection {
 public:
  // `patience`: for connecting, and then for the whole answer to each request.
  Connection(Address address, std::chrono::milliseconds patience);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;

  const Address& address() const { return address_; }

  // Throws Unreachable. A GET that fails on a connection from an earlier request is tried once more
  // on a fresh one; what changes something always goes out on a fresh one, once. Where the other
  // end has no time yet (429 or 503 with Retry-After) it is asked again for as long as patience
  // lasts.
  Answer ask(std::string_view method, std::string_view target, std::string_view body = "",
             const Headers& headers = {});

 private:
  class Attempt;
  Answer ask_once(std::string_view method, std::string_view target, std::string_view body,
                  const Headers& headers, bool& is_too_early);
  void connect_to();
  void disconnect();

  Address address_;
  std::chrono::milliseconds patience_;
  int socket_ = -1;
};

}  // namespace vgpu::client
