// SPDX-License-Identifier: Apache-2.0
// What one allocation costs in the ledger: a reservation within the limit and its release, as the
// only process of a tenant and beside many; and the total, as cuMemGetInfo shows it. No GPU. Aim:
// under 100 ns for a lone process.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "vgpu/shm/tenant.h"

namespace {

using namespace vgpu;
using namespace vgpu::shm;

// A tenant with so many slots taken; the first is the one that is measured.
class Slots {
 public:
  explicit Slots(std::int64_t count) : tenants_(static_cast<std::size_t>(count)) {
    std::string path = std::filesystem::temp_directory_path() / "vgpu-bench-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return;
    path_ = path;
    StateDir dir;
    dir.path = FixedString<255>(path_);
    TenantSpec spec;
    spec.id = FixedString<kMaxName>("bench");
    TenantGpu gpu;
    gpu.quota.memory_limit_bytes = std::uint64_t{4} << 30;
    spec.gpus.push_back(gpu);
    Tenant creator;
    works_ = Tenant::create(dir, spec, creator) == Status::ok;
    for (Tenant& tenant : tenants_) {
      works_ =
          works_ && Tenant::open(dir, "bench", tenant) == Status::ok && tenant.join() == Status::ok;
    }
  }
  ~Slots() { std::filesystem::remove_all(path_); }
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;

  bool works() const { return works_; }
  Tenant& tenant() { return tenants_.front(); }

 private:
  std::string path_;
  std::vector<Tenant> tenants_;
  bool works_ = false;
};

void BM_ReserveAndRelease(benchmark::State& state) {
  Slots slots(state.range(0));
  if (!slots.works()) return state.SkipWithError("no tenant");
  for (auto _ : state) {
    benchmark::DoNotOptimize(slots.tenant().reserve(0, 2 << 20));
    slots.tenant().release(0, 2 << 20);
  }
}
BENCHMARK(BM_ReserveAndRelease)->ArgName("processes")->Arg(1)->Arg(10)->Arg(200);

void BM_RefusalAtTheLimit(benchmark::State& state) {
  Slots slots(state.range(0));
  if (!slots.works() || slots.tenant().reserve(0, std::uint64_t{4} << 30) != Status::ok) {
    return state.SkipWithError("no tenant");
  }
  for (auto _ : state) benchmark::DoNotOptimize(slots.tenant().reserve(0, 2 << 20));
}
BENCHMARK(BM_RefusalAtTheLimit)->ArgName("processes")->Arg(1)->Arg(10)->Arg(200);

void BM_TotalCharged(benchmark::State& state) {
  Slots slots(state.range(0));
  if (!slots.works()) return state.SkipWithError("no tenant");
  for (auto _ : state) benchmark::DoNotOptimize(slots.tenant().charged_bytes(0));
}
BENCHMARK(BM_TotalCharged)->ArgName("processes")->Arg(1)->Arg(10)->Arg(200);

void BM_OpenJoinAndClose(benchmark::State& state) {
  std::string path = std::filesystem::temp_directory_path() / "vgpu-bench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return state.SkipWithError("no directory");
  StateDir dir;
  dir.path = FixedString<255>(path);
  TenantSpec spec;
  spec.id = FixedString<kMaxName>("bench");
  spec.gpus.push_back(TenantGpu{});
  Tenant creator;
  if (Tenant::create(dir, spec, creator) != Status::ok) return state.SkipWithError("no tenant");
  for (auto _ : state) {
    Tenant tenant;
    benchmark::DoNotOptimize(Tenant::open(dir, "bench", tenant));
    benchmark::DoNotOptimize(tenant.join());
  }
  std::filesystem::remove_all(path);
}
BENCHMARK(BM_OpenJoinAndClose);

}  // namespace

BENCHMARK_MAIN();
