// SPDX-License-Identifier: Apache-2.0
// Where segments lie, and that nobody else can put one there: the directory is the caller's own,
// private and not a link.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "segment.h"
#include "vgpu/platform/file.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {
namespace {

int check_directory(const char* path, bool may_make) {
  if (may_make && ::mkdir(path, 0700) != 0 && errno != EEXIST) {
    const int error = errno;
    // A directory that is there may still be usable where mkdir says something else, as on a
    // read-only root.
    struct stat there {};
    if (::lstat(path, &there) != 0) return error;
  }
  struct stat facts {};
  if (::lstat(path, &facts) != 0) return errno;
  if (S_ISLNK(facts.st_mode)) return ELOOP;
  if (!S_ISDIR(facts.st_mode)) return ENOTDIR;
  if (facts.st_uid != ::geteuid()) return EPERM;
  if ((facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) return EPERM;
  return ::access(path, W_OK | X_OK) == 0 ? 0 : errno;
}

struct DirectoryEntry {  // the kernel's linux_dirent64
  std::uint64_t inode;
  std::int64_t next;
  std::uint16_t size;
  std::uint8_t type;
  char name[5];
};
constexpr std::size_t kNameAt = offsetof(DirectoryEntry, name);

}  // namespace

namespace {

StateDir find_state_dir(const char* (*get_variable)(const char* name), bool may_make) {
  StateDir dir;
  const auto value = [get_variable](const char* name) {
    const char* text = get_variable(name);
    return text != nullptr ? std::string_view(text) : std::string_view();
  };
  if (const std::string_view chosen = value("VGPU_STATE_DIR"); !chosen.empty()) {
    dir.path.append(chosen);
  } else if (const std::string_view runtime = value("XDG_RUNTIME_DIR"); !runtime.empty()) {
    dir.path.append(runtime).append("/vgpu");
  } else {
    dir.path.append("/dev/shm/vgpu-").append_number(::geteuid());
  }
  std::string_view socket = value("VGPU_SOCKET");
  if (socket.empty()) socket = "/run/vgpu/hypervisor.sock";
  if (const std::size_t slash = socket.rfind('/'); slash != std::string_view::npos)
    dir.quotas.append(socket.substr(0, slash)).append("/quotas");
  if (dir.quotas.truncated()) dir.quotas.clear();
  dir.error = dir.path.truncated() ? ENAMETOOLONG : check_directory(dir.path.c_str(), may_make);
  return dir;
}

}  // namespace

StateDir state_dir(const char* (*get_variable)(const char* name)) {
  return find_state_dir(get_variable, true);
}

StateDir existing_state_dir(const char* (*get_variable)(const char* name)) {
  return find_state_dir(get_variable, false);
}

std::size_t list_tenants(const StateDir& dir, std::span<FixedString<kMaxName>> ids) {
  constexpr std::string_view kSuffix = ".tenant";
  const platform::File directory(::open(dir.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.is_open()) return 0;
  std::size_t count = 0;
  alignas(DirectoryEntry) char buffer[4096];
  for (;;) {
    // Not readdir: it allocates.
    const long got = ::syscall(SYS_getdents64, directory.fd(), buffer, sizeof buffer);
    if (got <= 0) return count;
    for (long at = 0; at < got;) {
      std::uint16_t size = 0;
      std::memcpy(&size, buffer + at + offsetof(DirectoryEntry, size), sizeof size);
      std::string_view name(buffer + at + kNameAt);
      at += size;
      if (!name.ends_with(kSuffix)) continue;
      name.remove_suffix(kSuffix.size());
      if (!is_valid_id(name)) continue;
      if (count < ids.size()) ids[count] = FixedString<kMaxName>(name);
      ++count;
    }
  }
}

}  // namespace vgpu::shm
