// SPDX-License-Identifier: Apache-2.0
// The driver's names: cuGetProcAddress in its versions, entries that aren't simulated, and faults
// (VGPU_SIM_FAULT). Any thread, before and after cuInit. A row of the table is armed until
// vgpu_sim_enter has seen the environment once.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "functions.h"
#include "vgpu/sim/model.h"

namespace {

struct Row {  // trampolines.S lays it out
  const char* name;
  void* entry;
  void* implementation;
  std::atomic<std::uint8_t>
      armed;  // 0: straight through; relaxed: a late reader only takes the slow way once more
  std::uint8_t unused[7];
};
static_assert(sizeof(Row) == 32);

}  // namespace

extern "C" {
extern Row __start_vgpu_sim_table[] __attribute__((visibility("hidden")));
extern Row __stop_vgpu_sim_table[] __attribute__((visibility("hidden")));
__attribute__((visibility("hidden"))) int vgpu_sim_enter(Row* row);
static CUresult not_simulated() { return CUDA_ERROR_NOT_SUPPORTED; }
}

namespace {

enum class Action : std::uint8_t { fail, slow, die };

struct Fault {
  std::uint64_t nth = 0;  // 0: every call
  Action action = Action::fail;
  std::uint32_t code = 0;
  std::uint64_t delay_ns = 0;
};

struct FaultPlan {
  std::atomic<std::uint64_t> calls{0};
  std::vector<Fault> faults;
};

std::once_flag prepared;
std::unordered_map<const Row*, FaultPlan>* plans = nullptr;

bool parse_number(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

bool parse_delay(std::string_view text, std::uint64_t& ns) {
  std::uint64_t unit = 1'000'000;
  if (text.ends_with("ns")) {
    unit = 1;
  } else if (text.ends_with("us")) {
    unit = 1'000;
  } else if (text.ends_with("ms")) {
    unit = 1'000'000;
  } else if (text.ends_with("s")) {
    unit = 1'000'000'000;
    text.remove_suffix(1);
    return parse_number(text, ns) && ((ns *= unit), true);
  } else {
    return false;
  }
  text.remove_suffix(2);
  if (!parse_number(text, ns)) return false;
  ns *= unit;
  return true;
}

// NAME:N:error=CODE | NAME:N:die | NAME:N:slow=TIME, several with semicolons between; N is a number
// or *.
bool parse_fault(std::string_view text, std::string_view& name, Fault& fault) {
  const std::size_t first = text.find(':');
  const std::size_t second = first == std::string_view::npos ? first : text.find(':', first + 1);
  if (second == std::string_view::npos) return false;
  name = text.substr(0, first);
  const std::string_view count = text.substr(first + 1, second - first - 1);
  const std::string_view what = text.substr(second + 1);
  if (count != "*" && (!parse_number(count, fault.nth) || fault.nth == 0)) return false;
  std::uint64_t code = 0;
  if (what == "die") {
    fault.action = Action::die;
  } else if (what.starts_with("error=") && parse_number(what.substr(6), code)) {
    fault.action = Action::fail;
    fault.code = static_cast<std::uint32_t>(code);
  } else if (what.starts_with("slow=") && parse_delay(what.substr(5), fault.delay_ns)) {
    fault.action = Action::slow;
  } else {
    return false;
  }
  return true;
}

void prepare() {
  auto* found = new std::unordered_map<const Row*, FaultPlan>;
  const char* variable = std::getenv("VGPU_SIM_FAULT");
  std::string_view rest = variable == nullptr ? "" : variable;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(';'), rest.size());
    const std::string_view text = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (text.empty()) continue;
    std::string_view name;
    Fault fault;
    Row* row = __stop_vgpu_sim_table;
    if (parse_fault(text, name, fault)) {
      row = std::find_if(__start_vgpu_sim_table, __stop_vgpu_sim_table,
                         [&](const Row& r) { return name == r.name; });
    }
    if (row == __stop_vgpu_sim_table) {
      std::fprintf(stderr,
                   "vgpu simulated GPU: VGPU_SIM_FAULT: \"%.*s\" is not NAME:N:error=CODE, "
                   "NAME:N:slow=10ms or NAME:N:die\n",
                   static_cast<int>(text.size()), text.data());
      continue;
    }
    (*found)[row].faults.push_back(fault);
  }
  for (Row* row = __start_vgpu_sim_table; row != __stop_vgpu_sim_table; ++row) {
    if (row->implementation == nullptr)
      row->implementation = reinterpret_cast<void*>(&not_simulated);
  }
  plans = found;
  // The implementations came first: whoever reads 0 here goes straight through them.
  for (Row* row = __start_vgpu_sim_table; row != __stop_vgpu_sim_table; ++row) {
    if (!found->contains(row)) row->armed.store(0, std::memory_order_release);
  }
}

