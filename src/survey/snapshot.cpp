// SPDX-License-Identifier: Apache-2.0
// Reading a snapshot; see snapshot.h.
#include "vgpu/survey/snapshot.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <set>

#include "vgpu/platform/clock.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/process_tree.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::survey {
namespace {

bool is_called(const std::string& only, const shm::TenantSpec& spec) {
  return spec.id.view().starts_with(only) || spec.name.view().starts_with(only);
}

void read_tenants(const shm::StateDir& dir, Snapshot& snapshot) {
  std::vector<std::string> skipped;
  for (auto& known : known_tenants(dir, skipped)) {
    if (known.stale) {
      // What a killed keeper left behind.
      if (auto hold = TenantHold::acquire(dir, known.spec.id.view())) hold->end(dir, known.tenant);
      continue;
    }
    ListedTenant listed;
    listed.spec = known.spec;
    for (std::uint32_t gpu = 0; gpu < known.tenant.gpu_count(); ++gpu) {
      listed.charged_bytes.push_back(known.tenant.charged_bytes(gpu));
      listed.denied.push_back(known.tenant.denied_count(gpu));
    }
    listed.charged_bytes.resize(listed.spec.gpus.size());
    listed.denied.resize(listed.spec.gpus.size());
    listed.processes = processes_of(known.tenant);
    std::erase_if(listed.processes, [](const auto& process) { return process.pid == getpid(); });
    snapshot.tenants.push_back(std::move(listed));
  }
  for (const auto& line : skipped) snapshot.notes.push_back("tenant " + line);
}

void find_outsiders(Snapshot& snapshot) {
  PidTranslator translator;
  std::set<std::uint32_t> limited{static_cast<std::uint32_t>(getpid())};
  for (const auto& tenant : snapshot.tenants) {
    for (const auto& process : tenant.processes)
      limited.insert(
          static_cast<std::uint32_t>(translator.outer_pid(process.pid_namespace, process.pid)));
  }
  for (const auto& gpu : snapshot.driver.gpus) {
    for (const auto& process : gpu.processes) {
      if (limited.count(process.pid) != 0) continue;
      // It ended meanwhile, and its tenant knows it no more.
      const auto pid = static_cast<pid_t>(process.pid);
      if (pid != 0 && kill(pid, 0) != 0 && errno == ESRCH) continue;
      snapshot.outsiders[gpu.uuid].push_back(
          {process.pid, program_name(pid), process.used_bytes, limiter_of(process.pid)});
    }
  }
}

}  // namespace

Limiter limiter_of(std::uint32_t pid) {
  if (pid == 0) return Limiter::unknown;
  const auto id = static_cast<pid_t>(pid);
  if (has_mapped(id, "libcuda_limiter.so")) return Limiter::present;
  // Every process has its program mapped: if not even that shows, the list can't be read.
  return has_mapped(id, "/") ? Limiter::absent : Limiter::unknown;
}

std::optional<std::size_t> own_gpu(const shm::TenantSpec& spec, const GpuUuid& uuid) {
  for (std::size_t i = 0; i < spec.gpus.size(); ++i) {
    if (spec.gpus[i].in_set && spec.gpus[i].uuid == uuid) return i;
  }
  return std::nullopt;
}

std::string read_seats(const shm::StateDir& dir, std::uint64_t now_ns, Snapshot& snapshot) {
  shm::Node node;
  const shm::Status status = shm::Node::look(dir, node);
  if (status == shm::Status::not_found || dir.error != 0) return "";  // nobody has used a GPU yet
  if (status != shm::Status::ok) return status_text(status);
  node.reap();
  snapshot.launches_are_stopped =
      !node.is_daemons() && node.plan().policy == shm::OnDaemonLoss::stop;
  for (std::uint32_t seat = 0; seat < node.seats(); ++seat) {
    shm::SeatFacts facts;
    if (node.facts(seat, now_ns, facts)) snapshot.seats.push_back(facts);
  }
  return "";
}

void measure_lone_seats(Snapshot& snapshot) {
  for (auto& seat : snapshot.seats) {
    if (!seat.is_alone) continue;
    const auto& gpus = snapshot.driver.gpus;
    const auto gpu = std::find_if(gpus.begin(), gpus.end(),
                                  [&](const Gpu& each) { return each.uuid == seat.gpu; });
    if (gpu == gpus.end()) continue;
    if (!gpu->busy_percent) {
      snapshot.notes.push_back(fmt::format(
          "GPU {}: NVML doesn't say how busy it is, and the one process on it counts nothing",
          gpu->nvml_index));
      continue;
    }
    seat.seconds[0].work_ns = *gpu->busy_percent * std::uint64_t{10'000'000};
  }
}

Snapshot take_snapshot(bool simulated) {
  Snapshot snapshot;
  const shm::StateDir dir = state_directory(false);
  // Before the tenants: a process is one of a tenant's before the driver knows it, so whoever
  // begins in between isn't taken for an outsider.
  snapshot.driver = read_driver(find_installation(), simulated, true);
  read_tenants(dir, snapshot);
  snapshot.now_ns = platform::monotonic_ns();
  snapshot.seats_unreadable = read_seats(dir, snapshot.now_ns, snapshot);
  if (!snapshot.seats_unreadable.empty())
    snapshot.notes.push_back(fmt::format("node.seats: {}", snapshot.seats_unreadable));
  measure_lone_seats(snapshot);
  find_outsiders(snapshot);
  return snapshot;
}

bool is_called(const std::string& only, const Gpu& gpu) {
  if (only == std::to_string(gpu.nvml_index)) return true;
  const auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), GpuUuid::lower);
    return text;
  };
  const std::string wanted = lower(only), uuid = lower(gpu.uuid_text());
  return uuid.starts_with(wanted) || uuid.substr(4).starts_with(wanted);
}

void keep_only(Snapshot& snapshot, const std::string& only) {
  if (only.empty()) return;
  const auto named = [&](const auto& one) { return is_called(only, one); };
  auto& tenants = snapshot.tenants;
  auto& gpus = snapshot.driver.gpus;
  const auto spec_named = [&](const ListedTenant& tenant) { return named(tenant.spec); };
  const bool tenant_named = std::any_of(tenants.begin(), tenants.end(), spec_named);
  if (!tenant_named && std::none_of(gpus.begin(), gpus.end(), named)) {
    throw Problem(kExitFailed, "VG1022", fmt::format("no tenant and no GPU is called \"{}\"", only),
                  "vgpu ls");
  }
  if (!tenant_named) {
    std::erase_if(gpus, [&](const Gpu& gpu) { return !named(gpu); });
    return;
  }
  std::erase_if(tenants, [&](const ListedTenant& tenant) { return !spec_named(tenant); });
  snapshot.outsiders.clear();
  std::erase_if(gpus, [&](const Gpu& gpu) {
    return std::none_of(tenants.begin(), tenants.end(), [&](const ListedTenant& tenant) {
      return own_gpu(tenant.spec, gpu.uuid).has_value();
    });
  });
}

}  // namespace vgpu::survey
