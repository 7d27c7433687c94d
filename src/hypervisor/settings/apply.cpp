// SPDX-License-Identifier: Apache-2.0
#include "apply.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "http/auth.h"
#include "http/listener.h"
#include "http/wire.h"
#include "predecessor/pod_reading.h"
#include "predecessor/scheduling.h"
#include "state_directories.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor::settings {
namespace {

GuardPolicy policy_of(const std::string& word) {
  if (word == "stop-admitting") return GuardPolicy::stop_admitting;
  if (word == "signal") return GuardPolicy::signal;
  if (word == "kill") return GuardPolicy::kill;
  return GuardPolicy::report;
}

std::size_t index_of(std::string_view key) {
  const auto all = rows();
  const auto row =
      std::find_if(all.begin(), all.end(), [&](const Row& one) { return one.key == key; });
  return static_cast<std::size_t>(row - all.begin());
}

const Origin& origin_of(const Loaded& loaded, std::string_view key) {
  return loaded.origins.at(index_of(key));
}

// The setting `key` as whoever gave `beside` would write it: as a flag, a variable or a key.
std::string_view name_beside(const Loaded& loaded, std::string_view key, std::string_view beside) {
  const Row& row = rows()[index_of(key)];
  const Source source = origin_of(loaded, beside).source;
  if (source == Source::flag) return row.flag;
  if (source == Source::variable && !row.variable.empty()) return row.variable;
  return row.key;
}

void fault(Loaded& loaded, std::string_view key, const std::string& what) {
  Place place = origin_of(loaded, key).place;
  if (place.name.empty()) place.name = std::string(key);
  loaded.faults.push_back({place, place.line == 0 ? what : fmt::format("{}: {}", key, what)});
}

// Nobody gave it: nothing that could say it is unread.
bool is_known_absent(const Loaded& loaded, std::string_view key) {
  return !loaded.is_partial && !origin_of(loaded, key).is_unread;
}

// Of a setting that has no effect without `needed`, which isn't given. Variables are set for all
// programs of a machine; who writes it elsewhere means it.
void fault_alone(Loaded& loaded, std::string_view key, std::string_view needed) {
  const Source source = origin_of(loaded, key).source;
  if (source != Source::flag && source != Source::file) return;
  fault(loaded, key,
        fmt::format("says something only beside {}", name_beside(loaded, needed, key)));
}

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

constexpr std::size_t kNameServiceBytes = 64 * 1024;  // a large group's members fit

std::optional<gid_t> group_of(const std::string& name) {
  if (const auto number = number_in<gid_t>(name)) return number;
  std::vector<char> buffer(kNameServiceBytes);
  group entry{}, *found = nullptr;
  getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->gr_gid);
}

std::optional<uid_t> user_of(const std::string& name) {
  if (const auto number = number_in<uid_t>(name)) return number;
  std::vector<char> buffer(kNameServiceBytes);
  passwd entry{}, *found = nullptr;
  getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->pw_uid);
}

// nullopt with `is_right`: an equal part.
std::optional<std::uint8_t> allowance_of(const std::string& text, bool& is_right) {
  is_right = text == "equal";
  const auto number = number_in<std::uint8_t>(text);
  if (!number || *number > 100) return std::nullopt;
  is_right = true;
  return number;
}

class NoVariables final : public vgpu::settings::Environment {
 public:
  const char* get(const char* /*name*/) const override { return nullptr; }
};

survey::QuotaFlags quota_of(const Rule& rule) {
  survey::QuotaFlags quota;
  quota.memory = rule.memory;
  quota.compute = rule.compute;
  quota.compute_limit = rule.compute_limit;
  quota.policy = rule.policy;
  quota.priority = rule.priority;
  return quota;
}

TflopsQuota tflops_of(const Rule& rule) { return {rule.tflops, rule.tflops_limit}; }

