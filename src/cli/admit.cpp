// SPDX-License-Identifier: Apache-2.0
#include "admit.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "vgpu/admission/admission.h"
#include "vgpu/client/address.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"

namespace vgpu::cli {

using client::Json, client::looks_after, client::Refused, client::Unreachable;
using survey::kExitNotStarted, survey::PlannedTenant, survey::Problem;

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{10'000};  // for an answer that needs no waiting
constexpr milliseconds kForEver = std::chrono::hours(24 * 20);  // and then it is asked again
constexpr useconds_t kBetweenAttemptsUs = 500'000;
constexpr useconds_t kWhileBusyUs = 50'000;
// It looks for new directories four times a second.
constexpr milliseconds kUntilSeen{1'000};

// A daemon of all users, which hasn't seen yet that this one's directory is there.
bool may_come_to_look_after(const Json& node) {
  return node.value("looks_after_users", false) && std::getenv("VGPU_STATE_DIR") == nullptr;
}

// What many at once come to: their turn comes in a moment.
bool is_busy(const Refused& refused) {
  return (refused.status == 429 || refused.status == 503) &&
         (refused.kind.empty() || refused.kind == "too_many_requests");
}

[[noreturn]] void refuse_silent(const Unreachable& trouble, int exit_code) {
  throw Problem(exit_code, "VG1072", fmt::format("the daemon at {}", trouble.what()),
                "VGPU_SOCKET=none vgpu ..., to do without it");
}

Json wish_json(const Quota& quota) {
  return {{"memory_limit_bytes",
           quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)},
          {"share_percent", survey::percent_json(quota.compute_share_percent)},
          {"limit_percent", survey::percent_json(quota.compute_limit_percent)},
          {"policy", survey::policy_name(quota.policy)},
          {"priority", survey::priority_name(quota.priority)},
          {"memory_source", survey::source_name(quota.memory_source)},
          {"compute_source", survey::source_name(quota.compute_source)}};
}

class Admission {
 public:
  Admission(const RunOptions& options, const PlannedTenant& planned, const survey::Driver& driver,
            const shm::StateDir& dir)
      : options_(options), planned_(planned), driver_(driver), dir_(dir) {
    if (!options.wait_time.empty()) until_ = Clock::now() + *parse_time(options.wait_time);
  }

  AdmittedTenant run() {
    for (bool first = true;; first = false) {
      auto daemon = daemon_of(dir_, driver_.simulated, first && !options_.quiet, kExitNotStarted);
      if (!daemon) {
        if (auto admitted = by_ourselves()) return std::move(*admitted);
        usleep(kBetweenAttemptsUs);
        continue;
      }
      try {
        return by_daemon(*daemon);
      } catch (const Unreachable& trouble) {
        if (trouble.is_silent) refuse_silent(trouble, kExitNotStarted);
        say_once(fmt::format("the daemon has gone: {}", trouble.what()));
      } catch (const Refused& refused) {
        // One that ends lets go of those who wait; the next one is asked, or none.
        if (refused.rule != "daemon_ends") throw refused.problem(kExitNotStarted);
      }
      usleep(kWhileBusyUs);
    }
  }

 private:
  bool has_time() const { return options_.wait && (!until_ || Clock::now() < *until_); }
  milliseconds time_left() const {
    if (!until_) return kForEver;
    return std::max(std::chrono::ceil<milliseconds>(*until_ - Clock::now()), milliseconds(1));
  }
  void say_once(const std::string& line) {
    if (!options_.quiet && said_ != line) fmt::print(stderr, "vgpu: note: {}\n", line);
    said_ = line;
  }
  void say_waiting(const std::string& why) {
    if (!options_.quiet && !said_waiting_)
      fmt::print(stderr, "vgpu: waiting for room: {}; Ctrl-C ends the wait\n", why);
    said_waiting_ = true;
  }

  // --- by the daemon

  Json request() const {
    Json body = {{"program", options_.command.front()},
                 {"lifetime", "run"},
                 {"state_directory", std::string(dir_.path.view())}};
    if (!options_.name.empty()) body["name"] = options_.name;
    if (options_.oversubscribe) body["oversubscribe"] = true;
    if (const std::size_t count = gpu_count_of(options_); count != 0) {
      body["gpu_count"] = count;
      body["quota_each"] = wish_json(each());
      return body;
    }
    Json quotas = Json::array();
    for (const auto& gpu : planned_.spec.gpus) {
      if (gpu.in_set)
        quotas.push_back({{"uuid", gpu.uuid.text().data()}, {"quota", wish_json(gpu.quota)}});
    }
    body["quotas"] = std::move(quotas);
    return body;
  }

  AdmittedTenant by_daemon(client::Daemon& daemon) {
    Json body = request();
    try {
      return take(daemon, asked([&] { return daemon.ask("POST", "/api/v2/tenants", body); }));
    } catch (const Refused& refused) {
      if (!refused.waiting_helps || !has_time()) throw;
      say_waiting(refused.what());
    }
    if (until_) {
      body["wait"] = std::chrono::duration<double>(time_left()).count();
    } else {
      body["wait"] = "forever";
    }
    client::Daemon patient(daemon.address(), "", time_left() + kPatience);
    return take(daemon, asked([&] { return patient.ask("POST", "/api/v2/tenants", body); }));
  }

  // The daemon holds the tenant until we do.
  AdmittedTenant take(client::Daemon& daemon, const Json& created) {
    const std::string id = created.value("id", ""), own_id = created.value("own_id", id);
    shm::Tenant tenant;
    const shm::Status status = shm::Tenant::open(dir_, own_id, tenant);
    auto hold = survey::TenantHold::acquire(dir_, own_id);
    if (status != shm::Status::ok || !hold) {
      throw Problem(kExitNotStarted, "VG1073",
                    fmt::format("the tenant {} that the daemon made can't be used from here: {}",
                                id, survey::status_text(status)),
                    "vgpu doctor");
    }
    try {
      asked([&] {
        return daemon.ask("POST", "/api/v2/tenants/" + client::percent_encoded(id) + "/taken",
                          Json::object());
      });
    } catch (const Unreachable&) {
      // It has gone, and its hold with it; ours stays.
    } catch (const Refused&) {
      // Another one by now, which knows nothing of it and doesn't hold it.
    }
    AdmittedTenant admitted{{std::move(tenant), std::move(*hold)}, {}};
    if (const auto notices = created.find("notices"); notices != created.end()) {
      for (const Json& notice : *notices) {
        if (notice.is_string()) admitted.notices.push_back(notice.get<std::string>());
      }
    }
    return admitted;
  }

  // --- without one

  Quota each() const {
    const auto common = survey::common_quota(planned_.spec);
    if (!common) {
      throw Problem(kExitNotStarted, "VG1004",
                    "--gpus takes one quota for each of its GPUs, and here they differ",
                    "one value for all, or --gpu with their names");
    }
    return *common;
  }

  // Where the quota fits, by the daemon's rules; what is refused waits or isn't started.
  shm::TenantSpec placed(std::size_t count) const {
    admission::Node node;
    for (const auto& gpu : driver_.gpus) {
      node.gpus.push_back({fmt::format("GPU {}", gpu.nvml_index), gpu.total_bytes.value_or(0),
                           gpu.total_bytes.has_value()});
    }
    for (const auto& spec : survey::live_specs(dir_)) {
      admission::Tenant tenant{std::string(spec.name.view()), {0, true}, {}};
      for (const auto& own : spec.gpus) {
        for (std::size_t i = 0; own.in_set && i < driver_.gpus.size(); ++i) {
          if (driver_.gpus[i].uuid != own.uuid) continue;
          tenant.parts.push_back(
              {i, own.quota.memory_limit_bytes, own.quota.compute_share_percent});
        }
      }
      node.tenants.push_back(std::move(tenant));
    }
    const Quota quota = each();
    admission::Wish wish;
    wish.user = {0, true};
    wish.count = count;
    wish.each = {0, quota.memory_limit_bytes, quota.compute_share_percent};
    wish.oversubscribe = options_.oversubscribe;
    const admission::Decision decision = admission::decide(node, wish);
    if (!decision.granted()) {
      throw Problem(kExitNotStarted, decision.refusal->waiting_helps ? kNoRoom : "VG1004",
                    admission::describe(*decision.refusal, node),
                    decision.refusal->waiting_helps ? "less, fewer GPUs, or vgpu run --wait"
                                                    : "less, or fewer GPUs; vgpu ls shows them");
    }
    shm::TenantSpec spec = planned_.spec;
    for (std::size_t i = 0; i < spec.gpus.size(); ++i) {
      spec.gpus[i].in_set = std::any_of(decision.parts.begin(), decision.parts.end(),
                                        [&](const admission::Part& part) { return part.gpu == i; });
      spec.gpus[i].quota = spec.gpus[i].in_set ? quota : Quota();
    }
    return spec;
  }

  // nullopt: there is no room, and time to wait for it.
  std::optional<AdmittedTenant> by_ourselves() {
    const std::size_t count = gpu_count_of(options_);
    try {
      const shm::TenantSpec spec = count != 0 ? placed(count) : planned_.spec;
      return AdmittedTenant{survey::make_tenant(dir_, spec,
                                                {.oversubscribe = options_.oversubscribe,
                                                 .share_is_required = options_.require_share}),
                            survey::mig_notices(spec, driver_)};
    } catch (const Problem& problem) {
      if ((problem.code != kNoShare && problem.code != kNoRoom) || !has_time()) throw;
      say_waiting(problem.what);
    }
    return std::nullopt;
  }

  static constexpr const char* kNoShare = "VG1014";
  static constexpr const char* kNoRoom = "VG1064";

  const RunOptions& options_;
  const PlannedTenant& planned_;
  const survey::Driver& driver_;
  const shm::StateDir& dir_;
  std::optional<Clock::time_point> until_;
  std::string said_;
  bool said_waiting_ = false;
};

}  // namespace

Json asked(const std::function<Json()>& ask) {
  const auto until = Clock::now() + kPatience;
  for (;;) {
    try {
      return ask();
    } catch (const Refused& refused) {
      if (!is_busy(refused) || Clock::now() >= until) throw;
    }
    usleep(kWhileBusyUs);
  }
}

std::optional<client::Daemon> daemon_of(const shm::StateDir& dir, std::optional<bool> simulated,
                                        bool says_so, int exit_code) {
  const bool is_set = std::getenv("VGPU_SOCKET") != nullptr && *std::getenv("VGPU_SOCKET") != '\0';
  for (const client::Address& address : client::usual_addresses()) {
    client::Daemon daemon(address, "", kPatience);
    try {
      Json node = asked([&] { return daemon.get("/api/v2/node"); });
      const auto driver = node.find("driver");
      // One that waits for its driver knows none of them.
      const bool same_gpus = !simulated || (driver != node.end() && driver->is_object() &&
                                            driver->value("available", false) &&
                                            driver->value("simulated", false) == *simulated);
      const std::string ours(dir.path.view());
      const auto until = Clock::now() + kUntilSeen;
      while (same_gpus && !looks_after(node, ours) && may_come_to_look_after(node) &&
             Clock::now() < until) {
        usleep(kWhileBusyUs);
        node = asked([&] { return daemon.get("/api/v2/node"); });
      }
      if (same_gpus && looks_after(node, ours)) return daemon;
    } catch (const Unreachable& trouble) {
      if (trouble.is_silent) refuse_silent(trouble, exit_code);
      if (is_set && says_so)
        fmt::print(stderr, "vgpu: note: no daemon (VGPU_SOCKET): {}\n", trouble.what());
    } catch (const Refused&) {
      // Not for this user.
    }
  }
  return std::nullopt;
}

std::optional<milliseconds> parse_time(const std::string& text) {
  constexpr struct {
    std::string_view name;
    std::uint64_t milliseconds;
  } kUnits[] = {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};
  constexpr std::uint64_t kMost = 1'000'000'000;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number > kMost) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto& known : kUnits) {
    if (unit == known.name)
      return milliseconds(static_cast<std::int64_t>(number * known.milliseconds));
  }
  return std::nullopt;
}

