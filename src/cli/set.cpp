// SPDX-License-Identifier: Apache-2.0
// vgpu set: a running tenant's quota, changed live, by the daemon where there is one. The limits
// lie in the tenant's segment, where every reservation and every launch reads them; ringing the
// node's doorbell makes the arbiter's host look at once. All is checked before anything is changed.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "admit.h"
#include "verbs.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::change_text, survey::Json, survey::kExitFailed, survey::kExitSignalBase,
    survey::kExitUsage, survey::limit_text, survey::percent_json, survey::policy_name,
    survey::print_json, survey::priority_name, survey::Problem, survey::QuotaFlags,
    survey::size_text, survey::state_directory;

namespace {

constexpr useconds_t kBetweenLooksUs = 50'000;

bool any_flag(const QuotaFlags& flags) {
  return !flags.memory.empty() || !flags.compute.empty() || !flags.compute_limit.empty() ||
         !flags.policy.empty() || !flags.priority.empty();
}

constexpr std::array<int, 3> kEndingSignals = {SIGINT, SIGTERM, SIGHUP};
volatile std::sig_atomic_t noted_signal = 0;  // the last one that came; written by note_signal

extern "C" void note_signal(int signal) { noted_signal = signal; }

// While this lives, signals that would end us are noted instead.
class SignalsNoted {
 public:
  SignalsNoted() {
    struct sigaction note {};
    note.sa_handler = note_signal;
    for (std::size_t i = 0; i < before_.size(); ++i)
      sigaction(kEndingSignals[i], &note, &before_[i]);
  }
  ~SignalsNoted() {
    for (std::size_t i = 0; i < before_.size(); ++i)
      sigaction(kEndingSignals[i], &before_[i], nullptr);
  }
  SignalsNoted(const SignalsNoted&) = delete;
  SignalsNoted& operator=(const SignalsNoted&) = delete;

 private:
  std::array<struct sigaction, kEndingSignals.size()> before_{};
};

// What a wait waits for: on a terminal one line that is written over, else said once.
class WaitingLine {
 public:
  ~WaitingLine() { clear(); }
  void show(const std::string& text) {
    if (text == shown_ || (!on_terminal_ && !shown_.empty())) return;
    fmt::print(stderr, "{}vgpu: {}{}", on_terminal_ ? "\r\033[K" : "", text,
               on_terminal_ ? "" : "\n");
    shown_ = text;
  }
  void clear() {
    if (on_terminal_ && !shown_.empty()) std::fputs("\r\033[K", stderr);
    shown_.clear();
  }

 private:
  const bool on_terminal_ = isatty(STDERR_FILENO) != 0;
  std::string shown_;
};

// What is asked beside the quota is how: at once, or when memory is free.
class Wait {
 public:
  explicit Wait(survey::TenantChange& change) : change_(change) {}

  // Returns the signal that ended the wait, 0: none.
  int until_free() {
    const SignalsNoted signals;
    WaitingLine line;
    for (const auto& change : change_.changes()) {
      if (!change.memory_is_lowered()) continue;
      std::uint64_t limit = change.before.memory_limit_bytes, held = 0;
      while (!change_.lower(change, limit, held)) {
        if (noted_signal == 0 && !change_.has_ended()) {
          line.show(fmt::format("{}: {} holds {}; waiting for {} or less, Ctrl-C puts {} back",
                                change_.gpu_name(change), change_.spec().name.view(),
                                size_text(held), limit_text(change.after.memory_limit_bytes),
                                limit_text(change.before.memory_limit_bytes)));
          usleep(kBetweenLooksUs);
          continue;
        }
        line.clear();
        if (noted_signal == 0) {
          throw Problem(kExitFailed, "VG1022",
                        fmt::format("tenant {} has ended", change_.spec().name.view()), "vgpu ls");
        }
        change_.restore();
        return noted_signal;
      }
    }
    return 0;
  }

 private:
  survey::TenantChange& change_;
};

Json quota_json(const Quota& quota) {
  return {{"memory_limit_bytes",
           quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)},
          {"share_percent", percent_json(quota.compute_share_percent)},
          {"limit_percent", percent_json(quota.compute_limit_percent)},
          {"policy", std::string(policy_name(quota.policy))},
          {"priority", std::string(priority_name(quota.priority))}};
}

// What is said of a change, whoever carried it out.
struct ChangedGpu {
  std::uint32_t index = 0;
  std::string uuid;
  Quota before;
  Quota after;
};
struct ChangedTenant {
  std::string id;
  std::string name;
  std::vector<ChangedGpu> gpus;
};

