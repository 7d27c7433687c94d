// SPDX-License-Identifier: Apache-2.0
// The daemon's API (docs/http.md) by what it means: questions and changes in JSON, refusals as they
// are meant. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/client/http.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::client {

using Json = nlohmann::ordered_json;

// What would fit on a GPU instead; what isn't known is nullopt.
struct Room {
  std::uint32_t gpu_index = 0;
  std::optional<std::uint64_t> memory_bytes;
  std::optional<unsigned> share_percent;
};

// The daemon answered, and said no. what() is its one line.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
  int status = 0;    // of HTTP
  std::string kind;  // "no_room", "forbidden", ...
  std::string code;  // "VG1014"; may be empty
  std::string rule;  // "share_room"; may be empty
  std::string next;  // what helps; may be empty
  std::vector<Room> room;
  bool waiting_helps = false;
  // For a tool that says it and ends.
  survey::Problem problem(int exit_code = survey::kExitFailed) const;
};

class Daemon {
 public:
  static constexpr std::chrono::milliseconds kPatience{2'000};

  // `token`: a bearer token for TCP; empty: none.
  explicit Daemon(Address address, std::string token = "",
                  std::chrono::milliseconds patience = kPatience);

  const Address& address() const { return connection_.address(); }

  // Throw Unreachable and Refused.
  Json get(const std::string& target);
  Json ask(std::string_view method, const std::string& target, const Json& body);

  // As somebody who types `vgpu set`. Before and after for each GPU, as the API's Changed; `gpus`
  // empty: all of the tenant's.
  Json change(std::string_view tenant, const survey::QuotaFlags& flags, const std::string& gpus,
              bool oversubscribe);

 private:
  Json answered(const Answer& answer) const;
  Connection connection_;
  Headers headers_;
};

// Does the daemon of that /api/v2/node look after that state directory?
bool looks_after(const Json& node, const std::string& state_directory);

// The first of those addresses where a daemon answers this user, and `suits` (empty: any does), by
// its /api/v2/node. `why_not`, where it isn't null: of each that is there and doesn't answer.
// Nothing at an address isn't said.
std::optional<Daemon> find_daemon(const std::vector<Address>& addresses,
                                  const std::string& token = "",
                                  std::vector<std::string>* why_not = nullptr,
                                  const std::function<bool(const Json& node)>& suits = {});

// For a path or a query.
std::string percent_encoded(std::string_view text);

}  // namespace vgpu::client
