// SPDX-License-Identifier: Apache-2.0
#include "api.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "detached_view.h"
#include "node_state_json.h"
#include "predecessor.h"
#include "vgpu/survey/json.h"

namespace vgpu::hypervisor::http {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kEventsAtOnce = 500;
constexpr std::uint64_t kGraceMostMs = 600'000;
constexpr std::uint64_t kGpusMost = 1'000;
constexpr double kWaitMostSeconds = 1e9;  // half a life
constexpr std::uint64_t kHistorySeconds = 15, kHistorySecondsMax = 600;

int status_of(RefusalKind kind) {
  switch (kind) {
    case RefusalKind::bad_request:
      return 400;
    case RefusalKind::forbidden:
      return 403;
    case RefusalKind::not_found:
      return 404;
    case RefusalKind::conflict:
    case RefusalKind::no_room:
      return 409;
    case RefusalKind::unavailable:
      return 503;
  }
  return 500;
}

Answer answered(const Json& json, int status = 200) {
  Answer answer;
  answer.status = status;
  answer.body = dumped(json);
  return answer;
}

Answer refused(const Refusal& refusal) {
  return answered({{"error", refusal_json(refusal)}}, status_of(refusal.kind));
}

Answer bad_request(std::string_view what) { return problem(400, "bad_request", what); }

// A request's body, field by field; what isn't asked for by the end is a mistake.
class Fields {
 public:
  explicit Fields(const std::string& body) : Fields(Json::parse(body, nullptr, false)) {}
  explicit Fields(Json json) : json_(std::move(json)) {
    if (!json_.is_object()) throw std::invalid_argument("the body must be a JSON object");
  }
  // Text, or a whole number written as one.
  void take(const char* name, std::string& to) {
    const Json value = taken(name);
    if (value.is_null()) return;
    if (value.is_number_unsigned())
      to = std::to_string(value.get<std::uint64_t>());
    else if (value.is_string())
      to = value.get<std::string>();
    else
      throw std::invalid_argument(fmt::format("\"{}\" must be text or a whole number", name));
    if (to.size() > kTextMax || to.find('\0') != std::string::npos)
      throw std::invalid_argument(fmt::format("\"{}\" is too long", name));
  }
  // Text, or a number of any kind, as it was written.
  void take_number(const char* name, std::string& to) {
    const Json value = taken(name);
    if (value.is_null()) return;
    if (!value.is_number() && !value.is_string())
      throw std::invalid_argument(fmt::format("\"{}\" must be text or a number", name));
    to = value.is_string() ? value.get<std::string>() : value.dump();
    if (to.empty()) throw std::invalid_argument(fmt::format("\"{}\" is empty", name));
    if (to.size() > kTextMax) throw std::invalid_argument(fmt::format("\"{}\" is too long", name));
  }
  void take(const char* name, bool& to) {
    const Json value = taken(name);
    if (value.is_null()) return;
    if (!value.is_boolean())
      throw std::invalid_argument(fmt::format("\"{}\" must be true or false", name));
    to = value.get<bool>();
  }
  // A whole number.
  void take(const char* name, std::size_t& to, std::size_t most) {
    const Json value = taken(name);
    if (value.is_null()) return;
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most)
      throw std::invalid_argument(
          fmt::format("\"{}\" must be a whole number, {} at most", name, most));
    to = value.get<std::size_t>();
  }
  // One of some words.
  template <class Value, std::size_t count>
  void take(const char* name, const std::pair<const char*, Value> (&words)[count], Value& to) {
    std::string text;
    take(name, text);
    if (text.empty()) return;
    std::string known;
    for (const auto& [word, value] : words) {
      if (text == word) {
        to = value;
        return;
      }
      known += (known.empty() ? "" : ", ") + std::string(word);
    }
    throw std::invalid_argument(fmt::format("\"{}\" must be one of: {}", name, known));
  }
  Json take_json(const char* name) { return taken(name); }
  void end() const {
    if (!json_.empty())
      throw std::invalid_argument(
          fmt::format("there is no field \"{}\" here", json_.items().begin().key()));
  }

 private:
  static constexpr std::size_t kTextMax = 4096;
  Json taken(const char* name) {
    const auto found = json_.find(name);
    if (found == json_.end()) return nullptr;
    Json value = *found;
    json_.erase(found);
    return value;
  }
  Json json_;
};