ChangedTenant changed_by_us(const survey::TenantChange& change) {
  ChangedTenant changed{
      std::string(change.spec().id.view()), std::string(change.spec().name.view()), {}};
  for (const auto& one : change.changes()) {
    const shm::TenantGpu& gpu = change.spec().gpus[one.gpu];
    changed.gpus.push_back({gpu.nvml_index, gpu.uuid.text().data(), one.before, one.after});
  }
  return changed;
}

Json change_json(const ChangedTenant& changed) {
  Json gpus = Json::array();
  for (const auto& gpu : changed.gpus) {
    gpus.push_back({{"index", gpu.index},
                    {"uuid", gpu.uuid},
                    {"before", quota_json(gpu.before)},
                    {"after", quota_json(gpu.after)}});
  }
  return {{"version", 1}, {"tenant", {{"id", changed.id}, {"name", changed.name}}}, {"gpus", gpus}};
}

// --- by the daemon

Quota quota_in(const Json& json) {
  Quota quota;
  const auto percent = [&](const char* name) {
    const auto found = json.find(name);
    return found != json.end() && found->is_number_unsigned() ? found->get<std::uint8_t>()
                                                              : std::uint8_t{0};
  };
  const auto word = [&](const char* name) {
    const auto found = json.find(name);
    return found != json.end() && found->is_string() ? found->get<std::string>() : "";
  };
  if (const auto memory = json.find("memory_limit_bytes");
      memory != json.end() && memory->is_number_unsigned())
    quota.memory_limit_bytes = memory->get<std::uint64_t>();
  quota.compute_share_percent = percent("share_percent");
  quota.compute_limit_percent = percent("limit_percent");
  for (const Policy policy : {Policy::elastic, Policy::fixed}) {
    if (word("policy") == policy_name(policy)) quota.policy = policy;
  }
  for (const Priority priority : {Priority::low, Priority::normal, Priority::high}) {
    if (word("priority") == priority_name(priority)) quota.priority = priority;
  }
  return quota;
}

// A tenant that the daemon changes. Throws Problem.
class ByDaemon {
 public:
  ByDaemon(client::Daemon daemon, const SetOptions& options, std::string tenant)
      : daemon_(std::move(daemon)), options_(options), tenant_(std::move(tenant)) {}

  // Returns the signal that ended the wait, 0: none.
  int change() {
    const SignalsNoted signals;
    WaitingLine line;
    for (;;) {
      const bool all_free = ask(body_of(options_));
      if (all_free || !options_.when_free) return 0;
      if (noted_signal != 0) {
        line.clear();
        (void)ask(body_before());
        return noted_signal;
      }
      line.show(waiting_text());
      usleep(kBetweenLooksUs);
    }
  }

  const ChangedTenant& changed() const { return changed_; }

 private:
  static Json body_of(const SetOptions& options) {
    Json body = {{"source", "run"}};
    const auto put = [&](const char* name, const std::string& text) {
      if (!text.empty()) body[name] = text;
    };
    put("gpus", options.gpus);
    put("memory", options.memory);
    put("compute", options.compute);
    put("compute_limit", options.compute_limit);
    put("policy", options.policy);
    put("priority", options.priority);
    if (options.oversubscribe) body["oversubscribe"] = true;
    if (options.when_free) body["when_free"] = true;
    return body;
  }

  // What puts all back as it was.
  Json body_before() const {
    std::string memory, compute, limit, policy, priority;
    for (const auto& gpu : changed_.gpus) {
      const auto add = [&](std::string& list, std::string_view value) {
        list += fmt::format("{}{}={}", list.empty() ? "" : ",", gpu.uuid, value);
      };
      const auto percent = [](std::uint8_t value) {
        return value == 0 ? std::string("none") : std::to_string(value);
      };
      add(memory,
          gpu.before.limits_memory() ? std::to_string(gpu.before.memory_limit_bytes) : "none");
      add(compute, percent(gpu.before.compute_share_percent));
      add(limit, percent(gpu.before.compute_limit_percent));
      add(policy, policy_name(gpu.before.policy));
      add(priority, priority_name(gpu.before.priority));
    }
    return {{"source", "run"},        {"memory", memory}, {"compute", compute},
            {"compute_limit", limit}, {"policy", policy}, {"priority", priority}};
  }

