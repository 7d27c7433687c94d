// SPDX-License-Identifier: Apache-2.0
// System calls behind file.h. Locks are F_OFD_*: the older kind would vanish with any close() of
// the file in the program, and would not be inherited over fork.
#include "vgpu/platform/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vgpu/base/fixed_string.h"

#ifndef F_OFD_GETLK  // <fcntl.h> has them for _GNU_SOURCE only
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif

namespace vgpu::platform {
namespace {

struct flock byte_range(short type, std::uint64_t offset) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(offset);
  range.l_len = 1;
  range.l_pid = 0;  // required for F_OFD_*
  return range;
}

FileIdentity identity(const struct stat& file) {
  return {static_cast<std::uint64_t>(file.st_dev), static_cast<std::uint64_t>(file.st_ino)};
}

}  // namespace

void File::close() {
  if (fd_ >= 0) ::close(take());
}

FileIdentity identity_of(int fd) {
  struct stat file {};
  return fd >= 0 && ::fstat(fd, &file) == 0 ? identity(file) : FileIdentity{};
}

FileIdentity identity_of(const char* path) {
  struct stat file {};
  return ::lstat(path, &file) == 0 ? identity(file) : FileIdentity{};
}

File reopen(int fd) {
  FixedString<63> path("/proc/self/fd/");
  path.append_number(static_cast<std::uint64_t>(fd));
  return File(::open(path.c_str(), O_RDWR | O_CLOEXEC));
}

ByteLock try_lock_byte(int fd, std::uint64_t offset) {
  struct flock range = byte_range(F_WRLCK, offset);
  if (::fcntl(fd, F_OFD_SETLK, &range) == 0) return ByteLock::taken;
  return errno == EAGAIN || errno == EACCES ? ByteLock::held_elsewhere : ByteLock::unsupported;
}

void unlock_byte(int fd, std::uint64_t offset) {
  struct flock range = byte_range(F_UNLCK, offset);
  ::fcntl(fd, F_OFD_SETLK, &range);
}

ByteLock look_at_byte(int fd, std::uint64_t offset) {
  struct flock range = byte_range(F_WRLCK, offset);
  if (::fcntl(fd, F_OFD_GETLK, &range) != 0) return ByteLock::unsupported;
  return range.l_type == F_UNLCK ? ByteLock::taken : ByteLock::held_elsewhere;
}

namespace {

// Sparse files of which little is looked at: the kernel reads nothing ahead.
void* map_file(int fd, std::size_t size, int protection) {
  void* address = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return nullptr;
  (void)::madvise(address, size, MADV_RANDOM);  // fails where the kernel has no such advice
  return address;
}

}  // namespace

void* map_shared(int fd, std::size_t size) { return map_file(fd, size, PROT_READ | PROT_WRITE); }

void* map_shared_readonly(int fd, std::size_t size) { return map_file(fd, size, PROT_READ); }

void* map_private_zeroed(std::size_t size) {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return address == MAP_FAILED ? nullptr : address;
}

void unmap(void* address, std::size_t size) {
  if (address != nullptr) ::munmap(address, size);
}

}  // namespace vgpu::platform