void take_quota(Fields& fields, survey::QuotaFlags& flags, TflopsQuota& tflops) {
  fields.take_number("tflops", tflops.share);
  fields.take_number("tflops_limit", tflops.limit);
  fields.take("memory", flags.memory);
  fields.take("compute", flags.compute);
  fields.take("compute_limit", flags.compute_limit);
  fields.take("policy", flags.policy);
  fields.take("priority", flags.priority);
}

constexpr std::pair<const char*, Source> kSources[] = {{"none", Source::none},
                                                       {"daemon", Source::daemon},
                                                       {"run", Source::run},
                                                       {"VGPU_*", Source::vgpu},
                                                       {"TENSOR_FUSION_*", Source::tensor_fusion},
                                                       {"HAMi", Source::hami},
                                                       {"vgpu-manager", Source::vgpu_manager}};

// A quota as answers have it.
Quota quota_in(Json json) {
  Fields fields(std::move(json));
  Quota quota;
  const Json memory = fields.take_json("memory_limit_bytes");
  if (!memory.is_null()) {
    if (!memory.is_number_unsigned())
      throw std::invalid_argument("\"memory_limit_bytes\" must be a whole number or null");
    quota.memory_limit_bytes = memory.get<std::uint64_t>();
  }
  const auto percent = [&](const char* name) {
    std::size_t value = 0;
    fields.take(name, value, 100);
    return static_cast<std::uint8_t>(value);
  };
  quota.compute_share_percent = percent("share_percent");
  quota.compute_limit_percent = percent("limit_percent");
  fields.take("policy", {{"elastic", Policy::elastic}, {"fixed", Policy::fixed}}, quota.policy);
  fields.take("priority",
              {{"low", Priority::low}, {"normal", Priority::normal}, {"high", Priority::high}},
              quota.priority);
  fields.take("memory_source", kSources, quota.memory_source);
  fields.take("compute_source", kSources, quota.compute_source);
  fields.end();
  return quota;
}

std::vector<WantedQuota> quotas_in(const Json& list) {
  std::vector<WantedQuota> quotas;
  if (list.is_null()) return quotas;
  if (!list.is_array() || list.empty() || list.size() > kGpusMost)
    throw std::invalid_argument("\"quotas\" must be a list of GPUs");
  for (const Json& one : list) {
    Fields fields{Json(one)};
    std::string uuid;
    fields.take("uuid", uuid);
    const Json quota = fields.take_json("quota");
    fields.end();
    const auto gpu = GpuUuid::parse(uuid);
    if (!gpu) throw std::invalid_argument(fmt::format("\"{}\" is no UUID of a GPU", uuid));
    quotas.push_back({*gpu, quota_in(quota)});
  }
  return quotas;
}

// "forever", or seconds; nullopt: it isn't waited.
std::optional<Patience> patience_in(const Json& wait, const Ask& ask) {
  if (wait.is_null()) return std::nullopt;
  Patience patience;
  patience.is_there = ask.is_there;
  patience.is_ending = ask.is_ending;
  if (wait.is_number() && wait.get<double>() >= 0 && wait.get<double>() <= kWaitMostSeconds) {
    const std::chrono::duration<double> seconds(wait.get<double>());
    if (seconds.count() == 0) return std::nullopt;
    patience.until =
        std::chrono::steady_clock::now() + std::chrono::duration_cast<milliseconds>(seconds);
    return patience;
  }
  if (wait != "forever")
    throw std::invalid_argument("\"wait\" must be a number of seconds or \"forever\"");
  return patience;
}

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size())
    return std::nullopt;
  return value;
}

// A parameter that has to be a number; throws std::invalid_argument.
std::uint64_t number_parameter(const Ask& ask, const char* name, std::uint64_t otherwise) {
  const auto text = ask.parameter(name);
  if (!text) return otherwise;
  const auto value = number_in(*text);
  if (!value) throw std::invalid_argument(fmt::format("\"{}\" must be a whole number", name));
  return *value;
}

bool flag_parameter(const Ask& ask, const char* name) {
  const auto text = ask.parameter(name);
  if (!text) return false;
  if (*text != "true" && *text != "false")
    throw std::invalid_argument(fmt::format("\"{}\" must be true or false", name));
  return *text == "true";
}