// What is wrong with a rule; empty: nothing. `has_table`: of GPU models.
std::string fault_in(const Rule& rule, bool has_table) {
  if (rule.user.empty() && rule.cgroup.empty() && rule.container.empty() && !rule.is_partial)
    return "a rule without a match: user, cgroup or container";
  const std::array quantities = {&rule.memory,  &rule.compute,      &rule.compute_limit,
                                 &rule.tflops,  &rule.tflops_limit, &rule.policy,
                                 &rule.priority};
  const auto has = [](auto says) {
    return [says](const std::string* text) { return says(*text); };
  };
  if (!rule.is_partial && std::all_of(quantities.begin(), quantities.end(),
                                      has([](const std::string& text) { return text.empty(); })))
    return "a rule without a quota";
  if (std::any_of(quantities.begin(), quantities.end(),
                  has([](const std::string& text) { return text.find('=') != std::string::npos; })))
    return "a rule's quota is for all GPUs; GPU=VALUE has no place in it";
  if (!rule.user.empty() && !user_of(rule.user))
    return fmt::format("there is no user {}", rule.user);
  if (!rule.cgroup.empty() && rule.cgroup.front() != '/')
    return fmt::format("{} is no path of a control group", rule.cgroup);
  const TflopsQuota tflops = tflops_of(rule);
  survey::QuotaFlags quota = quota_of(rule);
  if (std::string why = vgpu::hypervisor::fault_in(tflops, quota, {true, ""}); !why.empty())
    return why;
  if (tflops.is_given() && !has_table)
    return "a quota in TFLOPS says something only beside gpu-info, or give percent";
  // Whatever part of a GPU they are.
  if (!tflops.share.empty()) quota.compute = "1";
  if (!tflops.limit.empty()) quota.compute_limit = "100";
  try {
    survey::Driver any;
    any.available = true;
    any.gpus.emplace_back().total_bytes = std::uint64_t{1} << 50;  // no GPU has as much
    survey::TenantRequest request;
    static_cast<survey::QuotaFlags&>(request) = quota;
    request.program = "rule";
    (void)survey::plan_tenant(request, any, NoVariables(), vgpu::Source::daemon);
  } catch (const survey::Problem& problem) {
    return problem.what;
  }
  return "";
}

AdmissionOptions admission_of(const Values& values) {
  AdmissionOptions admission;
  admission.placement =
      values.placement == "spread" ? admission::Placement::spread : admission::Placement::binpack;
  bool unused = false;
  admission.rules = {values.oversubscribe_memory, values.oversubscribe_compute,
                     allowance_of(values.authority_allowance, unused)};
  if (!values.authority_group.empty()) admission.trusted_group = group_of(values.authority_group);
  for (const Rule& rule : values.rules) {
    const auto user = rule.user.empty() ? std::nullopt : user_of(rule.user);
    admission.quota_rules.push_back(
        {rule.name, user, rule.cgroup, rule.container, quota_of(rule), tflops_of(rule)});
  }
  return admission;
}

// Root's, that isn't told which directories to look after.
bool is_of_the_machine(const std::vector<std::string>& directories) {
  return directories == std::vector<std::string>{"auto"} && geteuid() == 0 &&
         std::getenv("VGPU_STATE_DIR") == nullptr;
}

std::vector<std::string> users_directories(const std::vector<std::string>& typed) {
  if (is_of_the_machine(typed)) return {std::begin(kUsersDirectories), std::end(kUsersDirectories)};
  if (typed == std::vector<std::string>{"own"} || typed == std::vector<std::string>{"auto"})
    return {};
  return typed;
}

shm::OnDaemonLoss on_loss_of(const std::string& word) {
  if (word == "open") return shm::OnDaemonLoss::open;
  return word == "stop" ? shm::OnDaemonLoss::stop : shm::OnDaemonLoss::hold;
}

