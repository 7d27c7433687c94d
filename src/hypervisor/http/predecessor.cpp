// SPDX-License-Identifier: Apache-2.0
#include "predecessor.h"

#include <fmt/format.h>

#include <charconv>
#include <memory>

#include "node_state_json.h"
#include "vgpu/platform/clock.h"

namespace vgpu::hypervisor::http {
namespace {

constexpr std::uint64_t kNsPerMs = 1'000'000;
// NVML is asked once a second and its errors back off; segments are read ten times a second.
constexpr std::uint64_t kStaleSample_ns = 10'000 * kNsPerMs;
constexpr std::uint64_t kStaleSegments_ns = 2'000 * kNsPerMs;

bool is_older(const std::optional<std::uint64_t>& read_ns, std::uint64_t now, std::uint64_t age) {
  return !read_ns || now > *read_ns + age;
}

Answer plain_text(int status, std::string text) {
  Answer answer;
  answer.status = status;
  answer.type = "text/plain; charset=utf-8";
  answer.body = std::move(text);
  return answer;
}

Answer with_body(std::string body) {
  Answer answer;
  answer.body = std::move(body);
  return answer;
}

std::string failure(const std::string& message) {
  return dumped({{"success", false}, {"data", nullptr}, {"message", message}});
}

const char* qos_of(Priority priority) {
  switch (priority) {
    case Priority::low:
      return "Low";
    case Priority::normal:
      return "Medium";
    case Priority::high:
      return "High";
  }
  return "Medium";
}

std::string no_tenant(const PodIdentity& pod) {
  return fmt::format("pod {} of namespace {} isn't a tenant of this node", pod.name,
                     pod.name_space);
}

Answer not_done(const char* why) { return problem(501, "not_implemented", why); }

}  // namespace

std::string not_ready(const NodeState& state, std::uint64_t now) {
  if (!state.driver.available) return "no driver: " + state.driver.why;
  if (is_older(state.segments_read_ns, now, kStaleSegments_ns))
    return "tenants haven't been read for more than 2 s";
  if (is_older(state.processes_read_ns, now, kStaleSample_ns))
    return "NVML hasn't answered for more than 10 s";
  if (!state.hosts_arbiter) return "another process hosts the arbiter";
  return "";
}

const TenantState* tenant_of(const NodeState& state, const PodIdentity& pod,
                             const std::vector<DeclaredPod>& declared) {
  std::string name = pod.name_space + "." + pod.name;  // a namespace has no dots
  for (const auto& one : declared) {
    if (one.name_space == pod.name_space && one.name == pod.name) name = one.tenant;
  }
  return state.tenant_for_pods(name);
}

std::string pod_body(const NodeState& state, const PodIdentity& pod,
                     const std::vector<DeclaredPod>& declared) {
  const TenantState* tenant = tenant_of(state, pod, declared);
  if (tenant == nullptr) return failure(no_tenant(pod));
  if (tenant->gpus.empty()) return failure("the tenant has no GPU");
  Json gpus = Json::array();
  Json quotas = Json::array();
  for (const auto& gpu : tenant->gpus) {
    gpus.push_back(gpu.uuid_text());
    quotas.push_back({{"uuid", gpu.uuid_text()}, {"quota", quota_json(gpu.quota)}});
  }
  // The predecessor knows one limit for all GPUs of a pod; its limiter reads the shared memory
  // for more, ours what stands under `vgpu`. Null TFLOPS it takes for "not limited by this".
  const Quota& quota = tenant->gpus.front().quota;
  const GpuState* const gpu = state.gpu(tenant->gpus.front().gpu);
  const bool has_tflops = gpu != nullptr && gpu->fp16_tflops && quota.compute_limit_percent != 0;
  const Json data = {
      {"pod_name", pod.name},
      {"namespace", pod.name_space},
      {"gpu_uuids", gpus},
      {"tflops_limit",
       has_tflops ? Json(*gpu->fp16_tflops * quota.compute_limit_percent / 100) : Json(nullptr)},
      {"vram_limit", quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)},
      {"qos_level", qos_of(quota.priority)},
      {"compute_shard", false},
      {"isolation", "soft"},
      {"vgpu", {{"gpus", quotas}}}};
  return dumped({{"success", true}, {"data", data}, {"message", "Pod information retrieved"}});
}

