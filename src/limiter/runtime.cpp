// SPDX-License-Identifier: Apache-2.0
// What the compiler or our own archives may refer to and this library must not take from outside:
// libstdc++ isn't there, and some names got a new version in a newer glibc than the oldest that
// this library loads into (2.28).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" {

// A class with pure virtual functions names it in its table. No object of ours is called while it
// is built.
[[noreturn]] __attribute__((visibility("hidden"))) void __cxa_pure_virtual() { __builtin_trap(); }

// GLIBC_2.33 made functions of these; on 64-bit machines the kernel's struct is the program's.
__attribute__((visibility("hidden"))) int fstatat(int directory, const char* __restrict path,
                                                  struct stat* __restrict out, int flags) {
  return static_cast<int>(syscall(SYS_newfstatat, directory, path, out, flags));
}
__attribute__((visibility("hidden"))) int fstat(int fd, struct stat* out) {
  return static_cast<int>(syscall(SYS_fstat, fd, out));
}
__attribute__((visibility("hidden"))) int stat(const char* __restrict path,
                                               struct stat* __restrict out) {
  return fstatat(AT_FDCWD, path, out, 0);
}
__attribute__((visibility("hidden"))) int lstat(const char* __restrict path,
                                                struct stat* __restrict out) {
  return fstatat(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}
}