// What stands in the way of keeping pods' files.
void check_kept_pods(Loaded& loaded) {
  const Values& values = loaded.values;
  if (values.pod_files_base.front() != '/') {
    fault(loaded, "pod-files.base-path",
          fmt::format("\"{}\" is no absolute path", values.pod_files_base));
  }
  std::map<std::string, const Pod*> by_tenant;
  for (const Pod& pod : values.pods) {
    if (pod.is_partial) continue;
    try {
      (void)pod_file_path(values.pod_files_base, pod.name_space, pod.name);
    } catch (const std::invalid_argument& reason) {
      loaded.faults.push_back({pod.place, reason.what()});
    }
    const auto [other, is_first] = by_tenant.try_emplace(pod.tenant, &pod);
    if (!is_first) {
      loaded.faults.push_back(
          {pod.tenant_place,
           fmt::format("pod.tenant: pod {}/{} is tenant {} already, and each of two files would "
                       "give all that the tenant may have",
                       other->second->name_space, other->second->name, pod.tenant)});
    }
  }
  if (values.pods.empty())
    loaded.notices.push_back(
        fmt::format("{}: pod-files.base-path keeps no file: no [[pod]] is declared",
                    origin_of(loaded, "pod-files.base-path").place.text()));
}

void check_pods(Loaded& loaded) {
  const Values& values = loaded.values;
  const bool keeps_none =
      values.pod_files_base.empty() && is_known_absent(loaded, "pod-files.base-path");
  for (const Pod& pod : values.pods) {
    if (pod.user.empty()) continue;
    if (!user_of(pod.user))
      loaded.faults.push_back(
          {pod.user_place, fmt::format("pod.user: there is no user {}", pod.user)});
    if (keeps_none)
      loaded.faults.push_back(
          {pod.user_place, "pod.user: says something only beside pod-files.base-path"});
  }
  if (!values.pod_files_base.empty()) check_kept_pods(loaded);
  if (keeps_none) fault_alone(loaded, "pod-files.scheduling", "pod-files.base-path");
  try {
    Scheduling scheduling = parse_scheduling(values.pod_files_scheduling);
    if (!values.pod_files_base.empty())
      std::move(scheduling.notices.begin(), scheduling.notices.end(),
                std::back_inserter(loaded.notices));
  } catch (const SchedulingError& reason) {
    fault(loaded, "pod-files.scheduling", reason.what);
  }
}

void check_usage_log(Loaded& loaded) {
  if (!loaded.values.usage_file.empty() || !is_known_absent(loaded, "usage-log.file")) return;
  for (const char* key : {"usage-log.format", "usage-log.pool"})
    fault_alone(loaded, key, "usage-log.file");
  for (const Pod& pod : loaded.values.pods) {
    if (!pod.workload.empty())
      loaded.faults.push_back(
          {pod.workload_place, "pod.workload: says something only beside usage-log.file"});
  }
  // Its default in the predecessor, whose scripts may say it.
  const Origin& enabled = origin_of(loaded, "usage-log.enabled");
  if (loaded.values.usage_enabled && enabled.source != Source::fallback)
    loaded.notices.push_back(fmt::format(
        "{}: no usage log is written: {} says where, and isn't given", enabled.place.text(),
        name_beside(loaded, "usage-log.file", "usage-log.enabled")));
}

void check_authority(Loaded& loaded) {
  const Values& values = loaded.values;
  bool allowance_is_right = false;
  (void)allowance_of(values.authority_allowance, allowance_is_right);
  if (!allowance_is_right) {
    fault(loaded, "authority.allowance",
          fmt::format("\"{}\" is neither `equal` nor a percent from 0 to 100",
                      values.authority_allowance));
  }
  if (!values.authority_group.empty() && !group_of(values.authority_group)) {
    fault(loaded, "authority.group", fmt::format("there is no group {}", values.authority_group));
  }
  if (values.api_socket_access == "group" && values.authority_group.empty() &&
      is_known_absent(loaded, "authority.group"))
    fault(loaded, "api.socket-access", "authority.group is needed beside it");
}

// What `use` says is wrong with the file of that setting; false: something is, or there is none.
template <class Use>
bool check_file(Loaded& loaded, std::string_view key, const std::string& path, Use&& use) {
  if (path.empty()) return false;
  try {
    use();
    return true;
  } catch (const std::exception& reason) {
    fault(loaded, key, reason.what());
    return false;
  }
}

