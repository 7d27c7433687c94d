// SPDX-License-Identifier: Apache-2.0
// The beat: what there is at one moment. What is told of it is in daemon_telling.cpp, what is asked
// from outside in daemon_control.cpp, daemon_admission.cpp and daemon_joining.cpp.
#include "daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <set>
#include <utility>

#include "loss_plan.h"
#include "pace.h"
#include "times.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/process.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/gpus.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/process_tree.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/snapshot.h"
#include "vgpu/survey/text.h"

#ifndef VGPU_VERSION
#define VGPU_VERSION "0"
#endif

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kBeatNs = 100 * kMsNs;
constexpr std::uint64_t kUseEveryNs = 250 * kMsNs;
constexpr std::uint64_t kSharesEveryNs = kSecondNs;
// A process uses the GPU a moment before it has a slot, and its tenant's directory may be new.
constexpr std::uint64_t kUntilInATenantNs = 400 * kMsNs;
constexpr std::uint64_t kNvmlHangsNs = 3 * kSecondNs;
constexpr double kPpmOfPercent = 10'000;

std::string random_id() {
  std::array<unsigned char, 8> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) bytes.fill(0);
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "node";
}

// The directory of one user's tenants has one daemon.
int lock_directory(const shm::StateDir& dir) {
  const std::string path = fmt::format("{}/hypervisor.lock", dir.path.view());
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0 || flock(file, LOCK_EX | LOCK_NB) != 0) {
    if (file >= 0) close(file);
    throw survey::Problem(
        survey::kExitFailed, "VG1061",
        fmt::format("a hypervisor looks after the state directory {} already", dir.path.view()),
        "end that one first, or VGPU_STATE_DIR=DIRECTORY hypervisor daemon");
  }
  return file;
}

// Beside the socket, where that was chosen; root's is in /run/vgpu; else in the state directory.
std::string quotas_folder(const shm::StateDir& dir, const DaemonOptions& options) {
  if (!options.quotas_folder.empty()) return options.quotas_folder;
  if (geteuid() == 0 && std::getenv("VGPU_STATE_DIR") == nullptr) return "/run/vgpu/quotas";
  return fmt::format("{}/quotas", dir.path.view());
}

// Of the last `within_ns` that are known, how much kernels of the process ran.
double percent_of(const BusyWindows& windows, pid_t pid, std::uint64_t within_ns) {
  if (windows.empty()) return 0;
  const std::uint64_t until_ns = windows.back().until_ns;
  const std::uint64_t from_ns =
      std::max(windows.front().from_ns, until_ns > within_ns ? until_ns - within_ns : 0);
  double busy_ns = 0;
  for (const BusyWindow& window : windows) {
    if (window.until_ns <= from_ns) continue;
    const auto inside = static_cast<double>(window.until_ns - std::max(window.from_ns, from_ns));
    for (const auto& [process, fraction] : window.by_process) {
      if (process == pid) busy_ns += fraction * inside;
    }
  }
  return until_ns > from_ns ? 100 * busy_ns / static_cast<double>(until_ns - from_ns) : 0;
}

// Whether a process can be in that directory's tenants: those of the daemon's own user may have
// become somebody else since.
bool is_of(const UserDirectory& directory, const ProcessFacts& facts, pid_t pid,
           ProcessBook& processes) {
  if (directory.is_own) return true;
  return facts.owner == directory.user && (!directory.is_cell() || processes.is_contained(pid));
}

std::string library_of(bool simulated) {
  return survey::nvml_library(survey::find_installation(), simulated);
}

}  // namespace

