// SPDX-License-Identifier: Apache-2.0
#include "apply.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "http/listener.h"

namespace vgpu::hypervisor::settings {
namespace {

GuardPolicy policy_of(const std::string& word) {
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

GpuCapacity capacity_of(const std::string& path) {
  return path.empty() ? GpuCapacity() : GpuCapacity::load(path);
}

}  // namespace

void check_meaning(Loaded& loaded) {
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
  if (values.api_tls_certificate.empty() != values.api_tls_key.empty()) {
    std::string_view given = "api.tls-certificate", missing = "api.tls-key";
    if (!values.api_tls_key.empty()) std::swap(given, missing);
    fault(loaded, given,
          fmt::format("{} is needed beside it", name_beside(loaded, missing, given)));
  }
  if (values.usage_file.empty()) {
    for (const char* key : {"usage-log.format", "usage-log.pool", "usage-log.gpu-info"}) {
      // Variables are set for all programs of a machine; who writes them elsewhere means them.
      const Source source = origin_of(loaded, key).source;
      if (source == Source::flag || source == Source::file)
        fault(loaded, key,
              fmt::format("says something only beside {}",
                          name_beside(loaded, "usage-log.file", key)));
    }
  }
  try {
    capacity_of(values.usage_gpu_info);
  } catch (const CapacityError& reason) {
    fault(loaded, "usage-log.gpu-info", reason.what);
  }
  if (wide && values.api_tls_certificate.empty()) {
    fault(loaded, "api.listen",
          fmt::format("an address beyond loopback needs {} and {}",
                      name_beside(loaded, "api.tls-certificate", "api.listen"),
                      name_beside(loaded, "api.tls-key", "api.listen")));
  }
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
  HttpOptions& http = options.http;
  http.listen = values.api_listen;
  http.listen_is_default = origin_of(loaded, "api.listen").source == Source::fallback;
  http.socket = values.api_socket;
  http.tls_certificate_file = values.api_tls_certificate;
  http.tls_key_file = values.api_tls_key;
  http.token_key_file = values.api_token_key;
  http.token_jwks_file = values.api_token_jwks;
  http.token_audience = values.api_token_audience;
  http.token_issuer = values.api_token_issuer;
  http.open_reads = values.api_open_reads;
  http.requests_per_second = static_cast<double>(values.api_requests);
  http.connections = static_cast<std::uint32_t>(values.api_connections);
  if (!values.usage_file.empty()) {
    options.usage_log = {
        values.usage_file,
        values.usage_format == "json" ? UsageFormat::json : UsageFormat::influx,
        static_cast<unsigned>(values.usage_batch),
        values.usage_pool,
        capacity_of(values.usage_gpu_info),
    };
  }
  for (const Pod& pod : values.pods) http.pods.push_back({pod.name_space, pod.name, pod.tenant});
  return options;
}

}  // namespace vgpu::hypervisor::settings