void check_readable(const std::string& path) {
  if (access(path.c_str(), R_OK) != 0)
    throw std::runtime_error(fmt::format("{}: {}", path, std::strerror(errno)));
}

void check_tls(Loaded& loaded) {
  const std::string certificate = loaded.values.api_tls_certificate;
  const std::string key = loaded.values.api_tls_key;
  if (certificate.empty() != key.empty()) {
    std::string_view given = "api.tls-certificate", missing = "api.tls-key";
    if (certificate.empty()) std::swap(given, missing);
    if (is_known_absent(loaded, missing))
      fault(loaded, given,
            fmt::format("{} is needed beside it", name_beside(loaded, missing, given)));
  }
  const bool has_certificate =
      check_file(loaded, "api.tls-certificate", certificate, [&] { check_readable(certificate); });
  const bool has_key = check_file(loaded, "api.tls-key", key, [&] { check_readable(key); });
  if (!has_certificate || !has_key) return;
  try {
    (void)http::TlsContext(certificate, key);
  } catch (const std::exception& reason) {
    const std::string what = reason.what();
    fault(loaded, what.starts_with(certificate + " ") ? "api.tls-certificate" : "api.tls-key",
          what);
  }
}

// Files are read as the daemon reads them: with what is wrong here it wouldn't start.
void check_api(Loaded& loaded) {
  const Values& values = loaded.values;
  bool wide = false;
  for (const std::string& text : values.api_listen) {
    if (text == "none" && values.api_listen.size() == 1) break;
    try {
      const http::ListenAddress address = http::parse_listen_address(text);
      wide = wide || (!address.host.empty() && !address.is_loopback());
    } catch (const std::exception& reason) {
      fault(loaded, "api.listen", reason.what());
    }
  }
  for (const std::string& text : values.api_pods_listen) {
    try {
      if (!http::parse_listen_address(text).host.empty()) continue;
    } catch (const std::exception&) {  // what it says would be right names sockets, too
    }
    fault(loaded, "api.pods-listen",
          text + ": an address and a port are needed, as 10.0.0.1:8002 or [fd00::1]:8002");
  }
  if (values.api_socket != "none")
    check_file(loaded, "api.socket", values.api_socket,
               [&] { (void)http::parse_listen_address(values.api_socket); });
  check_file(loaded, "api.token-key", values.api_token_key, [&] {
    http::TokenSettings tokens;
    tokens.key_file = values.api_token_key;
    const http::TokenVerifier read(tokens);
  });
  check_file(loaded, "api.token-jwks", values.api_token_jwks, [&] {
    http::TokenSettings tokens;
    tokens.jwks_file = values.api_token_jwks;
    const http::TokenVerifier read(tokens);
  });
  check_tls(loaded);
  if (wide && values.api_tls_certificate.empty() &&
      is_known_absent(loaded, "api.tls-certificate")) {
    fault(loaded, "api.listen",
          fmt::format("an address beyond loopback needs {} and {}",
                      name_beside(loaded, "api.tls-certificate", "api.listen"),
                      name_beside(loaded, "api.tls-key", "api.listen")));
  }
}

SocketAccess access_of(const std::string& word) {
  if (word == "group") return SocketAccess::group;
  return word == "all" ? SocketAccess::all : SocketAccess::owner;
}

GpuCapacity capacity_of(const std::string& path) {
  return path.empty() ? GpuCapacity() : GpuCapacity::load(path);
}

}  // namespace

void check_meaning(Loaded& loaded) {
  check_api(loaded);
  check_usage_log(loaded);
  check_pods(loaded);
  check_authority(loaded);
  const Values& values = loaded.values;
  for (const std::string& pattern : values.tenants_directories) {
    const bool is_word = pattern == "auto" || pattern == "own";
    if (is_word ? values.tenants_directories.size() != 1 : pattern.front() != '/')
      fault(loaded, "tenants.directories",
            fmt::format("{} is no absolute path, and no word that stands alone (auto, own)",
                        pattern));
  }
  try {
    capacity_of(values.gpu_info);
  } catch (const CapacityError& reason) {
    fault(loaded, "gpu-info", reason.what);
  }
  const bool has_table = !values.gpu_info.empty() || !is_known_absent(loaded, "gpu-info");
  for (const Rule& rule : values.rules) {
    if (std::string why = fault_in(rule, has_table); !why.empty())
      loaded.faults.push_back({rule.place, std::move(why)});
  }
  std::stable_sort(loaded.faults.begin(), loaded.faults.end(), [](const Fault& a, const Fault& b) {
    return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
  });
}