Daemon::Daemon(DaemonOptions options)
    : dir_(survey::state_directory(true, survey::kExitFailed)),
      lock_(lock_directory(dir_)),
      simulated_(survey::simulation_wanted(options.simulated)),
      boot_id_(random_id()),
      started_ns_(realtime_ns()),
      options_(std::move(options)),
      sampler_(library_of(simulated_), simulated_),
      directories_(dir_, options_.users_directories, quotas_folder(dir_, options_)),
      book_([this] { return directories(); },
            [this](std::string_view tenant) { return owner_of(tenant); }) {
  if (options_.pod_files) {
    pod_processes_ = std::make_unique<PodProcesses>(
        fmt::format("{}/hypervisor.pod-processes", dir_.path.view()), options_.pod_files->proc);
  }
  auto first = std::make_shared<NodeState>();
  first->node_name = options_.node_name.empty() ? host_name() : options_.node_name;
  first->daemon_version = VGPU_VERSION;
  first->boot_id = boot_id_;
  first->state_directory = dir_.path.view();
  first->time_ns = first->started_ns = started_ns_;
  first->driver.simulated = simulated_;
  first->driver.why = "NVML has not been asked yet";
  adopt_made_tenants();
  say(*first, EventKind::daemon_started, "",
      fmt::format("hypervisor {} looks after {}", VGPU_VERSION, dir_.path.view()));
  state_ = std::move(first);
  thread_ = std::thread([this] { run(); });
}

Daemon::~Daemon() {
  stop();
  if (lock_ >= 0) close(lock_);
}

void Daemon::stop() {
  {
    const std::lock_guard lock(state_mutex_);
    stopping_ = true;
    published_.notify_all();
  }
  {
    const std::lock_guard lock(change_mutex_);
    nobody_waits_any_more_ = true;
    waiting_changed_.notify_all();
  }
  events_.close();
  if (thread_.joinable()) thread_.join();
  hosting_.stop();
  sampler_.stop();
}

void Daemon::reload(const DaemonOptions& options) {
  {
    const std::lock_guard lock(options_mutex_);
    options_ = options;
  }
  events_.add(realtime_ns(), EventKind::settings_reloaded, "", "settings are read again");
}

DaemonOptions Daemon::options() const {
  const std::lock_guard lock(options_mutex_);
  return options_;
}

bool Daemon::is_alive(std::chrono::milliseconds within) const {
  const std::uint64_t within_ns = static_cast<std::uint64_t>(within.count()) * kMsNs;
  const StatePointer latest = state();
  return latest->sequence == 0 || latest->monotonic_ns + within_ns > platform::monotonic_ns();
}

void Daemon::run() {
  std::unique_lock lock(state_mutex_);
  while (!stopping_) {
    lock.unlock();
    const std::uint64_t begin_ns = platform::monotonic_ns(),
                        begin_cpu_ns = platform::thread_cpu_ns();
    beat();
    const std::uint64_t took_ns = platform::monotonic_ns() - begin_ns,
                        cpu_ns = platform::thread_cpu_ns() - begin_cpu_ns,
                        least_ns = least_rest_ns(kBeatNs, cpu_ns),
                        rest = rest_ns(kBeatNs, took_ns, cpu_ns);
    lock.lock();
    published_.wait_for(lock, std::chrono::nanoseconds(least_ns), [&] { return stopping_; });
    published_.wait_for(lock, std::chrono::nanoseconds(rest - std::min(rest, least_ns)),
                        [&] { return stopping_ || state_->monotonic_ns < changed_ns_; });
  }
}

void Daemon::beat_soon() {
  const std::lock_guard lock(state_mutex_);
  changed_ns_ = platform::monotonic_ns();
  published_.notify_all();
}