Resolution resolution_of(const Ask& ask) {
  const std::string text = ask.parameter("resolution").value_or("seconds");
  if (text == "seconds") return Resolution::seconds;
  if (text == "ten_seconds") return Resolution::ten_seconds;
  throw std::invalid_argument("\"resolution\" must be seconds or ten_seconds");
}

std::string in_lower_case(std::string_view text) {
  std::string out(text);
  for (char& letter : out) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter | 0x20);
  }
  return out;
}

// The only one that `is_it` holds for.
template <class List, class Predicate>
auto the_only(const List& list, Predicate is_it) -> decltype(&list.front()) {
  decltype(&list.front()) found = nullptr;
  for (const auto& one : list) {
    if (!is_it(one)) continue;
    if (found != nullptr) return nullptr;
    found = &one;
  }
  return found;
}

class Api {
 public:
  Api(Control& control, uid_t own_uid, std::vector<DeclaredPod> pods)
      : control_(control), own_uid_(own_uid), pods_(std::move(pods)) {}

  Answer node() const { return answered(node_json(*control_.state_with_changes())); }
  Answer state() const { return answered(state_json(*control_.state_with_changes())); }

  Answer gpus() const {
    Json list = Json::array();
    // The moment lives as long as somebody holds it.
    const StatePointer state = control_.state_with_changes();
    for (const auto& gpu : state->gpus) list.push_back(gpu_json(gpu));
    return answered(list);
  }

  Answer gpu(const Ask& ask) const {
    const StatePointer state = control_.state_with_changes();
    const GpuState* found = find_gpu(*state, ask.part("gpu"));
    return found == nullptr ? no_gpu(ask.part("gpu")) : answered(gpu_json(*found));
  }

  Answer gpu_history(const Ask& ask) const {
    const StatePointer state = control_.state_with_changes();
    const GpuState* found = find_gpu(*state, ask.part("gpu"));
    if (found == nullptr) return no_gpu(ask.part("gpu"));
    return answered(history_json(control_.history(found->uuid, "", resolution_of(ask))));
  }

  Answer tenants() const {
    Json list = Json::array();
    const StatePointer state = control_.state_with_changes();
    for (const auto& tenant : state->tenants) list.push_back(tenant_json(tenant));
    return answered(list);
  }

  Answer tenant(const Ask& ask) const {
    const StatePointer state = control_.state_with_changes();
    const TenantState* found = find_tenant(*state, ask.part("tenant"));
    return found == nullptr ? no_tenant(ask.part("tenant")) : answered(tenant_json(*found));
  }

  Answer tenant_history(const Ask& ask) const {
    const StatePointer state = control_.state_with_changes();
    const TenantState* found = find_tenant(*state, ask.part("tenant"));
    if (found == nullptr) return no_tenant(ask.part("tenant"));
    const auto wanted = ask.parameter("gpu");
    if (!wanted && found->gpus.size() != 1)
      return bad_request("the tenant has several GPUs; name one by \"gpu\"");
    const GpuState* gpu = wanted ? find_gpu(*state, *wanted) : nullptr;
    if (wanted && gpu == nullptr) return no_gpu(*wanted);
    const GpuUuid& uuid = wanted ? gpu->uuid : found->gpus.front().gpu;
    return answered(history_json(control_.history(uuid, found->id, resolution_of(ask))));
  }

  // Of all GPUs and tenants at once, for whoever draws a line beside each.
  Answer histories(const Ask& ask) const {
    const std::uint64_t seconds = number_parameter(ask, "seconds", kHistorySeconds);
    if (seconds < 1 || seconds > kHistorySecondsMax)
      return bad_request("\"seconds\" is from 1 to 600");
    const StatePointer state = control_.state_with_changes();
    Json series = Json::array();
    const auto add = [&](const GpuUuid& gpu, const std::string& tenant) {
      series.push_back(
          recent_json(gpu, tenant, control_.history(gpu, tenant, Resolution::seconds), seconds));
    };
    for (const auto& gpu : state->gpus) add(gpu.uuid, "");
    for (const auto& tenant : state->tenants) {
      for (const auto& gpu : tenant.gpus) add(gpu.gpu, tenant.id);
    }
    return answered({{"time", time_text(state->time_ns)}, {"series", series}});
  }

