// SPDX-License-Identifier: Apache-2.0
// The constructor of libadd_path.so: runs before main in every process that the library is
// preloaded into, and only there. It changes what this process's children find; the loader of this
// process has read its variables already.
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "vgpu/add_path/environment.h"

namespace {

// Pages of our own: malloc may belong to another preloaded library that is not ready yet. A process
// without TF_* variables never gets here, so it pays for no page.
void* allocate(std::size_t bytes) {
  static char* next = nullptr;
  static std::size_t left = 0;
  constexpr std::size_t kChunk = 64 * 1024;
  bytes = (bytes + alignof(char*) - 1) & ~(alignof(char*) - 1);
  if (bytes > left) {
    const std::size_t size = bytes > kChunk ? bytes : kChunk;
    void* chunk = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED) return nullptr;
    next = static_cast<char*>(chunk);
    left = size;
  }
  void* result = next;
  next += bytes;
  left -= bytes;
  return result;
}

// The loader calls constructors with what it will call main with.
[[gnu::constructor]] void edit_own_environment(int, char**, char** initial) {
  // A setuid program loads us only from /etc/ld.so.preload. The loader took LD_PRELOAD and
  // LD_LIBRARY_PATH from it so that its caller cannot choose its code; putting them back for its
  // children would undo that.
  if (getauxval(AT_SECURE) != 0) return;
  if (environ == nullptr) return;
  const int saved_errno = errno;
  // Another constructor may have replaced the array; then the one on the stack, which some runtimes
  // read, needs the same edits. What is added to its copy is dropped: it cannot grow.
  if (initial != nullptr && initial != environ) vgpu::add_path::edit_environment(initial, allocate);
  environ = vgpu::add_path::edit_environment(environ, allocate);
  errno = saved_errno;
}

}  // namespace