void Daemon::beat() {
  const StatePointer before = state();
  const std::uint64_t now_ns = platform::monotonic_ns();
  const auto readings = sampler_.readings();
  std::vector<DirectoryPointer> directories;
  std::vector<std::string> directory_notes;
  {
    const std::lock_guard lock(change_mutex_);
    directories = directories_.look(now_ns);
    directory_notes = directories_.notes();
  }
  segments_.read(now_ns, directories);
  if (now_ns >= use_read_ns_ + kUseEveryNs) {
    use_read_ns_ = now_ns;
    read_use(*readings, now_ns);
  }
  share_gpus(directories);

  auto next = std::make_shared<NodeState>();
  next->sequence = before->sequence + 1;
  next->time_ns = realtime_ns();
  next->monotonic_ns = now_ns;
  next->started_ns = started_ns_;
  next->node_name = before->node_name;
  next->daemon_version = before->daemon_version;
  next->boot_id = boot_id_;
  next->state_directory = before->state_directory;
  next->looks_after_users = !options().users_directories.empty();
  next->driver = readings->driver;
  next->driver_is_read = readings->looked_ns != 0;
  next->processes_read_ns = readings->read_ns;
  next->segments_read_ns = next->time_ns;
  next->hosts_arbiter = hosting_.hosts();
  next->notes = segments_.notes();
  for (const DirectoryPointer& directory : directories) {
    if (!directory->is_cell()) next->state_directories.emplace_back(directory->dir.path.view());
  }
  next->notes.insert(next->notes.end(), directory_notes.begin(), directory_notes.end());
  if (!segments_.seats_unreadable().empty())
    next->notes.push_back(fmt::format("node.seats: {}", segments_.seats_unreadable()));

  read_gpus(*readings, *next);
  if (now_ns >= readings->looked_ns + kNvmlHangsNs && readings->looked_ns != 0) {
    next->notes.push_back("NVML doesn't answer: figures of GPUs are old");
    for (auto& gpu : next->gpus) {
      if (gpu.health != GpuHealth::ok) continue;
      gpu.health = GpuHealth::unreadable;
      gpu.health_text = "NVML doesn't answer";
    }
  }
  read_tenants(*readings, *next, now_ns);
  read_pod_processes(*readings, *next, now_ns);
  read_outsiders(*readings, *next, now_ns);
  processes_.tidy();
  if (now_ns >= judged_ns_ + kSharesEveryNs) {
    judged_ns_ = now_ns;
    judge_shares(*next);
  }
  for (auto& gpu : next->gpus) {
    if (const auto at = judged_.find(gpu.uuid); at != judged_.end())
      std::tie(gpu.promised_percent, gpu.share_notes) = at->second;
  }
  tell(*before, *next);
  guard(*next, now_ns);
  finish_endings(now_ns);
  remember(*next);
  next->last_event = events_.last();
  publish(std::move(next));
  if (before->sequence != 0) judge_uninvited(*before);
  const std::lock_guard lock(change_mutex_);
  look_after_made();
  if (!waiters_.empty()) unmake_deserted();
  serve_waiting();
}

// What the arbiter has to know of the tenants of each directory, and what holds there when we are
// gone.
void Daemon::share_gpus(const std::vector<DirectoryPointer>& directories) {
  std::map<const UserDirectory*, TermsTable> terms;
  std::map<const UserDirectory*, DirectoryUse> uses;
  for (const auto& [id, tenant] : segments_.tenants()) {
    const std::uint64_t number = shm::tenant_number(tenant.spec.id.view());
    for (const auto& gpu : tenant.spec.gpus) {
      if (!gpu.in_set) continue;
      terms[tenant.directory.get()][{number, gpu.uuid}] = gpu.quota;
      const auto use = use_.find({id, gpu.uuid});
      if (use == use_.end() || use->second.figures.got_10s <= 0) continue;
      const double share = gpu.quota.compute_share_percent;
      uses[tenant.directory.get()].percent[gpu.uuid] += share == 0 ? kUnsharedPercent : share;
    }
  }
  std::vector<DirectoryUse> in_order;
  for (const DirectoryPointer& directory : directories) in_order.push_back(uses[directory.get()]);
  const shm::OnDaemonLoss policy = options().on_loss;
  const std::vector<shm::LossPlan> plans = loss_plans(policy, in_order);
  std::vector<HostedDirectory> hosted;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    const UserDirectory* const directory = directories[i].get();
    auto& known = terms_[directory];
    if (known == nullptr || *known != terms[directory])
      known = std::make_shared<const TermsTable>(std::move(terms[directory]));
    hosted.push_back({directories[i], known, plans[i]});
  }
  std::erase_if(terms_, [&](const auto& entry) {
    return std::none_of(directories.begin(), directories.end(),
                        [&](const auto& directory) { return directory.get() == entry.first; });
  });
  hosting_.look_after(std::move(hosted), policy);
}