  Answer why(const Ask& ask) const {
    const StatePointer state = control_.state_with_changes();
    const TenantState* found = find_tenant(*state, ask.part("tenant"));
    if (found == nullptr) return no_tenant(ask.part("tenant"));
    Json list = Json::array();
    for (const auto& explanation : control_.explain(found->id))
      list.push_back(survey::explanation_json(explanation));
    return answered(list);
  }

  Answer processes(const Ask& ask) const {
    const StatePointer state = control_.state_with_changes();
    const bool unlimited = flag_parameter(ask, "unlimited");
    const auto wanted = ask.parameter("tenant");
    const TenantState* tenant = wanted ? find_tenant(*state, *wanted) : nullptr;
    if (wanted && tenant == nullptr) return no_tenant(*wanted);
    Json list = Json::array();
    for (const auto& process : state->processes) {
      if (tenant != nullptr && process.tenant != tenant->id) continue;
      if (unlimited && !NodeState::is_unlimited(process)) continue;
      list.push_back(process_json(process));
    }
    return answered(list);
  }

  Answer create(const Ask& ask) {
    CreateRequest request;
    Fields fields(ask.body);
    fields.take("name", request.name);
    fields.take("gpus", request.gpus);
    take_quota(fields, request, request.tflops);
    fields.take("oversubscribe", request.oversubscribe);
    fields.take("program", request.program);
    fields.take("state_directory", request.state_directory);
    fields.take("gpu_count", request.gpu_count, kGpusMost);
    fields.take("lifetime", {{"kept", Lifetime::kept}, {"run", Lifetime::run}}, request.lifetime);
    request.exact = quotas_in(fields.take_json("quotas"));
    if (Json each = fields.take_json("quota_each"); !each.is_null())
      request.exact_each = quota_in(std::move(each));
    request.wait = patience_in(fields.take_json("wait"), ask);
    fields.end();
    if (request.lifetime == Lifetime::run && !ask.peer.by_unix_socket)
      return bad_request("a tenant for a run is asked for over the Unix socket");
    // Not waiting first: whoever is let in at once needs no place.
    const std::optional<Patience> patience = std::exchange(request.wait, std::nullopt);
    auto outcome = control_.create(asker(ask), request);
    if (patience && !outcome.ok() && outcome.refusal().waiting_helps) {
      const auto place = ask.wait_place ? ask.wait_place() : nullptr;
      if (place == nullptr) {
        Answer answer = problem(429, "too_many_waiting", "as many requests wait for room as may");
        answer.headers.emplace_back("Retry-After", "1");
        return answer;
      }
      request.wait = patience;
      outcome = control_.create(asker(ask), request);
    }
    if (!outcome.ok()) return refused(outcome.refusal());
    Answer answer = answered(created_json(outcome.value()), 201);
    answer.headers.emplace_back("Location", "/api/v2/tenants/" + outcome.value().id);
    return answer;
  }

  Answer taken(const Ask& ask) {
    Fields(ask.body.empty() ? "{}" : ask.body).end();
    const auto outcome = control_.taken(asker(ask), ask.part("tenant"));
    return outcome.ok() ? answered({{"id", outcome.value().id}}) : refused(outcome.refusal());
  }

  Answer change(const Ask& ask) {
    ChangeRequest request;
    Fields fields(ask.body);
    fields.take("gpus", request.gpus);
    take_quota(fields, request, request.tflops);
    fields.take("oversubscribe", request.oversubscribe);
    fields.take("when_free", request.when_free);
    fields.take("source", {{"daemon", Source::daemon}, {"run", Source::run}}, request.by);
    fields.end();
    const auto outcome = control_.change(asker(ask), ask.part("tenant"), request);
    return outcome.ok() ? answered(changed_json(outcome.value())) : refused(outcome.refusal());
  }

  Answer end(const Ask& ask) {
    EndRequest request;
    request.with_processes = flag_parameter(ask, "with_processes");
    const std::uint64_t grace =
        number_parameter(ask, "grace_ms", static_cast<std::uint64_t>(request.grace.count()));
    if (grace > kGraceMostMs) return bad_request("\"grace_ms\" is at most 600000");
    request.grace = milliseconds(grace);
    const auto outcome = control_.end(asker(ask), ask.part("tenant"), request);
    return outcome.ok() ? answered(ended_json(outcome.value())) : refused(outcome.refusal());
  }

