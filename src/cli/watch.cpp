// SPDX-License-Identifier: Apache-2.0
// The rule of who may have the GPU open, for watch.h.
#include "watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "vgpu/platform/clock.h"
#include "vgpu/survey/program.h"

namespace vgpu::cli {

using survey::command_line, survey::descendants_of, survey::explain_missing_limiter,
    survey::GpuFiles, survey::has_mapped, survey::identify, survey::pid_in_own_namespace,
    survey::ProcessIdentity, survey::program_name, survey::uses_gpu;

namespace {

constexpr std::uint64_t kMsNs = 1'000'000;
constexpr std::uint64_t kSlowBeatNs = 1000 * kMsNs;
constexpr std::uint64_t kFastBeatNs = 100 * kMsNs;
// Looks may use one part in so many of a processor, however often GPUs are opened, and save up so
// much time: a run by itself is looked at whenever one is opened.
constexpr std::uint64_t kOneOf = 1000;
constexpr std::uint64_t kSavedNs = 10'000 * kMsNs;

// What a process was started with. Programs that write their title over it (setproctitle) leave no
// list of K=V: then nothing can be said, and `intact` is false.
struct StartEnvironment {
  bool intact = false;
  bool names_tenant = false;
};

StartEnvironment start_environment(pid_t pid, std::string_view tenant_id) {
  StartEnvironment found;
  const int descriptor = open(fmt::format("/proc/{}/environ", pid).c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return found;
  std::string text;
  std::array<char, 16384> chunk{};
  ssize_t got = 0;
  while ((got = read(descriptor, chunk.data(), chunk.size())) > 0)
    text.append(chunk.data(), static_cast<std::size_t>(got));
  close(descriptor);
  found.intact = got == 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\0'), rest.size());
    const std::string_view entry = rest.substr(0, end);
    if (entry.find('=') == std::string_view::npos) found.intact = false;
    if (entry == fmt::format("VGPU_TENANT={}", tenant_id)) found.names_tenant = true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return found;
}

// The driver itself starts nvidia-modprobe, setuid, to make device files; it holds no GPU memory.
bool is_driver_helper(pid_t pid) {
  struct stat info {};
  const std::string path = fmt::format("/proc/{}/exe", pid);
  return program_name(pid) == "nvidia-modprobe" && stat(path.c_str(), &info) == 0 &&
         info.st_uid == 0 && (info.st_mode & S_ISUID) != 0;
}

}  // namespace

RunWatch::RunWatch(const shm::Tenant& tenant, std::string tenant_id, std::string limiter_file,
                   GpuFiles files)
    : tenant_(tenant),
      tenant_id_(std::move(tenant_id)),
      limiter_file_(std::move(limiter_file)),
      files_(std::move(files)),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  if (inotify_ < 0) return;
  bool any = false;
  for (const auto& path : files_.watchable())
    any = inotify_add_watch(inotify_, path.c_str(), IN_OPEN) >= 0 || any;
  if (!any) close(std::exchange(inotify_, -1));
}

RunWatch::~RunWatch() {
  if (inotify_ >= 0) close(inotify_);
}

void RunWatch::take_news() {
  std::array<char, 4096> events{};
  while (inotify_ >= 0 && read(inotify_, events.data(), events.size()) > 0) {
  }
}

bool RunWatch::is_resting() const { return platform::monotonic_ns() < paid_until_ns_; }

int RunWatch::wait_ms() const {
  const std::uint64_t beat_ns = inotify_ >= 0 ? kSlowBeatNs : kFastBeatNs;
  const std::uint64_t now_ns = platform::monotonic_ns();
  const std::uint64_t due_ns = is_resting() ? paid_until_ns_ : looked_ns_ + beat_ns;
  return due_ns <= now_ns ? 0 : static_cast<int>((due_ns - now_ns) / kMsNs) + 1;
}

std::optional<Escape> RunWatch::look() {
  if (is_resting()) return std::nullopt;
  const std::uint64_t before_ns = platform::thread_cpu_ns();
  std::optional<Escape> escape = look_at_all();
  looked_ns_ = platform::monotonic_ns();
  const std::uint64_t saved_ns = std::min(looked_ns_, kSavedNs);
  paid_until_ns_ = std::min(std::max(paid_until_ns_, looked_ns_ - saved_ns) +
                                (platform::thread_cpu_ns() - before_ns) * kOneOf,
                            looked_ns_ + kSlowBeatNs);
  return escape;
}

std::optional<Escape> RunWatch::look_at_all() {
  take_news();
  std::map<ProcessIdentity, bool> still;
  std::optional<Escape> escape;
  for (const pid_t pid : descendants_of(getpid())) {
    ProcessIdentity identity;
    if (!identify(pid, identity)) continue;
    if (fine_.count(identity) != 0) {
      still.emplace(identity, true);
      continue;
    }
    const bool acknowledged =
        tenant_.has_acknowledged(pid_in_own_namespace(pid), identity.start_time_ticks);
    if (acknowledged && has_mapped(pid, limiter_file_)) {
      still.emplace(identity, true);
      continue;
    }
    if (!escape) escape = look_at(identity);
  }
  fine_ = std::move(still);
  return escape;
}

// `pid` hasn't acknowledged as the program that it is now. A forked child that keeps running its
// parent's program is one of those: it has the limiter from its parent, and the tenant's name in
// the environment it came with.
std::optional<Escape> RunWatch::look_at(const ProcessIdentity& identity) {
  const pid_t pid = identity.pid;
  if (!uses_gpu(pid, files_) || is_driver_helper(pid)) return std::nullopt;
  std::string cause;
  if (has_mapped(pid, limiter_file_)) {
    const StartEnvironment environment = start_environment(pid, tenant_id_);
    if (environment.names_tenant || !environment.intact) return std::nullopt;
    cause = "VGPU_TENANT was taken out of its environment";
  } else {
    cause = explain_missing_limiter(pid);
  }
  const std::string shown = command_line(pid);
  // It may have become another program while we looked, or be on its way out: then a process loses
  // its memory, the limiter in it, before its open files, and what was read does not belong
  // together.
  ProcessIdentity now;
  if (!uses_gpu(pid, files_) || !identify(pid, now) || now != identity) return std::nullopt;
  if (!has_mapped(pid, "/")) return std::nullopt;
  return Escape{
      pid, fmt::format("{} (pid {}) opened the GPU without the limiter: {}", shown, pid, cause)};
}

}  // namespace vgpu::cli
