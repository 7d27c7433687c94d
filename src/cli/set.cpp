// SPDX-License-Identifier: Apache-2.0
// vgpu set: a running tenant's quota, changed live. The limits lie in the tenant's segment, where
// every reservation and every launch reads them; ringing the node's doorbell makes the arbiter's
// host look at once. All is checked before anything is changed.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

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

Json change_json(const survey::TenantChange& change) {
  Json gpus = Json::array();
  for (const auto& one : change.changes()) {
    const shm::TenantGpu& gpu = change.spec().gpus[one.gpu];
    gpus.push_back({{"index", gpu.nvml_index},
                    {"uuid", gpu.uuid.text().data()},
                    {"before", quota_json(one.before)},
                    {"after", quota_json(one.after)}});
  }
  return {{"version", 1},
          {"tenant",
           {{"id", std::string(change.spec().id.view())},
            {"name", std::string(change.spec().name.view())}}},
          {"gpus", gpus}};
}

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
  survey::TenantChange change(
      options, options.gpus,
      {.oversubscribe = options.oversubscribe, .when_free = options.when_free},
      state_directory(true, kExitFailed), options.tenant);
  change.apply();
  const int signal = options.when_free ? Wait(change).until_free() : 0;
  if (signal != 0) {
    fmt::print(stderr, "vgpu: ended by signal {}: {} is as it was\n", signal,
               change.spec().name.view());
    return kExitSignalBase + signal;
  }
  if (options.json) {
    print_json(change_json(change));
    return 0;
  }
  for (const auto& one : change.changes()) {
    fmt::print("{} GPU {}: {}\n", change.spec().name.view(), change.spec().gpus[one.gpu].nvml_index,
               change_text(one.before, one.after));
  }
  return 0;
}

}  // namespace vgpu::cli