std::size_t gpu_count_of(const RunOptions& options) {
  const std::string& text = options.gpu_count;
  if (text.empty()) return 0;
  std::size_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  constexpr std::size_t kMost = 1'000;
  if (error != std::errc() || end != text.data() + text.size() || count == 0 || count > kMost) {
    throw Problem(kExitNotStarted, "VG1004",
                  fmt::format("--gpus: \"{}\" is no number of GPUs; names go with --gpu", text),
                  "vgpu run --gpus 2 -- PROGRAM");
  }
  if (!options.gpus.empty()) {
    throw Problem(kExitNotStarted, "VG1004", "--gpus and --gpu exclude each other",
                  "vgpu run --gpus 2 -- PROGRAM");
  }
  return count;
}

AdmittedTenant admit(const RunOptions& options, const PlannedTenant& planned,
                     const survey::Driver& driver, const shm::StateDir& dir) {
  if (!options.wait_time.empty() && !parse_time(options.wait_time)) {
    throw Problem(kExitNotStarted, "VG1004",
                  fmt::format("--wait: \"{}\" is no time; write 90s, 10m or 2h", options.wait_time),
                  "vgpu run --wait=10m -- PROGRAM");
  }
  return Admission(options, planned, driver, dir).run();
}

}  // namespace vgpu::cli
