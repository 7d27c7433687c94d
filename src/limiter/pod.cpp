// SPDX-License-Identifier: Apache-2.0
#include "pod.h"

#include <poll.h>
#include <unistd.h>

#include "compute/service.h"
#include "enter.h"
#include "log.h"
#include "vgpu/platform/clock.h"
#include "vgpu/pod/fetch.h"
#include "vgpu/pod/file.h"

namespace vgpu::limiter {
namespace {

constexpr std::uint64_t kBeatNs = 100'000'000;
constexpr std::uint64_t kAskEveryNs = 10'000'000'000;
// A daemon may need a moment until it has seen the process that says it is there.
constexpr std::uint64_t kRegisterEveryNs = 2'000'000'000;
constexpr std::uint32_t kRegistrations = 5;
// A file that is being replaced is away for a moment.
constexpr int kFileTries = 20;
constexpr int kFileTryMs = 10;

template <std::size_t N>
void append_setting(FixedString<N>& line, std::string_view name, std::string_view value) {
  line.append(name).append("=\"");
  for (const char c : value) line.append(c >= ' ' && c < '\x7f' ? c : '?');
  line.append("\"");
}

template <std::size_t N>
void append_file(FixedString<N>& line, const pod::Variables& variables, const pod::Why& why) {
  if (variables.file_from == "TF_SHM_PATH") {
    append_setting(line, variables.file_from, variables.file.view());
  } else {
    if (!variables.file_from.empty()) line.append(variables.file_from).append(": ");
    line.append(variables.file.view());
  }
  line.append(": ").append(why.view());
}

template <std::size_t N>
void append_daemon(FixedString<N>& line, const pod::Variables& variables, const pod::Why& why) {
  append_setting(line, "HYPERVISOR_IP", variables.host.view());
  line.append(", ");
  append_setting(line, "HYPERVISOR_PORT", variables.port.view());
  line.append(": ").append(why.view());
}

bool read_file(const pod::Variables& variables, pod::Limits& limits, pod::Why& why) {
  if (variables.file.truncated()) {
    why = pod::Why("the path is too long");
    return false;
  }
  return pod::read_file(variables.file.c_str(), limits, why);
}

bool read_file_patiently(const pod::Variables& variables, pod::Limits& limits, pod::Why& why) {
  for (int tries = 0; tries < kFileTries; ++tries) {
    if (read_file(variables, limits, why)) return true;
    ::poll(nullptr, 0, kFileTryMs);
  }
  return false;
}

}  // namespace

struct PodFollowerStorage {
  static constinit PodFollower follower;
};
constinit PodFollower PodFollowerStorage::follower;

PodFollower& PodFollower::get() { return PodFollowerStorage::follower; }

bool speaks(const pod::Variables& variables) {
  return variables.speaks() ||
         (variables.may_speak() && ::access(variables.file.c_str(), F_OK) == 0);
}

// The order of attempts, where no daemon said by its socket which tenant this process belongs to.
PodFindings find_pod_limits(const pod::Variables& variables) {
  PodFindings findings;
  pod::Why why;
  if (variables.has_daemon()) {
    if (read_file(variables, findings.limits, why)) return findings;
    append_file(findings.why, variables, why);
    findings.why.append("; ");
    findings.from_daemon = pod::get_pod(variables, ::getpid(), findings.limits, why);
    // The predecessor's daemon makes the file when it is asked, and says more there.
    pod::Limits in_file;
    pod::Why ignored;
    if ((!findings.from_daemon || !findings.limits.has_compute) &&
        read_file(variables, in_file, ignored)) {
      findings.limits = in_file;
      findings.from_daemon = false;
    } else if (!findings.from_daemon) {
      findings.limits = pod::Limits();
      append_daemon(findings.why, variables, why);
    }
  } else if (!read_file_patiently(variables, findings.limits, why)) {
    findings.limits = pod::Limits();
    append_file(findings.why, variables, why);
    if (!variables.host.empty()) findings.why.append("; HYPERVISOR_PORT isn't set");
  }
  return findings;
}

Quota quota_of(const pod::GpuLimits& said, bool has_compute, const Quota& before,
               std::uint64_t total_bytes) {
  Quota quota = said.quota;
  if (total_bytes != 0 && quota.memory_limit_bytes >= total_bytes) {
    quota.memory_limit_bytes = kNoLimit;
    quota.memory_source = Source::none;
  }
  if (!has_compute) {
    quota.compute_share_percent = before.compute_share_percent;
    quota.compute_limit_percent = before.compute_limit_percent;
    quota.policy = before.policy;
    quota.compute_source = before.compute_source;
  }
  return quota;
}

void PodFollower::begin(const pod::Variables& variables, shm::Tenant& tenant) {
  variables_ = variables;
  registrations_left_ = variables.has_daemon() && !variables.container.empty() ? kRegistrations : 0;
  tenant_.store(&tenant, std::memory_order_release);
}

void PodFollower::reset_after_fork() {
  due_ns_ = 0;
  changed_ns_.store(0, std::memory_order_relaxed);
  is_asking_.store(false, std::memory_order_relaxed);
  has_failed_ = false;
  register_due_ns_ = 0;
  registrations_left_ =
      variables_.has_daemon() && !variables_.container.empty() ? kRegistrations : 0;
}

std::uint64_t PodFollower::look(std::uint64_t now_ns) {
  shm::Tenant* const tenant = tenant_.load(std::memory_order_acquire);
  if (tenant == nullptr) return UINT64_MAX;
  if (now_ns < due_ns_) return due_ns_;
  due_ns_ = now_ns + kBeatNs;
  pod::Limits limits;
  pod::Why why;
  // What a daemon of this machine says on its page holds over the pod.
  const bool is_governed = tenant->is_governed();
  const bool has_file = !is_governed && read_file(variables_, limits, why);
  if (has_file) apply(limits);
  if (variables_.has_daemon() && !is_asking_.load(std::memory_order_acquire)) {
    asks_limits_ = !is_governed && !has_file && tenant->take_question(now_ns, kAskEveryNs);
    ask_daemon(now_ns);
  }
  return due_ns_;
}

void PodFollower::apply(const pod::Limits& limits) {
  shm::Tenant& tenant = *tenant_.load(std::memory_order_acquire);
  shm::Node* const node = Service::get().node();
  const shm::TenantSpec spec = tenant.spec();
  bool has_changed = false;
  for (std::uint32_t i = 0; i < spec.gpus.size(); ++i) {
    const shm::TenantGpu& gpu = spec.gpus[i];
    const pod::GpuLimits* const said = gpu.in_set ? find(limits, gpu.uuid) : nullptr;
    if (said == nullptr) continue;
    const Quota wanted = quota_of(*said, limits.has_compute, gpu.quota, gpu.total_bytes);
    if (wanted == gpu.quota || tenant.set_quota(i, wanted) != shm::Status::ok) continue;
    // The tenant's processes read their quota each time, the arbiter what their seats say.
    if (node != nullptr) node->set_terms(spec.id.view(), gpu.uuid, wanted);
    has_changed = true;
  }
  if (!has_changed) return;
  if (node != nullptr) node->ring();
  changed_ns_.store(platform::monotonic_ns(), std::memory_order_release);
  settings::Line line("pod.changed id=");
  log(LogLevel::info, "VG2010", line.append(spec.id.view()).view());
}

void PodFollower::ask_daemon(std::uint64_t now_ns) {
  const bool registers = registrations_left_ > 0 && now_ns >= register_due_ns_;
  if (!asks_limits_ && !registers) return;
  is_asking_.store(true, std::memory_order_release);
  if (!begin_detached_thread(asking_main, this)) is_asking_.store(false, std::memory_order_release);
}

void* PodFollower::asking_main(void* self) {
  ++t_depth;  // nothing that happens here is the program's doing
  static_cast<PodFollower*>(self)->ask();
  return nullptr;
}

void PodFollower::ask() {
  pod::Why why;
  if (asks_limits_) {
    pod::Limits limits;
    const bool has_limits = pod::get_pod(variables_, ::getpid(), limits, why);
    if (has_limits) apply(limits);
    if (!has_limits && !has_failed_) {
      settings::Line line("pod.unanswered ");
      append_daemon(line, variables_, why);
      log(LogLevel::warning, "VG2011", line.view());
    }
    has_failed_ = !has_limits;
  }
  if (registrations_left_ > 0 && platform::monotonic_ns() >= register_due_ns_) register_process();
  is_asking_.store(false, std::memory_order_release);
}

void PodFollower::register_process() {
  pod::Why why;
  if (pod::post_process(variables_, ::getpid(), why)) {
    registrations_left_ = 0;
    return;
  }
  register_due_ns_ = platform::monotonic_ns() + kRegisterEveryNs;
  if (--registrations_left_ > 0) return;
  settings::Line line("pod.unregistered ");
  append_daemon(line, variables_, why);
  log(LogLevel::warning, "VG2012", line.view());
}

}  // namespace vgpu::limiter