// Names are grouped by what they are versions of: cuMemAlloc, cuMemAlloc_v2; the ending for
// per-thread streams apart.
struct Version {
  int since;
  int number;
  bool per_thread;
  const Row* row;
};

struct Split {
  std::string_view base;
  int number = 1;
  bool per_thread = false;
};

Split split_name(std::string_view name) {
  Split split{name};
  if (name.ends_with("_ptsz") || name.ends_with("_ptds")) {
    split.per_thread = true;
    name.remove_suffix(5);
  }
  const std::size_t size = name.size();
  if (size > 3 && name[size - 3] == '_' && name[size - 2] == 'v' && name[size - 1] >= '1' &&
      name[size - 1] <= '9') {
    split.number = name[size - 1] - '0';
    name.remove_suffix(3);
  }
  split.base = name;
  return split;
}

const std::unordered_map<std::string_view, std::vector<Version>>& versions() {
  static const auto* map = [] {
    std::unordered_map<std::string_view, int> since;
#define VGPU_HOOK(symbol, family, since_version, params, args) since[#symbol] = since_version;
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK
#define VGPU_CALL(symbol, reason, since_version, params, args) since[#symbol] = since_version;
#include "vgpu/api/driver_calls.def"
#undef VGPU_CALL
    auto* made = new std::unordered_map<std::string_view, std::vector<Version>>;
    for (const Row* row = __start_vgpu_sim_table; row != __stop_vgpu_sim_table; ++row) {
      const Split split = split_name(row->name);
      const auto known = since.find(row->name);
      (*made)[split.base].push_back(
          {known == since.end() ? 2000 : known->second, split.number, split.per_thread, row});
    }
    return made;
  }();
  return *map;
}

CUresult look_up(const char* symbol, void** entry, int version, cuuint64_t flags,
                 CUdriverProcAddressQueryResult* status) {
  if (symbol == nullptr || entry == nullptr || version > vgpu::sim::kDriverApiVersion ||
      (flags & ~cuuint64_t{CU_GET_PROC_ADDRESS_LEGACY_STREAM |
                           CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM}) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool wants_per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
  const auto refuse = [&](CUdriverProcAddressQueryResult why) {
    if (status == nullptr)
      return CUDA_ERROR_NOT_FOUND;  // the first form says so by its result alone
    *status = why;
    *entry = nullptr;
    return CUDA_SUCCESS;
  };
  const auto& map = versions();
  const auto found = map.find(symbol);
  if (found == map.end()) {
    return refuse(CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  }
  // A name that has forms for per-thread streams has no others for whoever asks for those. Versions
  // below zero are later than any.
  const bool per_thread =
      wants_per_thread && std::any_of(found->second.begin(), found->second.end(),
                                      [](const Version& v) { return v.per_thread; });
  const Version* best = nullptr;
  for (const Version& candidate : found->second) {
    if (static_cast<unsigned>(candidate.since) > static_cast<unsigned>(version) ||
        candidate.per_thread != per_thread)
      continue;
    if (best == nullptr || candidate.number > best->number) best = &candidate;
  }
  if (best == nullptr) {
    return refuse(CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  }
  if (status != nullptr) *status = CU_GET_PROC_ADDRESS_SUCCESS;
  *entry = best->row->entry;
  return CUDA_SUCCESS;
}

}  // namespace

// The way in of an armed row: -1 to go on to the implementation, else what the call answers.
int vgpu_sim_enter(Row* row) {
  std::call_once(prepared, prepare);
  const auto plan = plans->find(row);
  if (plan == plans->end()) return -1;
  const std::uint64_t call = plan->second.calls.fetch_add(1, std::memory_order_relaxed) + 1;
  for (const Fault& fault : plan->second.faults) {
    if (fault.nth != 0 && fault.nth != call) continue;
    switch (fault.action) {
      case Action::fail:
        return static_cast<int>(fault.code);
      case Action::die:
        kill(getpid(), SIGKILL);
        break;
      case Action::slow: {
        timespec time{static_cast<time_t>(fault.delay_ns / 1'000'000'000),
                      static_cast<long>(fault.delay_ns % 1'000'000'000)};
        while (nanosleep(&time, &time) != 0) {
        }
        break;
      }
    }
  }
  return -1;
}

CUresult sim_cuGetProcAddress(const char* symbol, void** entry, int version, cuuint64_t flags) {
  return look_up(symbol, entry, version, flags, nullptr);
}

CUresult sim_cuGetProcAddress_v2(const char* symbol, void** entry, int version, cuuint64_t flags,
                                 CUdriverProcAddressQueryResult* status) {
  return look_up(symbol, entry, version, flags, status);
}
