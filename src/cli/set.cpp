// SPDX-License-Identifier: Apache-2.0
// vgpu set: a running tenant's quota, changed live. The limits lie in the tenant's segment, where
// every reservation and every launch reads them; ringing the node's doorbell makes the arbiter's
// host look at once. All is checked before anything is changed.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "verbs.h"
#include "vgpu/shm/node.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::compute_text, survey::find_tenant, survey::GpuShares, survey::Json,
    survey::kExitFailed, survey::kExitSignalBase, survey::kExitUsage, survey::KnownTenant,
    survey::live_specs, survey::percent_json, survey::plan_change, survey::policy_name,
    survey::print_json, survey::priority_name, survey::Problem, survey::promised,
    survey::QuotaChange, survey::QuotaFlags, survey::SharesLock, survey::size_text,
    survey::state_directory, survey::why_not;

namespace {

constexpr useconds_t kBetweenLooksUs = 50'000;

bool any_flag(const QuotaFlags& flags) {
  return !flags.memory.empty() || !flags.compute.empty() || !flags.compute_limit.empty() ||
         !flags.policy.empty() || !flags.priority.empty();
}

void refuse_from_inside() {
  const char* inside = std::getenv("VGPU_TENANT");
  if (inside == nullptr || *inside == '\0') return;
  throw Problem(kExitFailed, "VG1007",
                fmt::format("this is inside tenant {}: quotas are changed from outside", inside),
                "a shell that isn't a tenant's");
}

std::string limit_text(std::uint64_t bytes) {
  return bytes == kNoLimit ? "none" : size_text(bytes);
}

bool same_compute(const Quota& a, const Quota& b) {
  return a.compute_share_percent == b.compute_share_percent &&
         a.compute_limit_percent == b.compute_limit_percent && a.policy == b.policy &&
         a.priority == b.priority;
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

// One tenant and what is to become of it.
class Change {
 public:
  Change(const SetOptions& options, const shm::StateDir& dir)
      : options_(options),
        dir_(dir),
        known_(find_tenant(dir, options.tenant, kExitFailed, "vgpu set {} ...")),
        changes_(plan_change(options, options.gpus, known_.spec)) {}

  const std::vector<QuotaChange>& changes() const { return changes_; }
  const shm::TenantSpec& spec() const { return known_.spec; }

  // Returns the signal that ended the wait, 0: none.
  int apply() {
    {
      std::optional<SharesLock> lock;
      if (std::any_of(changes_.begin(), changes_.end(), raises_share)) {
        lock.emplace(dir_, kExitFailed);
        refuse_too_much();
      }
      if (!options_.when_free) refuse_memory_in_use();
      for (const auto& change : changes_) set_at_once(change);
    }
    ring();
    return options_.when_free ? wait_until_free() : 0;
  }

 private:
  std::string gpu_name(const QuotaChange& change) const {
    return fmt::format("GPU {}", known_.spec.gpus[change.gpu].nvml_index);
  }

  // Who gives some of it back isn't asked whether the rest fits.
  static bool raises_share(const QuotaChange& change) {
    return change.after.compute_share_percent > change.before.compute_share_percent;
  }

  void refuse_too_much() const {
    if (options_.oversubscribe) return;
    const auto live = live_specs(dir_);
    for (const auto& change : changes_) {
      if (!raises_share(change)) continue;
      const shm::TenantGpu& gpu = known_.spec.gpus[change.gpu];
      const GpuShares others = promised(live, gpu.uuid, known_.spec.id.view());
      const std::string why = why_not(others, gpu, change.after.compute_share_percent);
      if (!why.empty())
        throw Problem(kExitFailed, "VG1014", why, "--oversubscribe: all are scaled down");
    }
  }

  [[noreturn]] void refuse_memory(const QuotaChange& change, std::uint64_t held) const {
    throw Problem(
        kExitFailed, "VG1017",
        fmt::format("{}: {} holds {}, more than {}", gpu_name(change), known_.spec.name.view(),
                    size_text(held), limit_text(change.after.memory_limit_bytes)),
        fmt::format("vgpu set {} --memory {} --when-free", known_.spec.name.view(),
                    options_.memory));
  }

  void refuse_memory_in_use() const {
    for (const auto& change : changes_) {
      const std::uint64_t held = known_.tenant.charged_bytes(change.gpu);
      if (change.memory_is_lowered() && held > change.after.memory_limit_bytes)
        refuse_memory(change, held);
    }
  }

  // The tenant reads its quota at each reservation and launch, the arbiter what its seats say.
  void put(std::uint32_t gpu, const Quota& quota) {
    known_.tenant.set_quota(gpu, quota);
    shm::Node node;
    if (shm::Node::look(dir_, node) == shm::Status::ok)
      node.set_terms(known_.spec.id.view(), known_.spec.gpus[gpu].uuid, quota);
  }

  void set_at_once(const QuotaChange& change) {
    Quota quota = change.after;
    if (options_.when_free && change.memory_is_lowered()) {
      quota.memory_limit_bytes = change.before.memory_limit_bytes;
      quota.memory_source = change.before.memory_source;
    }
    put(change.gpu, quota);
    if (options_.when_free || !change.memory_is_lowered()) return;
    // An allocation that was granted under the old limit while we changed it.
    const std::uint64_t held = known_.tenant.charged_bytes(change.gpu);
    if (held <= change.after.memory_limit_bytes) return;
    for (const auto& all : changes_) put(all.gpu, all.before);
    refuse_memory(change, held);
  }

  void ring() const {
    shm::Node node;
    if (shm::Node::look(dir_, node) == shm::Status::ok) node.ring();
  }

  bool has_ended() const {
    shm::Tenant again;
    return shm::Tenant::open(dir_, known_.spec.id.view(), again) == shm::Status::not_found;
  }

  // The limit follows what is held down to the wanted one, so what the tenant frees it doesn't get
  // back. `limit`: as this wait left it last. True: the wanted one is reached.
  bool lower(const QuotaChange& change, std::uint64_t& limit, std::uint64_t& held) {
    const std::uint64_t wanted = change.after.memory_limit_bytes;
    Quota quota = known_.tenant.quota(change.gpu);
    if (quota.memory_limit_bytes != limit) {
      throw Problem(kExitFailed, "VG1018",
                    fmt::format("{}: somebody else has changed the memory limit to {} meanwhile",
                                gpu_name(change), limit_text(quota.memory_limit_bytes)),
                    "vgpu ls");
    }
    held = known_.tenant.charged_bytes(change.gpu);
    limit = std::min(limit, std::max(wanted, held));
    quota.memory_limit_bytes = limit;
    quota.memory_source = change.after.memory_source;
    put(change.gpu, quota);
    return limit == wanted && held <= wanted;
  }

  void restore() {
    for (const auto& change : changes_) put(change.gpu, change.before);
    ring();
  }

  int wait_until_free() {
    const SignalsNoted signals;
    WaitingLine line;
    for (const auto& change : changes_) {
      if (!change.memory_is_lowered()) continue;
      std::uint64_t limit = change.before.memory_limit_bytes, held = 0;
      while (!lower(change, limit, held)) {
        if (noted_signal == 0 && !has_ended()) {
          line.show(fmt::format("{}: {} holds {}; waiting for {} or less, Ctrl-C puts {} back",
                                gpu_name(change), known_.spec.name.view(), size_text(held),
                                limit_text(change.after.memory_limit_bytes),
                                limit_text(change.before.memory_limit_bytes)));
          usleep(kBetweenLooksUs);
          continue;
        }
        line.clear();
        if (noted_signal == 0) {
          throw Problem(kExitFailed, "VG1022",
                        fmt::format("tenant {} has ended", known_.spec.name.view()), "vgpu ls");
        }
        restore();
        return noted_signal;
      }
    }
    return 0;
  }

  const SetOptions& options_;
  shm::StateDir dir_;
  KnownTenant known_;
  std::vector<QuotaChange> changes_;
};

Json quota_json(const Quota& quota) {
  return {{"memory_limit_bytes",
           quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)},
          {"share_percent", percent_json(quota.compute_share_percent)},
          {"limit_percent", percent_json(quota.compute_limit_percent)},
          {"policy", std::string(policy_name(quota.policy))},
          {"priority", std::string(priority_name(quota.priority))}};
}

Json change_json(const Change& change) {
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

// "memory 4 GiB -> 2 GiB"; what stayed is left out.
std::string change_text(const QuotaChange& change) {
  std::vector<std::string> parts;
  if (change.before.memory_limit_bytes != change.after.memory_limit_bytes) {
    parts.push_back(fmt::format("memory {} -> {}", limit_text(change.before.memory_limit_bytes),
                                limit_text(change.after.memory_limit_bytes)));
  }
  if (!same_compute(change.before, change.after)) {
    const auto words = [](const Quota& quota) {
      const std::string text = compute_text(quota);
      return text.empty() ? std::string("share none") : text;
    };
    parts.push_back(fmt::format("{} -> {}", words(change.before), words(change.after)));
  }
  return parts.empty() ? "as it was" : fmt::format("{}", fmt::join(parts, "; "));
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
  refuse_from_inside();
  Change change(options, state_directory(true, kExitFailed));
  if (const int signal = change.apply(); signal != 0) {
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
               change_text(one));
  }
  return 0;
}

}  // namespace vgpu::cli