void Daemon::publish(std::shared_ptr<NodeState> state) {
  const std::lock_guard lock(state_mutex_);
  state_ = std::move(state);
  published_.notify_all();
}

void Daemon::say(NodeState& state, EventKind kind, std::string subject, std::string text) {
  events_.add(state.time_ns, kind, std::move(subject), std::move(text));
}

void Daemon::read_gpus(const Readings& readings, NodeState& state) {
  for (const XidSeen& seen : sampler_.take_xids()) {
    ++xids_[seen.gpu][seen.xid];
    last_xid_[seen.gpu] = {seen.xid, seen.time_ns};
    say(state, EventKind::xid_error, seen.gpu.text().data(),
        fmt::format("XID {} on {}", seen.xid, seen.gpu.text().data()));
  }
  const auto capacity = options().capacity;
  for (const auto& reading : readings.gpus) {
    GpuState gpu;
    gpu.uuid = reading.identity.uuid;
    gpu.index = reading.identity.index;
    gpu.name = reading.identity.name;
    gpu.pci_bus_id = reading.identity.pci_bus_id;
    gpu.total_bytes = reading.identity.total_bytes;
    gpu.fp16_tflops = capacity->tflops_of(gpu.name);
    gpu.health = reading.health;
    gpu.health_text = reading.health_text;
    gpu.sample = reading.sample;
    gpu.sampled_ns = reading.sampled_ns;
    gpu.mig_enabled = reading.mig_enabled;
    gpu.mig_devices = reading.mig_devices;
    gpu.busy_windows = reading.busy_windows;
    if (const auto at = xids_.find(gpu.uuid); at != xids_.end()) gpu.xid_counts = at->second;
    if (const auto at = last_xid_.find(gpu.uuid); at != last_xid_.end()) {
      gpu.last_xid = at->second.first;
      gpu.last_xid_ns = at->second.second;
    }
    state.gpus.push_back(std::move(gpu));
  }
}

void Daemon::read_use(const Readings& readings, std::uint64_t now_ns) {
  segments_.read_seats(now_ns);
  const auto busy = [&](const GpuUuid& uuid) -> std::optional<unsigned> {
    for (const auto& gpu : readings.gpus) {
      if (gpu.identity.uuid == uuid) return gpu.sample.busy_percent;
    }
    return std::nullopt;
  };
  std::vector<shm::SeatFacts> seats = segments_.seats();
  counters_.add(now_ns, seats, busy);
  std::map<Place, std::vector<const shm::SeatFacts*>> by_place;
  for (auto& seat : seats) {
    // Who is alone on a GPU counts nothing: it did what NVML says of the GPU.
    if (const auto percent = seat.is_alone ? busy(seat.gpu) : std::nullopt)
      seat.seconds[0].work_ns = *percent * (kSecondNs / 100);
    by_place[{std::string(seat.tenant.view()), seat.gpu}].push_back(&seat);
  }
  use_.clear();
  for (const auto& [place, own] : by_place) {
    Use use;
    use.figures = survey::use_of(own);
    double owed = 0;
    for (const auto* seat : own) {
      owed += seat->entitled_ppm / kPpmOfPercent;
      use.got_by_process[{seat->pid, seat->start_time_ticks}] = survey::use_of({seat}).got_1s;
    }
    use.owed_percent = owed;
    use_.emplace(place, std::move(use));
  }
}