  Answer rename(const Ask& ask) {
    std::string name;
    Fields fields(ask.body);
    fields.take("name", name);
    fields.end();
    if (name.empty()) return bad_request("\"name\" is missing");
    const auto outcome = control_.rename(asker(ask), ask.part("tenant"), name);
    return outcome.ok() ? answered(renamed_json(outcome.value())) : refused(outcome.refusal());
  }

  // Flat, and 200 also where the answer is no: a limiter reads it, with as little as it can.
  Answer join(const Ask& ask) {
    if (!ask.peer.by_unix_socket)
      return bad_request("who joins asks over the Unix socket, where the kernel says who that is");
    JoinRequest request;
    if (ask.caller.pod) {
      const StatePointer state = control_.state();
      const TenantState* tenant = tenant_of(*state, *ask.caller.pod, pods_);
      if (tenant != nullptr) request.tenant = tenant->id;
    }
    const auto outcome = control_.join(socket_asker(ask.peer), request);
    if (!outcome.ok()) {
      return answered({{"outcome", "refused"},
                       {"code", outcome.refusal().code},
                       {"message", outcome.refusal().what}});
    }
    const JoinedTenant& joined = outcome.value();
    if (joined.own_id.empty())
      return answered({{"outcome", joined.rule.empty() ? "none" : "no_directory"}});
    Answer answer = answered({{"outcome", "joined"},
                              {"tenant", joined.own_id},
                              {"id", joined.id},
                              {"rule", joined.rule},
                              {"state_directory", joined.state_directory},
                              {"quota_directory", joined.quota_directory}});
    // Where the asker has another view of the file system, the names lead nowhere.
    answer.files = views_of(joined);
    if (joined.in_container && answer.files.empty()) {
      return answered({{"outcome", "refused"},
                       {"code", "VG1078"},
                       {"message", fmt::format("the tenant of a container can't be handed over: {} "
                                               "(it takes Linux 5.12 and CAP_SYS_ADMIN)",
                                               std::strerror(errno))}});
    }
    return answer;
  }

  // Both directories, or none.
  static std::vector<std::shared_ptr<const platform::File>> views_of(const JoinedTenant& joined) {
    platform::File state = detached_view(joined.state_directory, View::to_write);
    if (!state.is_open()) return {};
    platform::File quotas = detached_view(joined.quota_directory, View::to_read);
    if (!quotas.is_open()) return {};
    return {std::make_shared<const platform::File>(std::move(state)),
            std::make_shared<const platform::File>(std::move(quotas))};
  }

  Answer events(const Ask& ask) const {
    const std::uint64_t after = number_parameter(ask, "after", 0);
    const std::uint64_t limit =
        std::clamp<std::uint64_t>(number_parameter(ask, "limit", 100), 1, kEventsAtOnce);
    const EventBatch batch = control_.events_after(after, limit, milliseconds(0));
    Json list = Json::array();
    for (const auto& event : batch.events) list.push_back(event_json(event));
    return answered({{"run", control_.state()->boot_id},
                     {"events", list},
                     {"next", batch.next},
                     {"missed", batch.missed}});
  }

  Answer stream(const Ask& ask) const {
    constexpr milliseconds kWait{500};
    constexpr int kSilentWaits = 30;  // 15 s: less than what proxies drop connections after
    const StatePointer state = control_.state();
    const std::string run = state->boot_id, last = ask.header("last-event-id");
    std::uint64_t at =
        last.empty() ? number_parameter(ask, "after", state->last_event) : sequence_in(last, run);
    Answer answer;
    answer.type = "text/event-stream";
    answer.stream = [this, run, at, silent = 0,
                     first = true]() mutable -> std::optional<std::string> {
      if (std::exchange(first, false)) return "retry: 2000\n\n";
      const EventBatch batch = control_.events_after(at, kEventsAtOnce, kWait);
      std::string text;
      if (batch.missed) text += "event: missed\ndata: {}\n\n";
      for (const auto& event : batch.events) text += event_text(event, run);
      at = batch.next;
      if (!text.empty()) silent = 0;
      if (text.empty() && ++silent >= kSilentWaits) {
        silent = 0;
        return ": nothing new\n\n";
      }
      return text;
    };
    return answer;
  }

