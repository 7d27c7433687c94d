// SPDX-License-Identifier: Apache-2.0
#include "birth.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "environment.h"
#include "joining.h"
#include "log.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/driver/dispatch.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/process.h"
#include "vgpu/settings/settings.h"

namespace vgpu::limiter {
namespace {

using Reason = FixedString<500>;
using TenantId = FixedString<shm::kMaxName>;

FixedString<16> hex(std::uint64_t number) {
  FixedString<16> text;
  for (int shift = 60; shift >= 0; shift -= 4)
    text.append("0123456789abcdef"[(number >> shift) & 15]);
  return text;
}

// Every failure ends here: refused with its reasons, or open with the same reasons as a warning.
Phase give_up(const settings::Environment& environment,
              std::initializer_list<std::string_view> reasons) {
  const bool open = settings::opens_on_error(environment);
  for (const std::string_view reason : reasons) {
    FixedString<700> line(reason);
    if (open) line.append(" (VGPU_ON_ERROR=open: this process runs without limits)");
    say(line.view());
  }
  return open ? Phase::unlimited : Phase::refused;
}

Phase give_up(const settings::Environment& environment, const settings::Messages& messages) {
  for (const settings::Line& error : messages.errors)
    [[maybe_unused]] const Phase phase = give_up(environment, {error.view()});
  return settings::opens_on_error(environment) ? Phase::unlimited : Phase::refused;
}

std::string_view describe(shm::Status status) {
  switch (status) {
    case shm::Status::ok:
      return "ok";
    case shm::Status::over_quota:
      return "over its limit";
    case shm::Status::ledger_full:
      return "every slot is held by a live process";
    case shm::Status::not_found:
      return "there is no such tenant";
    case shm::Status::exists:
      return "it exists already";
    case shm::Status::bad_version:
      return "its state was written by another version of vgpu";
    case shm::Status::corrupt:
      return "its state file is damaged";
    case shm::Status::unavailable:
      return "its state can't be opened";
  }
  return "";
}

Reason tenant_reason(std::string_view id, shm::Status status, int error) {
  Reason reason("tenant ");
  reason.append(id).append(": ").append(describe(status));
  if (status == shm::Status::unavailable && error != 0) {
    reason.append(" (errno ").append_number(static_cast<std::uint64_t>(error)).append(")");
  }
  return reason;
}

// Settings and GPUs to a spec. False: `messages` say what is wrong.
bool make_spec(const settings::Environment& environment, std::string_view id,
               const GpuInventory& inventory, shm::TenantSpec& spec, settings::Messages& messages) {
  spec.id = TenantId(id);
  spec.name = spec.id;
  spec.gpus = inventory.gpus;
  FixedVector<settings::GpuIdentity, shm::kMaxGpus> gpus;
  for (const shm::TenantGpu& gpu : spec.gpus)
    gpus.push_back({gpu.uuid, gpu.nvml_index, gpu.total_bytes});
  const std::span<const settings::GpuIdentity> identities(gpus.begin(), gpus.size());

  static settings::ResolvedQuotas quotas;  // one thread, once: kept off a stack that may be small
  FixedVector<std::uint32_t, settings::kMaxGpus> set;
  settings::resolve_quotas(environment, identities, driver_model::kLeastLimitBytes, quotas,
                           messages);
  settings::resolve_gpu_set(environment, identities, set, messages);
  if (!messages.errors.empty()) return false;
  for (std::size_t i = 0; i < spec.gpus.size(); ++i) {
    spec.gpus[i].quota = quotas.per_gpu[i];
    spec.gpus[i].in_set = std::find(set.begin(), set.end(), i) != set.end();
  }
  return true;
}

// What the pod says of the GPUs into a spec that has none. Empty: done.
Reason put_pod_limits(const pod::Limits& limits, const pod::Variables& variables,
                      shm::TenantSpec& spec) {
  Reason why;
  bool has_any = false;
  spec.name = pod::tenant_name(variables);
  for (shm::TenantGpu& gpu : spec.gpus) {
    const pod::GpuLimits* const said = find(limits, gpu.uuid);
    gpu.in_set = said != nullptr;
    if (said == nullptr) continue;
    has_any = true;
    gpu.quota = quota_of(*said, limits.has_compute, gpu.quota, gpu.total_bytes);
    if (gpu.quota.memory_limit_bytes >= driver_model::kLeastLimitBytes) continue;
    why.append("the pod's memory limit of ");
    why.append(settings::format_size(gpu.quota.memory_limit_bytes).view());
    why.append(" can't be met: one context needs ");
    return why.append(settings::format_size(driver_model::kLeastLimitBytes).view());
  }
  if (!has_any) {
    why.append("none of the pod's GPUs is here, the first being ");
    why.append(limits.gpus[0].uuid.text().data());
  }
  return why;
}

// A tenant by bare variables has nobody who ends it, so whoever makes one removes those that nobody
// is in any more. A process that still carries such a tenant's id makes it anew.
void remove_abandoned(const shm::StateDir& directory) {
  TenantId ids[64];
  const std::size_t count = std::min(shm::list_tenants(directory, ids), std::size(ids));
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view id = ids[i].view();
    const char* text = ids[i].c_str();
    if (std::strncmp(text, "t-", 2) != 0 && std::strncmp(text, "container-", 10) != 0 &&
        !pod::is_tenant_id(id))
      continue;
    shm::Tenant tenant;
    if (shm::Tenant::open(directory, id, tenant) != shm::Status::ok) continue;
    if (tenant.spec().made_by_run) continue;
    tenant.reap();
    // Says `exists` while anybody is in it.
    [[maybe_unused]] const shm::Status status = shm::Tenant::remove(directory, id);
  }
}

TenantId random_id(std::string_view prefix) {
  std::uint64_t number = 0;
  if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != static_cast<ssize_t>(sizeof(number))) {
    number =
        platform::monotonic_ns() * 0x9e3779b97f4a7c15ULL ^ static_cast<std::uint64_t>(getpid());
  }
  return TenantId(prefix).append(hex(number).view());
}

