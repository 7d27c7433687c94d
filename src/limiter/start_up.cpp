// SPDX-License-Identifier: Apache-2.0
// What happens in every program that this library is preloaded into, GPU or not: the constructor
// gives a tenant by bare variables (or by a pod's that has no name) its identity, and tells the
// tenant of a `vgpu run` that the library is here. No driver call, no thread, no signal, nothing
// written.
#include <unistd.h>

#include <cstring>

#include "birth.h"
#include "environment.h"
#include "limiter.h"
#include "vgpu/pod/variables.h"
#include "vgpu/settings/settings.h"
#include "vgpu/shm/tenant.h"

extern char** environ;

namespace vgpu::limiter {
namespace {

bool is_set(const char* value) { return value != nullptr && *value != '\0'; }

void name_tenant(const FixedString<shm::kMaxName>& id) {
  static char entry[kTenantEntryBytes] = "VGPU_TENANT=";  // `environ` refers to it for good
  std::strcpy(entry + std::strlen(entry), id.c_str());
  add_to_environment(entry);
}

void acknowledge(const char* id) {
  shm::Tenant tenant;
  const shm::StateDir directory = shm::state_dir(own_variable);
  if (directory.error == 0 && shm::Tenant::open(directory, id, tenant) == shm::Status::ok)
    tenant.acknowledge();
}

__attribute__((constructor)) void at_load() {
  const char* id = own_variable("VGPU_TENANT");
  if (!is_set(id) || pod::is_tenant_id(id)) {
    if (settings::any_limit_set(environ)) {
      name_tenant(bare_tenant_id());
    } else if (!is_set(id) && pod::is_pod_without_name(environ)) {
      name_tenant(pod_tenant_id());
    }
    return;
  }
  const char* wanted = own_variable("VGPU_ACK");
  if (wanted != nullptr && std::strcmp(wanted, "1") == 0) acknowledge(id);
}

__attribute__((destructor)) void at_exit() { Limiter::stop(); }

}  // namespace
}  // namespace vgpu::limiter