void Daemon::read_tenants(const Readings& readings, NodeState& state, std::uint64_t now_ns) {
  const DaemonOptions chosen = options();
  std::map<GpuUuid, std::map<std::uint32_t, std::optional<std::uint64_t>>> on_gpu;
  for (const auto& gpu : readings.gpus) {
    for (const auto& process : gpu.processes)
      on_gpu[gpu.identity.uuid].emplace(process.pid, process.used_bytes);
  }
  const std::uint64_t own_namespace = platform::pid_namespace();
  // Looking through all processes is dear: once a second, for those that aren't known yet.
  if (now_ns >= foreign_read_ns_ + kSecondNs) {
    foreign_read_ns_ = now_ns;
    survey::PidTranslator translator;
    std::map<std::pair<std::uint64_t, std::int32_t>, pid_t> known;
    for (const auto& [id, tenant] : segments_.tenants()) {
      for (const auto& process : tenant.processes) {
        if (process.pid_namespace == own_namespace || process.pid_namespace == 0) continue;
        const std::pair key(process.pid_namespace, process.pid);
        const auto at = foreign_pids_.find(key);
        known[key] = at != foreign_pids_.end() && at->second != 0
                         ? at->second
                         : translator.outer_pid(process.pid_namespace, process.pid);
      }
    }
    foreign_pids_ = std::move(known);
  }

  struct Owner {
    admission::User user;
    bool is_kept_here = false;
  };
  std::map<std::string_view, Owner> owners;
  {
    const std::lock_guard lock(change_mutex_);
    for (const auto& [id, seen] : segments_.tenants()) {
      const auto made = made_.find(id);
      owners[id] = {owner_of(id), made != made_.end() && made->second.lifetime == Lifetime::kept};
    }
    state.waiting = queue_.size();
  }
  for (const auto& [id, seen] : segments_.tenants()) {
    TenantState tenant;
    tenant.id = id;
    tenant.directory = seen.directory;
    tenant.own_id = seen.spec.id.view();
    tenant.name = seen.spec.name.view();
    const Owner& owner = owners[id];
    tenant.owner = owner.user.uid;
    tenant.owner_is_trusted = owner.user.trusted;
    tenant.made_by_daemon = owner.is_kept_here;
    if (seen.made_ns != 0) tenant.made_ns = seen.made_ns;
    tenant.process_count = seen.processes.size();
    tenant.quota_restored = seen.put_right;
    std::map<GpuUuid, std::uint64_t> driver_bytes;
    std::set<GpuUuid> driver_silent;
    for (const auto& slot : seen.processes) {
      ProcessState process;
      process.tenant = id;
      process.own_pid = slot.pid;
      process.start_time_ticks = slot.start_time_ticks;
      process.program = slot.program.view();
      process.limiter = LimiterPresence::present;
      pid_t host_pid = slot.pid;
      if (slot.pid_namespace != own_namespace && slot.pid_namespace != 0) {
        const auto at = foreign_pids_.find({slot.pid_namespace, slot.pid});
        host_pid = at == foreign_pids_.end() ? 0 : at->second;
      }
      if (host_pid > 0) {
        const auto* facts = processes_.of(host_pid, slot.start_time_ticks, now_ns, chosen);
        // A slot is its user's to write: the pid of somebody else's process is nobody's here.
        if (facts != nullptr && !is_of(*seen.directory, *facts, host_pid, processes_)) {
          facts = nullptr;
          host_pid = 0;
        }
        if (host_pid > 0) process.host_pid = host_pid;
        if (facts != nullptr) {
          process.owner = facts->owner;
          process.user = facts->user;
          process.command_line = facts->command_line;
        }
      }
      for (std::size_t i = 0; i < seen.spec.gpus.size(); ++i) {
        const auto& own = seen.spec.gpus[i];
        if (!own.in_set) continue;
        ProcessGpuState on;
        on.gpu = own.uuid;
        on.charged_bytes = slot.charged_bytes[i];
        bool there = slot.charged_bytes[i] != 0;
        if (const auto gpu = on_gpu.find(own.uuid); gpu != on_gpu.end() && host_pid > 0) {
          if (const auto at = gpu->second.find(static_cast<std::uint32_t>(host_pid));
              at != gpu->second.end()) {
            there = true;
            on.driver_bytes = at->second;
            if (at->second) driver_bytes[own.uuid] += *at->second;
            if (!at->second) driver_silent.insert(own.uuid);
          }
        }
        if (const auto use = use_.find({id, own.uuid}); use != use_.end()) {
          const auto& got = use->second.got_by_process;
          if (const auto at = got.find({slot.pid, slot.start_time_ticks}); at != got.end()) {
            there = true;
            on.got_percent_1s = at->second;
          }
        }
        if (there) process.gpus.push_back(on);
      }
      state.processes.push_back(std::move(process));
    }
    for (std::size_t i = 0; i < seen.spec.gpus.size(); ++i) {
      const auto& own = seen.spec.gpus[i];
      if (!own.in_set) continue;
      counters_.set_denied(id, own.uuid, seen.inode, seen.denied[i]);
      TenantGpuState gpu;
      gpu.gpu = own.uuid;
      gpu.index = own.nvml_index;
      gpu.total_bytes = own.total_bytes;
      gpu.quota = own.quota;
      gpu.charged_bytes = seen.charged_bytes[i];
      gpu.counters = counters_.of(id, own.uuid);
      if (on_gpu.count(own.uuid) != 0 && driver_silent.count(own.uuid) == 0)
        gpu.driver_bytes = driver_bytes[own.uuid];
      if (const auto use = use_.find({id, own.uuid}); use != use_.end()) {
        const survey::UseFigures& figures = use->second.figures;
        gpu.owed_percent = use->second.owed_percent;
        gpu.got_percent_1s = figures.got_1s;
        gpu.got_percent_10s = figures.got_10s;
        gpu.waited_turn_percent_1s = figures.turn_1s;
        gpu.waited_limit_percent_1s = figures.limit_1s;
        gpu.waited_in_flight_percent_1s = figures.in_flight_1s;
        gpu.debt_ns = figures.debt_ns;
      }
      for (auto& each : state.gpus) {
        if (each.uuid == own.uuid) each.got_percent_1s += gpu.got_percent_1s;
      }
      tenant.gpus.push_back(std::move(gpu));
    }
    state.tenants.push_back(std::move(tenant));
  }
}