TenantId container_id(std::string_view prefix) {
  TenantId id(prefix);
  id.append("container-").append_number(platform::pid_namespace());
  return id.append("-").append_number(platform::start_time_ticks(1));
}

// Whose word holds in this process: limits by variables before a pod, its own environment before
// that of the container's first process.
struct Speaker {
  enum class Kind { nobody, variables, pod };

  Speaker() {
    const char* const variable = own.get("VGPU_TENANT");
    const bool has_id = variable != nullptr && *variable != '\0';
    // One that only says in which pod this process is doesn't speak against it.
    const bool is_pods = has_id && pod::is_tenant_id(variable);
    if (has_id) id = variable;
    kind = Kind::variables;
    if (settings::any_limit_set(own)) {
      if (is_pods) id = nullptr;
      return;
    }
    if (has_id && !is_pods) return;
    // A shell in a container that doesn't carry the container's variables still belongs to it.
    first.emplace();
    if (settings::any_limit_set(*first)) {
      is_first = true;
      if (is_pods) id = nullptr;
      return;
    }
    kind = Kind::pod;
    pod = pod::read_variables(own);
    if (speaks(pod)) return;
    pod = pod::read_variables(*first);
    is_first = true;
    if (speaks(pod)) return;
    is_first = false;
    kind = is_pods ? Kind::variables : Kind::nobody;
  }
  Speaker(const Speaker&) = delete;
  Speaker& operator=(const Speaker&) = delete;

  const settings::Environment& environment() const {
    return is_first ? static_cast<const settings::Environment&>(*first) : own;
  }
  TenantId tenant_id() const {
    if (kind == Kind::pod) {
      const TenantId named = pod::tenant_id(pod);
      if (!named.empty()) return named;
      return id != nullptr ? TenantId(id) : pod_tenant_id();
    }
    return id != nullptr ? TenantId(id) : bare_tenant_id();
  }

  ProcessEnvironment own;
  std::optional<FirstProcessEnvironment> first;
  bool is_first = false;
  Kind kind = Kind::nobody;
  const char* id = nullptr;  // VGPU_TENANT, as far as it means something
  pod::Variables pod;
};

bool is_deserted(const shm::Tenant& tenant) {
  shm::ProcessView one[1];
  return tenant.processes(one) == 0;
}

}  // namespace

FixedString<shm::kMaxName> bare_tenant_id() {
  const FirstProcessEnvironment first;
  if (getpid() == 1 || (first.available() && settings::any_limit_set(first)))
    return container_id("");
  return random_id("t-");
}

FixedString<shm::kMaxName> pod_tenant_id() {
  const FirstProcessEnvironment first;
  if (getpid() == 1 || (first.available() && pod::read_variables(first).speaks()))
    return container_id(pod::kTenantIdPrefix);
  return random_id(pod::kTenantIdPrefix);
}