std::string process_body(Control& control, const PodIdentity& pod,
                         const std::vector<DeclaredPod>& declared,
                         const std::string& container_name, std::uint32_t container_pid) {
  const StatePointer state = control.state();
  const TenantState* tenant = tenant_of(*state, pod, declared);
  if (tenant == nullptr) return failure(no_tenant(pod));
  std::optional<pid_t> host_pid;
  for (const auto& process : state->processes) {
    if (process.tenant != tenant->id || !process.host_pid ||
        process.limiter == LimiterPresence::predecessor ||
        static_cast<std::uint32_t>(process.own_pid) != container_pid)
      continue;
    if (host_pid)
      return failure(fmt::format("several processes of the pod have the pid {} in their containers",
                                 container_pid));
    host_pid = process.host_pid;
  }
  if (!host_pid) {
    // It has no slot of ours: the pod's limiter may be the predecessor's.
    const Outcome<FoundProcess> outcome = control.found_in_pod(
        {pod.name_space, pod.name, pod.uid, static_cast<pid_t>(container_pid)});
    if (!outcome.ok())
      return failure(
          fmt::format("no process of the pod is known by the pid {} in its container: {}",
                      container_pid, outcome.refusal().what));
    host_pid = outcome.value().host_pid;
  }
  return dumped({{"success", true},
                 {"data",
                  {{"host_pid", *host_pid},
                   {"container_pid", container_pid},
                   {"container_name", container_name},
                   {"pod_name", pod.name},
                   {"namespace", pod.name_space}}},
                 {"message", "Process found"}});
}

void add_predecessor_routes(Router& router, Control& control, std::vector<DeclaredPod> declared) {
  const auto pods = std::make_shared<const std::vector<DeclaredPod>>(std::move(declared));
  router.add({"GET", "/healthz", Access::open, [](const Ask&) { return plain_text(200, "ok"); }});
  router.add({"GET", "/readyz", Access::open, [&control](const Ask&) {
                const std::string why = not_ready(*control.state(), platform::realtime_ns());
                return why.empty() ? plain_text(200, "ok") : plain_text(503, why + "\n");
              }});
  router.add({"GET", "/api/v1/pod", Access::self, [&control, pods](const Ask& ask) {
                return with_body(pod_body(*control.state(), *ask.caller.pod, *pods));
              }});
  router.add({"POST", "/api/v1/process", Access::self, [&control, pods](const Ask& ask) {
                const auto name = ask.parameter("container_name");
                const std::string digits = ask.parameter("container_pid").value_or("");
                std::uint32_t pid = 0;
                const auto parsed =
                    std::from_chars(digits.data(), digits.data() + digits.size(), pid);
                if (!name || digits.empty() || parsed.ec != std::errc{} ||
                    parsed.ptr != digits.data() + digits.size())
                  return problem(400, "bad_request",
                                 "container_name and a numeric container_pid are needed");
                return with_body(process_body(control, *ask.caller.pod, *pods, *name, pid));
              }});
  constexpr const char* kNoTraps =
      "traps aren't handled: a call beyond the memory limit fails at once, as the driver's would";
  constexpr const char* kNoCommands =
      "limiters take no commands from here: they follow the quotas in shared memory";
  for (const char* path : {"/api/v1/trap", "/api/v1/limiter/result"}) {
    const char* why = std::string_view(path) == "/api/v1/trap" ? kNoTraps : kNoCommands;
    router.add({"POST", path, Access::open, [why](const Ask&) { return not_done(why); }});
  }
  router.add({"GET", "/api/v1/limiter/events/{client}", Access::open,
              [](const Ask&) { return not_done(kNoCommands); }});
}

}  // namespace vgpu::hypervisor::http