  // True: every limit is as low as it is wanted.
  bool ask(const Json& body) {
    Json answer;
    try {
      answer = asked([&] {
        return daemon_.ask("PATCH", "/api/v2/tenants/" + client::percent_encoded(tenant_), body);
      });
    } catch (const client::Refused& refused) {
      throw refused.problem(kExitFailed);
    } catch (const client::Unreachable& trouble) {
      throw Problem(kExitFailed, "VG1072", fmt::format("the daemon at {}", trouble.what()),
                    "vgpu ls, to see what holds now");
    }
    const bool is_first = changed_.gpus.empty();
    changed_.id = answer.value("id", "");
    changed_.name = answer.value("name", "");
    bool all_free = true;
    std::size_t place = 0;
    for (const Json& one : answer.value("gpus", Json::array())) {
      ChangedGpu gpu{one.value("index", 0U), one.value("uuid", ""),
                     quota_in(one.value("before", Json::object())),
                     quota_in(one.value("after", Json::object()))};
      if (!is_first && place < changed_.gpus.size()) gpu.before = changed_.gpus[place].before;
      const auto wanted = one.find("wanted_memory_bytes");
      const std::uint64_t bytes = wanted != one.end() && wanted->is_number_unsigned()
                                      ? wanted->get<std::uint64_t>()
                                      : kNoLimit;
      const std::uint64_t held = one.value("held_bytes", std::uint64_t{0});
      if (bytes < gpu.after.memory_limit_bytes || (bytes != kNoLimit && held > bytes)) {
        if (all_free) waiting_ = {gpu.index, held, bytes, gpu.before.memory_limit_bytes};
        all_free = false;
      }
      if (is_first) {
        changed_.gpus.push_back(std::move(gpu));
      } else if (place < changed_.gpus.size()) {
        changed_.gpus[place] = std::move(gpu);
      }
      ++place;
    }
    return all_free;
  }

  std::string waiting_text() const {
    return fmt::format("GPU {}: {} holds {}; waiting for {} or less, Ctrl-C puts {} back",
                       waiting_.index, changed_.name, size_text(waiting_.held_bytes),
                       limit_text(waiting_.wanted_bytes), limit_text(waiting_.before_bytes));
  }

  struct Waiting {
    std::uint32_t index = 0;
    std::uint64_t held_bytes = 0;
    std::uint64_t wanted_bytes = 0;
    std::uint64_t before_bytes = 0;
  };

  client::Daemon daemon_;
  const SetOptions& options_;
  std::string tenant_;
  ChangedTenant changed_;
  Waiting waiting_;
};

}  // namespace

int set_verb(const SetOptions& options) {
  if (options.tenant.empty())
    throw Problem(kExitUsage, "VG1003", "vgpu set wants a tenant", "vgpu set TENANT --compute 50");
  if (!any_flag(options)) {
    throw Problem(kExitUsage, "VG1003", "vgpu set wants something to change",
                  fmt::format("vgpu set {} --compute 50", options.tenant));
  }
  if (options.when_free && options.memory.empty()) {
    throw Problem(kExitUsage, "VG1003", "--when-free goes with --memory",
                  fmt::format("vgpu set {} --memory 2GiB --when-free", options.tenant));
  }
  survey::refuse_from_inside();
  const shm::StateDir dir = state_directory(true, kExitFailed);
  int signal = 0;
  ChangedTenant changed;
  if (auto daemon = daemon_of(dir, std::nullopt, true, kExitFailed)) {
    const auto known = survey::find_tenant(dir, options.tenant, kExitFailed, "vgpu set {} ...");
    ByDaemon by_daemon(std::move(*daemon), options, std::string(known.spec.id.view()));
    signal = by_daemon.change();
    changed = by_daemon.changed();
  } else {
    survey::TenantChange change(
        options, options.gpus,
        {.oversubscribe = options.oversubscribe, .when_free = options.when_free}, dir,
        options.tenant);
    change.apply();
    if (options.when_free) signal = Wait(change).until_free();
    changed = changed_by_us(change);
  }
  if (signal != 0) {
    fmt::print(stderr, "vgpu: ended by signal {}: {} is as it was\n", signal, changed.name);
    return kExitSignalBase + signal;
  }
  if (options.json) {
    print_json(change_json(changed));
    return 0;
  }
  for (const auto& gpu : changed.gpus) {
    fmt::print("{} GPU {}: {}\n", changed.name, gpu.index, change_text(gpu.before, gpu.after));
  }
  return 0;
}

}  // namespace vgpu::cli