// Those under the predecessor's limiter, which have no slot: the driver says what they hold and
// run.
void Daemon::read_pod_processes(const Readings& readings, NodeState& state, std::uint64_t now_ns) {
  const DaemonOptions chosen = options();
  if (pod_processes_ == nullptr || !chosen.pod_files) return;
  std::set<pid_t> has_slot;
  for (const auto& process : state.processes) {
    if (process.host_pid) has_slot.insert(*process.host_pid);
  }
  std::set<GpuUuid> wanted;
  for (const PodProcess& known : pod_processes_->living()) {
    const KeptPod* const pod = chosen.pod_files->pod(known.name_space, known.pod);
    const TenantState* const of = pod == nullptr ? nullptr : state.tenant_for_pods(pod->tenant);
    if (of == nullptr || has_slot.count(known.pid) != 0) continue;
    auto& tenant = *std::find_if(state.tenants.begin(), state.tenants.end(),
                                 [&](const TenantState& each) { return each.id == of->id; });
    ProcessState process;
    process.tenant = tenant.id;
    process.host_pid = known.pid;
    process.own_pid = known.own_pid;
    process.start_time_ticks = known.start_ticks;
    process.limiter = LimiterPresence::predecessor;
    if (const auto* facts = processes_.of(known.pid, known.start_ticks, now_ns, chosen)) {
      process.owner = facts->owner;
      process.user = facts->user;
      process.program = facts->program;
      process.command_line = facts->command_line;
    }
    for (auto& own : tenant.gpus) {
      wanted.insert(own.gpu);
      const auto reading =
          std::find_if(readings.gpus.begin(), readings.gpus.end(),
                       [&](const GpuReading& gpu) { return gpu.identity.uuid == own.gpu; });
      if (reading == readings.gpus.end()) continue;
      const auto there = std::find_if(
          reading->processes.begin(), reading->processes.end(),
          [&](const NvmlProcess& on) { return static_cast<pid_t>(on.pid) == known.pid; });
      if (there == reading->processes.end()) continue;
      ProcessGpuState on{own.gpu, std::nullopt, there->used_bytes, std::nullopt};
      if (reading->busy_windows != nullptr) {
        on.got_percent_1s = percent_of(*reading->busy_windows, known.pid, kSecondNs);
        own.got_percent_1s += *on.got_percent_1s;
        for (auto& gpu : state.gpus) {
          if (gpu.uuid == own.gpu) gpu.got_percent_1s += *on.got_percent_1s;
        }
        own.got_percent_10s += percent_of(*reading->busy_windows, known.pid, 10 * kSecondNs);
      }
      if (!there->used_bytes) own.driver_bytes.reset();
      if (own.driver_bytes) *own.driver_bytes += *there->used_bytes;
      process.gpus.push_back(on);
    }
    ++tenant.process_count;
    const auto after =
        std::find_if(state.processes.begin(), state.processes.end(),
                     [&](const ProcessState& other) { return other.tenant > process.tenant; });
    state.processes.insert(after, std::move(process));
  }
  sampler_.want_busy(std::move(wanted));
}

