// SPDX-License-Identifier: Apache-2.0
#include "vgpu/client/daemon.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace vgpu::client {
namespace {

std::string text_in(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

template <class Number>
std::optional<Number> number_in(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<Number>();
}

std::vector<Room> room_in(const Json& error) {
  std::vector<Room> all;
  const auto list = error.find("room");
  if (list == error.end() || !list->is_array()) return all;
  for (const Json& one : *list) {
    if (!one.is_object()) continue;
    all.push_back({number_in<std::uint32_t>(one, "index").value_or(0),
                   number_in<std::uint64_t>(one, "memory_bytes"),
                   number_in<unsigned>(one, "share_percent")});
  }
  return all;
}

Refused refused(const Answer& answer) {
  const Json body = Json::parse(answer.body, nullptr, false);
  const auto error = body.is_object() ? body.find("error") : body.end();
  if (!body.is_object() || error == body.end() || !error->is_object()) {
    Refused plain(fmt::format("the daemon answers with status {}", answer.status));
    plain.status = answer.status;
    return plain;
  }
  const std::string message = text_in(*error, "message");
  Refused out(message.empty() ? fmt::format("the daemon answers with status {}", answer.status)
                              : message);
  out.status = answer.status;
  out.kind = text_in(*error, "kind");
  out.code = text_in(*error, "code");
  out.rule = text_in(*error, "rule");
  out.next = text_in(*error, "hint");
  out.room = room_in(*error);
  const auto helps = error->find("waiting_helps");
  out.waiting_helps = helps != error->end() && helps->is_boolean() && helps->get<bool>();
  return out;
}

// Nothing there, or nobody behind it: no reason to say anything.
bool is_absent(const Address& address) {
  struct stat there {};
  return address.is_unix() && stat(address.path.c_str(), &there) != 0;
}

bool is_same_directory(const std::string& theirs, const std::string& ours) {
  struct stat a {
  }, b{};
  return theirs == ours || (stat(theirs.c_str(), &a) == 0 && stat(ours.c_str(), &b) == 0 &&
                            a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

}  // namespace

survey::Problem Refused::problem(int exit_code) const {
  return {exit_code, code.empty() ? "VG1071" : code, what(), next};
}

Daemon::Daemon(Address address, std::string token, std::chrono::milliseconds patience)
    : connection_(std::move(address), patience) {
  if (!token.empty()) headers_.emplace_back("Authorization", "Bearer " + std::move(token));
}

Json Daemon::answered(const Answer& answer) const {
  if (answer.status < 200 || answer.status >= 300) throw refused(answer);
  Json json = Json::parse(answer.body, nullptr, false);
  if (json.is_discarded())
    throw Unreachable(fmt::format("{} doesn't answer in JSON", address().text()));
  return json;
}

Json Daemon::get(const std::string& target) {
  return answered(connection_.ask("GET", target, "", headers_));
}

Json Daemon::ask(std::string_view method, const std::string& target, const Json& body) {
  Headers headers = headers_;
  headers.emplace_back("Content-Type", "application/json");
  return answered(connection_.ask(
      method, target, body.dump(-1, ' ', false, Json::error_handler_t::replace), headers));
}

Json Daemon::change(std::string_view tenant, const survey::QuotaFlags& flags,
                    const std::string& gpus, bool oversubscribe) {
  Json body = {{"source", "run"}};
  const auto put = [&](const char* name, const std::string& value) {
    if (!value.empty()) body[name] = value;
  };
  put("gpus", gpus);
  put("memory", flags.memory);
  put("compute", flags.compute);
  put("compute_limit", flags.compute_limit);
  put("policy", flags.policy);
  put("priority", flags.priority);
  if (oversubscribe) body["oversubscribe"] = true;
  return ask("PATCH", "/api/v2/tenants/" + percent_encoded(tenant), body);
}

bool looks_after(const Json& node, const std::string& state_directory) {
  if (!node.is_object()) return false;
  if (is_same_directory(text_in(node, "state_directory"), state_directory)) return true;
  const auto all = node.find("state_directories");
  return all != node.end() && all->is_array() &&
         std::any_of(all->begin(), all->end(), [&](const Json& one) {
           return one.is_string() && is_same_directory(one.get<std::string>(), state_directory);
         });
}

std::optional<Daemon> find_daemon(const std::vector<Address>& addresses, const std::string& token,
                                  std::vector<std::string>* why_not,
                                  const std::function<bool(const Json& node)>& suits) {
  for (const Address& address : addresses) {
    if (is_absent(address)) continue;
    try {
      Daemon daemon(address, token);
      const Json node = daemon.get("/api/v2/node");
      if (!suits || suits(node)) return daemon;
    } catch (const std::runtime_error& trouble) {
      if (why_not != nullptr) why_not->emplace_back(trouble.what());
    }
  }
  return std::nullopt;
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace vgpu::client