namespace {

GpuInventory list_gpus() {
  GpuInventory inventory;
  auto& why = inventory.why;
  const driver::NvmlDispatch& nvml = real_nvml();
  if (nvml.nvmlInit_v2 == nullptr || nvml.nvmlDeviceGetCount_v2 == nullptr ||
      nvml.nvmlDeviceGetHandleByIndex_v2 == nullptr || nvml.nvmlDeviceGetUUID == nullptr ||
      nvml.nvmlDeviceGetMemoryInfo == nullptr) {
    why.append("limits need libnvidia-ml.so.1 to tell the GPUs apart, and it can't be opened");
    return inventory;
  }
  nvmlReturn_t result = nvml.nvmlInit_v2();
  unsigned int count = 0;
  if (result == NVML_SUCCESS) result = nvml.nvmlDeviceGetCount_v2(&count);
  for (unsigned int i = 0; result == NVML_SUCCESS && i < count; ++i) {
    nvmlDevice_t device = nullptr;
    char text[96] = "";
    nvmlMemory_t memory{};
    result = nvml.nvmlDeviceGetHandleByIndex_v2(i, &device);
    // GPUs that this process may not touch are counted but can't be asked.
    if (result == NVML_ERROR_NO_PERMISSION || result == NVML_ERROR_GPU_IS_LOST) {
      result = NVML_SUCCESS;
      continue;
    }
    if (result == NVML_SUCCESS) result = nvml.nvmlDeviceGetUUID(device, text, sizeof(text));
    if (result == NVML_SUCCESS) result = nvml.nvmlDeviceGetMemoryInfo(device, &memory);
    if (result != NVML_SUCCESS) break;
    const auto uuid = GpuUuid::parse(text);
    if (!uuid.has_value()) continue;
    shm::TenantGpu gpu;
    gpu.uuid = *uuid;
    gpu.nvml_index = i;
    gpu.total_bytes = memory.total;
    if (!inventory.gpus.push_back(gpu)) {
      why.append("more GPUs than the ")
          .append_number(shm::kMaxGpus)
          .append(" that a tenant can have");
      return inventory;
    }
  }
  if (result != NVML_SUCCESS) {
    why.append("NVML can't list the GPUs (error ")
        .append_number(static_cast<std::uint64_t>(result))
        .append(")");
  }
  return inventory;
}

}  // namespace

GpuInventory take_inventory() {
  GpuInventory inventory = list_gpus();
  const Speaker speaker;
  if (speaker.kind == Speaker::Kind::pod && inventory.why.empty())
    inventory.pod = find_pod_limits(speaker.pod);
  return inventory;
}

namespace {

// Where no variable sets a limit the node's daemon may know better, also what a pod's tenant is.
Membership membership_of(const Speaker& speaker) {
  Membership membership;
  if (speaker.kind == Speaker::Kind::variables) return membership;
  membership = ask_for_membership();
  const bool may_be_old =
      membership.answer == Membership::Answer::nobody && speaker.kind == Speaker::Kind::nobody;
  if (!may_be_old) return membership;
  const Membership last = last_membership();
  if (last.answer != Membership::Answer::joined && !membership.why.empty())
    say(membership.why.view());
  return last;
}

}  // namespace