// Whoever is on a GPU and in no tenant.
void Daemon::read_outsiders(const Readings& readings, NodeState& state, std::uint64_t now_ns) {
  const DaemonOptions chosen = options();
  std::set<pid_t> limited{getpid()};
  for (const auto& process : state.processes) {
    if (process.host_pid) limited.insert(*process.host_pid);
  }
  std::map<pid_t, ProcessState> found;
  for (const auto& gpu : readings.gpus) {
    for (const auto& seen : gpu.processes) {
      const auto pid = static_cast<pid_t>(seen.pid);
      if (limited.count(pid) != 0) continue;
      ProcessState& process = found[pid];
      process.gpus.push_back({gpu.identity.uuid, std::nullopt, seen.used_bytes, std::nullopt});
      if (process.gpus.size() > 1 || pid <= 0) continue;
      const ProcessFacts* facts = processes_.of(pid, 0, now_ns, chosen);
      if (facts == nullptr) continue;
      process.host_pid = pid;
      process.own_pid = facts->own_pid;
      process.start_time_ticks = facts->start_time_ticks;
      process.owner = facts->owner;
      process.user = facts->user;
      process.program = facts->program;
      process.command_line = facts->command_line;
      process.limiter = facts->limiter;
      process.exempt = facts->exempt;
      const auto since = since_seen_apart(pid, facts->start_time_ticks, now_ns);
      if (process.limiter == LimiterPresence::present && state.looks_after_users &&
          now_ns >= since + kUntilInATenantNs)
        process.limiter = LimiterPresence::elsewhere;
    }
  }
  std::erase_if(apart_, [&](const auto& entry) { return entry.second.seen_ns != now_ns; });
  for (auto& [pid, process] : found) {
    if (pid > 0 && !process.host_pid) continue;  // it ended meanwhile
    state.unlimited_processes += NodeState::is_unlimited(process) ? 1 : 0;
    state.processes.push_back(std::move(process));
  }
}

