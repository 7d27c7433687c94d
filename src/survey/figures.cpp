// SPDX-License-Identifier: Apache-2.0
// Averages for figures.h.
#include "vgpu/survey/figures.h"

#include <algorithm>

#include "vgpu/survey/shares.h"

namespace vgpu::survey {
namespace {

constexpr double kSecondNs = 1e9;
constexpr double kPpmOfPercent = 10'000;

double percent_of_seconds(std::uint64_t ns, std::size_t seconds) {
  return 100.0 * static_cast<double>(ns) / (kSecondNs * static_cast<double>(seconds));
}

bool is_the_process(const shm::SeatFacts& seat, const shm::ProcessView& process) {
  return seat.pid == process.pid && seat.pid_namespace == process.pid_namespace;
}

std::vector<ProcessFigures> processes_on(const ListedTenant& tenant, std::size_t place,
                                         const std::vector<const shm::SeatFacts*>& seats) {
  std::vector<ProcessFigures> figures;
  for (const auto& process : tenant.processes) {
    ProcessFigures one{process.pid, std::string(process.program.view()),
                       process.charged_bytes[place], std::nullopt, std::nullopt};
    std::vector<const shm::SeatFacts*> own;
    std::copy_if(seats.begin(), seats.end(), std::back_inserter(own),
                 [&](const auto* seat) { return is_the_process(*seat, process); });
    if (!own.empty()) {
      one.use = use_of(own);
      one.got_1s = one.use->got_1s;
    }
    if (one.use || one.used_bytes != 0) figures.push_back(std::move(one));
  }
  return figures;
}

TenantFigures tenant_on(const Snapshot& snapshot, const ListedTenant& tenant, std::size_t place) {
  const shm::TenantGpu& gpu = tenant.spec.gpus[place];
  TenantFigures figures;
  figures.id = tenant.spec.id.view();
  figures.name = tenant.spec.name.view();
  figures.quota = gpu.quota;
  figures.used_bytes = tenant.charged_bytes[place];
  const auto seats = seats_of(snapshot, tenant.spec.id.view(), gpu.uuid);
  figures.use = use_of(seats);
  if (!seats.empty()) {
    double owed = 0;
    for (const auto* seat : seats) owed += seat->entitled_ppm / kPpmOfPercent;
    figures.owed = owed;
  }
  figures.processes = processes_on(tenant, place, seats);
  return figures;
}

GpuFigures figures_on(const Snapshot& snapshot, const Gpu& gpu) {
  GpuFigures figures;
  figures.gpu = gpu;
  for (const auto& tenant : snapshot.tenants) {
    if (const auto place = own_gpu(tenant.spec, gpu.uuid))
      figures.tenants.push_back(tenant_on(snapshot, tenant, *place));
  }
  for (const auto& tenant : figures.tenants) figures.got_1s += tenant.use.got_1s;
  const GpuShares shares = shares_on(snapshot, gpu.uuid);
  if (!shares.promises.empty()) figures.notes = share_notes(shares);
  if (const auto found = snapshot.outsiders.find(gpu.uuid); found != snapshot.outsiders.end())
    figures.outsiders = found->second;
  return figures;
}

}  // namespace

std::vector<const shm::SeatFacts*> seats_of(const Snapshot& snapshot, std::string_view tenant_id,
                                            const GpuUuid& gpu) {
  std::vector<const shm::SeatFacts*> seats;
  for (const auto& seat : snapshot.seats) {
    if (seat.gpu == gpu && seat.tenant.view() == tenant_id) seats.push_back(&seat);
  }
  return seats;
}

UseFigures use_of(const std::vector<const shm::SeatFacts*>& seats) {
  UseFigures use;
  use.history.resize(kRemembered);
  for (const auto* seat : seats) {
    for (std::size_t i = 0; i < kRemembered; ++i)
      use.history[i] += percent_of_seconds(seat->seconds[i].work_ns, 1);
    const shm::SeatSecond& last = seat->seconds[0];
    use.turn_1s += percent_of_seconds(last.waited_turn_ns, 1);
    use.limit_1s += percent_of_seconds(last.waited_limit_ns, 1);
    use.in_flight_1s += percent_of_seconds(last.waited_in_flight_ns, 1);
    // Of one that is alone only the last second is known.
    double sum = 0;
    for (std::size_t i = 0; i < kLongAverage; ++i)
      sum += percent_of_seconds(seat->seconds[seat->is_alone ? 0 : i].work_ns, kLongAverage);
    use.got_10s += sum;
    if (seat->lag_ns < 0) use.debt_ns += static_cast<std::uint64_t>(-seat->lag_ns);
  }
  use.got_1s = use.history[0];
  const auto count = static_cast<double>(std::max<std::size_t>(seats.size(), 1));
  // Threads of one process wait beside each other: together no longer than the second.
  for (double* wait : {&use.turn_1s, &use.limit_1s, &use.in_flight_1s})
    *wait = std::min(*wait / count, 100.0);
  return use;
}

std::vector<GpuFigures> figures_of(const Snapshot& snapshot) {
  std::vector<GpuFigures> all;
  const auto is_there = [&](const GpuUuid& uuid) {
    return std::any_of(all.begin(), all.end(),
                       [&](const GpuFigures& gpu) { return gpu.gpu.uuid == uuid; });
  };
  for (const auto& gpu : snapshot.driver.gpus) all.push_back(figures_on(snapshot, gpu));
  for (const auto& tenant : snapshot.tenants) {
    for (const auto& own : tenant.spec.gpus) {
      if (!own.in_set || is_there(own.uuid)) continue;
      Gpu gpu;
      gpu.uuid = own.uuid;
      gpu.nvml_index = own.nvml_index;
      gpu.total_bytes = own.total_bytes;
      all.push_back(figures_on(snapshot, gpu));
    }
  }
  return all;
}

}  // namespace vgpu::survey