Phase Birth::of(Limiter& limiter, const GpuInventory* inventory, int tries) {
  const Speaker speaker;
  const Membership membership = membership_of(speaker);
  const bool by_daemon = membership.answer == Membership::Answer::joined;
  if (membership.answer == Membership::Answer::refused)
    return give_up(speaker.own, {membership.why.view()});
  if (speaker.kind == Speaker::Kind::nobody && !by_daemon) return Phase::unlimited;
  const bool in_pod = speaker.kind == Speaker::Kind::pod && !by_daemon;
  const bool has_id = speaker.kind == Speaker::Kind::variables && speaker.id != nullptr;
  const settings::Environment& environment = speaker.environment();
  const TenantId id = by_daemon ? membership.id : speaker.tenant_id();
  if (id.truncated()) {
    Reason reason("VGPU_TENANT=\"");
    return give_up(
        environment,
        {reason.append(id.view()).append("...\": longer than a tenant's name can be").view()});
  }
  const char* acknowledge = speaker.own.get("VGPU_ACK");
  const bool is_of_run = has_id && acknowledge != nullptr && std::strcmp(acknowledge, "1") == 0;
  const bool must_exist = is_of_run || by_daemon;

  const shm::StateDir directory = by_daemon ? membership.directory : shm::state_dir(own_variable);
  limiter.directory_ = directory;
  shm::Status status = directory.error == 0
                           ? shm::Tenant::open(directory, id.view(), limiter.tenant_)
                           : shm::Status::unavailable;
  // Nobody is in it, and what the pod's limits were then may be old. Only at the first look:
  // another process that makes it anew meanwhile isn't in it yet.
  if (in_pod && inventory == nullptr && status == shm::Status::ok) {
    limiter.tenant_.reap();
    if (is_deserted(limiter.tenant_)) {
      limiter.tenant_ = shm::Tenant();
      if (shm::Tenant::remove(directory, id.view()) == shm::Status::ok)
        status = shm::Status::not_found;
      else
        status = shm::Tenant::open(directory, id.view(), limiter.tenant_);
    }
  }
  if (status == shm::Status::not_found && !must_exist && has_id &&
      !settings::any_limit_set(environment)) {
    return give_up(environment, {tenant_reason(id.view(), status, 0).view()});
  }
  if ((status == shm::Status::not_found || status == shm::Status::unavailable) && !must_exist) {
    if (inventory == nullptr) return Phase::unstarted;
    if (!inventory->why.empty()) return give_up(environment, {inventory->why.view()});
    shm::TenantSpec spec;
    settings::Messages messages;
    if (!make_spec(environment, id.view(), *inventory, spec, messages))
      return give_up(environment, messages);
    if (in_pod) {
      if (!inventory->pod.has_value())
        return give_up(environment, {"the program changed its environment while it was read"});
      const PodFindings& found = *inventory->pod;
      Reason why;
      if (found.limits.gpus.empty())
        why.append("the pod's limits aren't known: ").append(found.why.view());
      if (!found.limits.gpus.empty()) why = put_pod_limits(found.limits, speaker.pod, spec);
      if (!why.empty()) return give_up(environment, {why.view()});
      if (!speaker.pod.unread.empty()) {
        settings::Line line(speaker.pod.unread);
        messages.notices.push_back(
            line.append(" is no time as in 30s or 1m 30s: the default holds"));
      }
      if (found.limits.has_tflops && !found.limits.has_compute)
        messages.notices.push_back(
            settings::Line("the pod's limit in TFLOPS is not enforced: what the GPU has of them "
                           "isn't known here"));
    }
    const bool shared = status == shm::Status::not_found;
    if (shared) remove_abandoned(directory);
    status =
        shared ? shm::Tenant::create(directory, spec, limiter.tenant_) : shm::Status::unavailable;
    const bool made = status == shm::Status::ok;
    if (status == shm::Status::exists)
      status = shm::Tenant::open(directory, id.view(), limiter.tenant_);
    if (status == shm::Status::unavailable) {
      Reason line("no usable state directory (");
      line.append(directory.path.view()).append("): the limit binds this process alone");
      say(line.view());
      status = shm::Tenant::create_private(spec, limiter.tenant_);
    }
    if (made) {
      if (in_pod && inventory->pod->from_daemon)
        limiter.tenant_.take_question(platform::monotonic_ns(), 0);
      for (const settings::Line& notice : messages.notices) say(notice.view());
    }
  }
  if (status == shm::Status::ok) status = limiter.tenant_.join();
  // A tenant that others may remove; the daemon names it anew.
  if (status == shm::Status::not_found && !is_of_run && tries > 0)
    return of(limiter, inventory, tries - 1);
  if (status != shm::Status::ok) {
    return give_up(environment, {tenant_reason(id.view(), status, directory.error).view()});
  }

  const shm::TenantSpec spec = limiter.tenant_.spec();
  if (!spec.made_by_run && !by_daemon) {
    const settings::HookSwitches switches = settings::hook_switches(environment);
    limiter.hooks_cuda_ = switches.cuda;
    limiter.hooks_nvml_ = switches.nvml;
  }
  if (in_pod && !spec.made_by_run) PodFollower::get().begin(speaker.pod, limiter.tenant_);
  Reason line("tenant.joined id=");
  log(LogLevel::info, "VG2001", line.append(id.view()).view());
  return Phase::limited;
}

}  // namespace vgpu::limiter