survey::Snapshot Daemon::snapshot_of(const NodeState& state) const {
  survey::Snapshot snapshot;
  snapshot.now_ns = use_read_ns_;
  snapshot.seats = segments_.seats();
  snapshot.seats_unreadable = segments_.seats_unreadable();
  for (const auto& gpu : state.gpus) {
    survey::Gpu known;
    known.uuid = gpu.uuid;
    known.nvml_index = gpu.index;
    known.busy_percent = gpu.sample.busy_percent;
    snapshot.driver.gpus.push_back(std::move(known));
  }
  for (const auto& [id, tenant] : segments_.tenants()) {
    survey::ListedTenant listed;
    listed.spec = tenant.spec;
    listed.spec.id = FixedString<shm::kMaxName>(id);  // as its seats have it
    listed.charged_bytes = tenant.charged_bytes;
    listed.denied = tenant.denied;
    listed.processes = tenant.processes;
    snapshot.tenants.push_back(std::move(listed));
  }
  for (const auto& process : state.processes) {
    // The arbiter sees nothing of one that the predecessor limits, tenant or not.
    const bool is_apart = process.limiter == LimiterPresence::predecessor;
    if (!process.tenant.empty() && !is_apart) continue;
    survey::Limiter limiter = survey::Limiter::unknown;
    if (is_apart) limiter = survey::Limiter::predecessor;
    if (process.limiter == LimiterPresence::absent) limiter = survey::Limiter::absent;
    if (process.limiter == LimiterPresence::present) limiter = survey::Limiter::present;
    for (const auto& on : process.gpus) {
      snapshot.outsiders[on.gpu].push_back(
          {static_cast<std::uint32_t>(process.host_pid.value_or(0)), process.program,
           on.driver_bytes, limiter});
    }
  }
  measure_lone_seats(snapshot);
  return snapshot;
}

// Since when a process is known to be on a GPU and in no tenant.
std::uint64_t Daemon::since_seen_apart(pid_t pid, std::uint64_t start_ticks, std::uint64_t now_ns) {
  Apart& apart = apart_[{pid, start_ticks}];
  if (apart.since_ns == 0) apart.since_ns = now_ns;
  apart.seen_ns = now_ns;
  return apart.since_ns;
}

void Daemon::judge_shares(NodeState& state) {
  const survey::Snapshot snapshot = snapshot_of(state);
  judged_.clear();
  for (const auto& gpu : state.gpus) {
    const survey::GpuShares shares = survey::shares_on(snapshot, gpu.uuid);
    std::vector<std::string> notes;
    if (!shares.promises.empty()) notes = survey::share_notes(shares);
    judged_[gpu.uuid] = {shares.sum_percent(), std::move(notes)};
  }
}

void Daemon::keep_look(const NodeState& state) {
  auto look = std::make_shared<const survey::Snapshot>(snapshot_of(state));
  const std::lock_guard lock(history_mutex_);
  earlier_look_ = std::exchange(latest_look_, std::move(look));
}

void Daemon::remember(const NodeState& state) {
  const std::uint64_t second = state.monotonic_ns / kSecondNs;
  // A little late, so that the second that ended has been written by all.
  if (second == remembered_second_ || state.monotonic_ns % kSecondNs < 200 * kMsNs ||
      use_read_ns_ % kSecondNs < 150 * kMsNs || use_read_ns_ / kSecondNs != second)
    return;
  remembered_second_ = second;
  keep_look(state);
  const std::uint64_t time_ns = state.time_ns / kSecondNs * kSecondNs;
  const std::lock_guard lock(history_mutex_);
  for (const auto& gpu : state.gpus) {
    HistoryPoint point;
    point.time_ns = time_ns;
    point.got_percent = static_cast<float>(gpu.got_percent_1s);
    if (gpu.sample.busy_percent) point.busy_percent = static_cast<float>(*gpu.sample.busy_percent);
    point.used_bytes = gpu.sample.used_bytes;
    history_.add(gpu.uuid, "", point);
  }
  for (const auto& tenant : state.tenants) {
    for (const auto& gpu : tenant.gpus) {
      HistoryPoint point;
      point.time_ns = time_ns;
      point.got_percent = static_cast<float>(gpu.got_percent_1s);
      if (gpu.owed_percent) point.owed_percent = static_cast<float>(*gpu.owed_percent);
      point.waited_percent =
          static_cast<float>(gpu.waited_turn_percent_1s + gpu.waited_limit_percent_1s);
      point.used_bytes = gpu.charged_bytes;
      history_.add(gpu.gpu, tenant.id, point);
    }
  }
  history_.tidy(time_ns);
}

}  // namespace vgpu::hypervisor