DaemonOptions options_of(const Loaded& loaded) {
  const Values& values = loaded.values;
  DaemonOptions options;
  options.node_name = values.node_name;
  options.simulated = values.simulated;
  options.unlimited_policy = policy_of(values.guard_unlimited);
  options.over_memory_policy = policy_of(values.guard_over_memory);
  options.guard_grace = values.guard_grace;
  options.exempt_programs = values.guard_exempt;
  options.over_memory_slack_bytes = values.guard_slack;
  options.users_directories = users_directories(values.tenants_directories);
  options.on_loss = on_loss_of(values.tenants_on_loss);
  if (origin_of(loaded, "api.socket").source != Source::fallback && values.api_socket != "none")
    options.quotas_folder =
        (std::filesystem::path(values.api_socket).parent_path() / "quotas").string();
  options.admission = admission_of(values);
  try {
    options.capacity = std::make_shared<const GpuCapacity>(capacity_of(values.gpu_info));
  } catch (const CapacityError& reason) {  // since it was checked
    throw survey::Problem(survey::kExitUsage, "VG2201", reason.what);
  }
  HttpOptions& http = options.http;
  http.listen = values.api_listen;
  http.listen_for_pods = values.api_pods_listen;
  http.listen_is_default = origin_of(loaded, "api.listen").source == Source::fallback;
  http.socket = values.api_socket;
  http.socket_access = access_of(values.api_socket_access);
  http.containers_are_users = values.authority_containers == "users";
  if (is_of_the_machine(values.tenants_directories)) {
    // Where every user's `vgpu` looks, and open to them: what each may change is judged by who
    // asks.
    if (origin_of(loaded, "api.socket").source == Source::fallback)
      http.default_socket = kMachineSocket;
    if (origin_of(loaded, "api.socket-access").source == Source::fallback)
      http.socket_access = SocketAccess::all;
  }
  http.socket_group = options.admission.trusted_group;
  http.tls_certificate_file = values.api_tls_certificate;
  http.tls_key_file = values.api_tls_key;
  http.token_key_file = values.api_token_key;
  http.token_jwks_file = values.api_token_jwks;
  http.token_audience = values.api_token_audience;
  http.token_issuer = values.api_token_issuer;
  http.open_reads = values.api_open_reads;
  http.requests_per_second = static_cast<double>(values.api_requests);
  http.connections = static_cast<std::uint32_t>(values.api_connections);
  if (!values.usage_file.empty() && values.usage_enabled) {
    options.usage_log = {
        values.usage_file,
        values.usage_format == "json" ? UsageFormat::json : UsageFormat::influx,
        static_cast<unsigned>(values.usage_batch),
        values.usage_pool,
        {},
    };
    for (const Pod& pod : values.pods)
      options.usage_log->pods.push_back({pod.tenant, pod.name_space, pod.name, pod.workload});
  }
  for (const Pod& pod : values.pods) http.pods.push_back({pod.name_space, pod.name, pod.tenant});
  if (!values.pod_files_base.empty()) {
    PodFilesOptions& files = options.pod_files.emplace();
    files.base_path = values.pod_files_base;
    files.supply = parse_scheduling(values.pod_files_scheduling).supply;
    for (const Pod& pod : values.pods) {
      files.pods.push_back({pod.name_space, pod.name, pod.tenant,
                            pod.user.empty() ? std::nullopt : user_of(pod.user)});
    }
  }
  return options;
}

}  // namespace vgpu::hypervisor::settings
