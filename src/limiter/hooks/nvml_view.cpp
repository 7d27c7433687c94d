// SPDX-License-Identifier: Apache-2.0
// Handles to positions and tenants' processes to pids of the caller's PID namespace; see
// nvml_view.h.
#include "nvml_view.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <span>
#include <string_view>

#include "vgpu/platform/process.h"

namespace vgpu::limiter {
namespace {

// The number after "NSpid:" that the process has in its own namespace; 0: not there, or the same in
// all of them.
std::int32_t innermost_pid(std::int32_t pid) {
  FixedString<63> path("/proc/");
  path.append_number(static_cast<std::uint64_t>(pid)).append("/status");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[4096];
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = '\0';
  const char* at = std::strstr(text, "\nNSpid:");
  if (at == nullptr) return 0;
  std::int32_t last = 0;
  int numbers = 0;
  for (at += 7; *at != '\n' && *at != '\0';) {
    if (*at < '0' || *at > '9') {
      ++at;
      continue;
    }
    for (last = 0; *at >= '0' && *at <= '9'; ++at) last = last * 10 + (*at - '0');
    ++numbers;
  }
  return numbers > 1 ? last : 0;
}

std::int32_t parse_pid(const char* name) {
  std::int32_t pid = 0;
  for (; *name >= '0' && *name <= '9' && pid < 100'000'000; ++name) pid = pid * 10 + (*name - '0');
  return *name == '\0' ? pid : 0;
}

// Calls visit(pid) for each process in /proc until it returns true. Without opendir, which
// allocates.
template <class Visit>
void for_each_pid(Visit visit) {
  const int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  alignas(dirent64) char entries[8192];
  bool done = false;
  for (long size = 0;
       !done && (size = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0;) {
    for (long at = 0; !done && at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      if (const std::int32_t pid = parse_pid(entry->d_name); pid != 0) done = visit(pid);
      at += entry->d_reclen;
    }
  }
  close(fd);
}

template <class T>
T* map_array(std::size_t count) {
  void* memory =
      mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<T*>(memory);
}

}  // namespace

// A process of another PID namespace has a number here only if that namespace lies inside of this
// one. Its start time is the same everywhere, and together with its number there it names one
// process.
std::int32_t visible_pid(std::int32_t pid, std::uint64_t pid_namespace,
                         std::uint64_t start_time_ticks) {
  if (pid_namespace == platform::pid_namespace() || pid_namespace == 0) return pid;
  std::int32_t found = 0;
  for_each_pid([&](std::int32_t each) {
    if (innermost_pid(each) != pid || platform::start_time_ticks(each) != start_time_ticks)
      return false;
    found = each;
    return true;
  });
  return found;
}

int nvml_position(nvmlDevice_t device) {
  if (device == nullptr) return Limiter::kNoPosition;
  const int position = Limiter::active()->position_of(device);
  if (position != Limiter::kNoPosition ||
      real_nvml().nvmlDeviceGetDeviceHandleFromMigDeviceHandle == nullptr) {
    return position;
  }
  nvmlDevice_t whole = nullptr;
  if (real_nvml().nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device, &whole) != NVML_SUCCESS)
    return position;
  return Limiter::active()->position_of(whole);
}

bool is_shown(nvmlDevice_t device) {
  const int position = nvml_position(device);
  if (position == Limiter::kNoPosition) return false;
  return Limiter::active()->tenant().spec().gpus[static_cast<std::size_t>(position)].in_set;
}

ShownGpus shown_gpus() {
  const shm::TenantSpec spec = Limiter::active()->tenant().spec();
  ShownGpus shown;
  for (std::uint32_t position = 0; position < spec.gpus.size(); ++position) {
    if (spec.gpus[position].in_set) shown.positions[shown.count++] = position;
  }
  return shown;
}

nvmlReturn_t nvml_handle(int position, nvmlDevice_t* device) {
  if (real_nvml().nvmlDeviceGetHandleByUUID == nullptr) return NVML_ERROR_FUNCTION_NOT_FOUND;
  const auto uuid =
      Limiter::active()->tenant().spec().gpus[static_cast<std::size_t>(position)].uuid.text();
  return real_nvml().nvmlDeviceGetHandleByUUID(uuid.data(), device);
}

ShownProcesses::ShownProcesses(int position) {
  auto* views = map_array<shm::ProcessView>(shm::kMaxSlots);
  processes_ = map_array<ShownProcess>(shm::kMaxSlots);
  if (views != nullptr && processes_ != nullptr && position != Limiter::kNoPosition) {
    shm::Tenant& tenant = Limiter::active()->tenant();
    tenant.reap();
    const std::size_t live = tenant.processes({views, shm::kMaxSlots});
    for (std::size_t i = 0; i < live; ++i) {
      const std::uint64_t used_bytes = views[i].charged_bytes[position];
      if (used_bytes == 0) continue;
      const std::int32_t pid =
          visible_pid(views[i].pid, views[i].pid_namespace, views[i].start_time_ticks);
      if (pid > 0) processes_[size_++] = {static_cast<std::uint32_t>(pid), used_bytes};
    }
  }
  if (views != nullptr) munmap(views, shm::kMaxSlots * sizeof(shm::ProcessView));
}

ShownProcesses::~ShownProcesses() {
  if (processes_ != nullptr) munmap(processes_, shm::kMaxSlots * sizeof(ShownProcess));
}

bool ShownProcesses::contains(std::uint32_t pid) const {
  for (std::size_t i = 0; i < size_; ++i) {
    if (processes_[i].pid == pid) return true;
  }
  return false;
}

}  // namespace vgpu::limiter