 private:
  Asker asker(const Ask& ask) const {
    if (ask.peer.by_unix_socket && !ask.caller.by_token) return socket_asker(ask.peer);
    return {own_uid_, std::nullopt, "rest, " + ask.caller.name, {}, nullptr, std::nullopt};
  }
  static Asker socket_asker(const Peer& peer) {
    const auto pid = peer.pid > 0 ? std::optional(peer.pid) : std::nullopt;
    return {peer.uid, pid, "socket", peer.groups, peer.process, peer.container};
  }
  static Answer no_gpu(const std::string& typed) {
    return problem(404, "not_found", fmt::format("no GPU, or not only one, is called {}", typed));
  }
  static Answer no_tenant(const std::string& typed) {
    return problem(404, "not_found",
                   fmt::format("no tenant, or not only one, is called {}", typed));
  }

  Control& control_;
  const uid_t own_uid_;
  const std::vector<DeclaredPod> pods_;
};

}  // namespace

const TenantState* find_tenant(const NodeState& state, std::string_view typed) {
  if (typed.empty()) return nullptr;
  if (const TenantState* exact = state.tenant(typed)) return exact;
  const auto& tenants = state.tenants;
  if (const auto* named = the_only(tenants, [&](const auto& t) { return t.name == typed; }))
    return named;
  return the_only(tenants, [&](const TenantState& tenant) {
    return tenant.id.compare(0, typed.size(), typed) == 0 ||
           tenant.name.compare(0, typed.size(), typed) == 0;
  });
}

const GpuState* find_gpu(const NodeState& state, std::string_view typed) {
  if (typed.empty()) return nullptr;
  if (const auto index = number_in(typed))
    return the_only(state.gpus, [&](const GpuState& gpu) { return gpu.index == *index; });
  const std::string wanted = in_lower_case(typed);
  return the_only(state.gpus, [&](const GpuState& gpu) {
    return in_lower_case(gpu.uuid_text()).compare(0, wanted.size(), wanted) == 0;
  });
}

std::string event_text(const Event& event, std::string_view run) {
  return fmt::format("id: {}:{}\nevent: {}\ndata: {}\n\n", run, event.sequence,
                     event_name(event.kind), dumped(event_json(event)));
}

std::uint64_t sequence_in(std::string_view event_id, std::string_view run) {
  const auto colon = event_id.rfind(':');
  if (colon == std::string_view::npos || event_id.substr(0, colon) != run) return 0;
  return number_in(event_id.substr(colon + 1)).value_or(0);
}

void add_api_routes(Router& router, Control& control, uid_t own_uid,
                    std::vector<DeclaredPod> declared) {
  const auto api = std::make_shared<Api>(control, own_uid, std::move(declared));
  const auto add = [&](const char* method, const std::string& path, Access access, auto handle) {
    router.add({method, "/api/v2" + path, access, [api, handle](const Ask& ask) -> Answer {
                  try {
                    return std::invoke(handle, *api, ask);
                  } catch (const std::invalid_argument& mistake) {
                    return bad_request(mistake.what());
                  }
                }});
  };
  const auto plain = [](auto member) {
    return [member](Api& of, const Ask&) { return (of.*member)(); };
  };
  add("GET", "/node", Access::read, plain(&Api::node));
  add("GET", "/state", Access::read, plain(&Api::state));
  add("GET", "/gpus", Access::read, plain(&Api::gpus));
  add("GET", "/gpus/{gpu}", Access::read, &Api::gpu);
  add("GET", "/gpus/{gpu}/history", Access::read, &Api::gpu_history);
  add("GET", "/tenants", Access::read, plain(&Api::tenants));
  add("POST", "/tenants", Access::write, &Api::create);
  add("GET", "/tenants/{tenant}", Access::read, &Api::tenant);
  add("PATCH", "/tenants/{tenant}", Access::write, &Api::change);
  add("DELETE", "/tenants/{tenant}", Access::write, &Api::end);
  add("POST", "/tenants/{tenant}/taken", Access::write, &Api::taken);
  add("PUT", "/tenants/{tenant}/name", Access::write, &Api::rename);
  add("GET", "/tenants/{tenant}/history", Access::read, &Api::tenant_history);
  add("GET", "/tenants/{tenant}/why", Access::read, &Api::why);
  add("POST", "/join", Access::join, &Api::join);
  add("GET", "/histories", Access::read, &Api::histories);
  add("GET", "/processes", Access::read, &Api::processes);
  add("GET", "/events", Access::read, &Api::events);
  add("GET", "/events/stream", Access::read, &Api::stream);
}

}  // namespace vgpu::hypervisor::http
