// SPDX-License-Identifier: Apache-2.0
// The variables by which tensor-fusion's operator tells a pod where its limits are. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "vgpu/base/fixed_string.h"
#include "vgpu/settings/settings.h"

namespace vgpu::pod {

struct Variables {
  FixedString<255> file;       // TF_SHM_PATH, else SHM_PATH/shm, else the usual place
  std::string_view file_from;  // which of them; empty: the usual place
  FixedString<253> host;       // HYPERVISOR_IP
  FixedString<8> port;         // HYPERVISOR_PORT
  FixedString<253> container, name, name_space;
  FixedString<255> token_file;
  std::uint64_t connect_ns = 0;
  std::uint64_t request_ns = 0;
  std::string_view unread;  // the first of the times that can't be read; its default holds

  // This is a pod of tensor-fusion, so that there have to be limits.
  bool speaks() const { return !file_from.empty() || !host.empty(); }
  // POD_NAME alone stands in many a pod: only a file in the usual place makes it one of those.
  bool may_speak() const { return speaks() || !name.empty(); }
  bool has_daemon() const { return !host.empty() && !port.empty(); }
};

Variables read_variables(const settings::Environment& environment);

// Whether one of `speaks()` is set and POD_NAME isn't, in one pass over an `environ`: processes of
// such a pod know each other by what they inherit.
bool is_pod_without_name(const char* const* entries);

// "30s", "1h 30m", "500ms", as the predecessor reads them. Pure.
bool parse_duration(std::string_view text, std::uint64_t& ns);

// "pod-..." of the pod that is named; empty where none is.
FixedString<63> tenant_id(const Variables& variables);
bool is_tenant_id(std::string_view id);
inline constexpr std::string_view kTenantIdPrefix = "pod-";
// NAMESPACE.POD, as far as it fits and a tenant's name may have it; empty where there is none.
FixedString<63> tenant_name(const Variables& variables);

}  // namespace vgpu::pod
