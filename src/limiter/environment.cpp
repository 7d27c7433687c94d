// SPDX-License-Identifier: Apache-2.0
#include "environment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

extern char** environ;

namespace vgpu::limiter {
namespace {

// The value in "NAME=value" if that entry is `name`'s.
const char* value_in(const char* entry, const char* name, std::size_t length) {
  return std::strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1
                                                                        : nullptr;
}

std::size_t entry_count() {
  std::size_t count = 0;
  if (environ != nullptr) {
    while (environ[count] != nullptr) ++count;
  }
  return count;
}

void* map(std::size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

const char* own_variable(const char* name) {
  if (environ == nullptr) return nullptr;
  const std::size_t length = std::strlen(name);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (const char* value = value_in(*entry, name, length); value != nullptr) return value;
  }
  return nullptr;
}

const char* ProcessEnvironment::get(const char* name) const { return own_variable(name); }

FirstProcessEnvironment::FirstProcessEnvironment() {
  if (getpid() == 1) return;
  const int fd = open("/proc/1/environ", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  constexpr std::size_t kMost = std::size_t{1} << 20;
  text_ = static_cast<char*>(map(kMost));
  if (text_ != nullptr) {
    mapped_ = kMost;
    while (size_ < kMost - 1) {
      const ssize_t got = read(fd, text_ + size_, kMost - 1 - size_);
      if (got <= 0) break;
      size_ += static_cast<std::size_t>(got);
    }
  }
  close(fd);
}

FirstProcessEnvironment::~FirstProcessEnvironment() {
  if (text_ != nullptr) munmap(text_, mapped_);
}

const char* FirstProcessEnvironment::get(const char* name) const {
  const std::size_t length = std::strlen(name);
  for (std::size_t at = 0; at < size_; at += std::strlen(text_ + at) + 1) {
    if (const char* value = value_in(text_ + at, name, length); value != nullptr) return value;
  }
  return nullptr;
}

bool add_to_environment(char* entry) {
  const std::size_t count = entry_count();
  auto** entries = static_cast<char**>(map((count + 2) * sizeof(char*)));
  if (entries == nullptr) return false;
  const char* const equals = std::strchr(entry, '=');
  const std::size_t length = equals == nullptr ? 0 : static_cast<std::size_t>(equals - entry) + 1;
  std::size_t kept = 0;
  entries[kept++] = entry;
  for (std::size_t i = 0; i < count; ++i) {
    if (std::strncmp(environ[i], entry, length) != 0 || length == 0) entries[kept++] = environ[i];
  }
  environ = entries;
  return true;
}

SubstitutedVariable::SubstitutedVariable(const char* name, char* entry) : before_(environ) {
  const std::size_t length = std::strlen(name);
  const std::size_t count = entry_count();
  auto** entries = static_cast<char**>(map((count + 2) * sizeof(char*)));
  if (entries == nullptr) return;
  std::size_t kept = 0;
  entries[kept++] = entry;
  for (std::size_t i = 0; i < count; ++i) {
    if (value_in(environ[i], name, length) == nullptr) entries[kept++] = environ[i];
  }
  during_ = entries;
  environ = entries;
}

SubstitutedVariable::~SubstitutedVariable() {
  // Another thread that changed its environment meanwhile made its own array: that one stays.
  if (during_ != nullptr && environ == during_) environ = before_;
}

}  // namespace vgpu::limiter
