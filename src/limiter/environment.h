// SPDX-License-Identifier: Apache-2.0
// Environments that settings are read from: this process's own, and that of the first process of
// the container. Read without getenv: shells define a getenv of their own that isn't ready before
// their main.
#pragma once

#include <cstddef>
#include <string_view>

#include "vgpu/settings/settings.h"

namespace vgpu::limiter {

class ProcessEnvironment final : public settings::Environment {
 public:
  const char* get(const char* name) const override;
};

// /proc/1/environ, where this process may read it. `available()` is false in a container's first
// process itself.
class FirstProcessEnvironment final : public settings::Environment {
 public:
  FirstProcessEnvironment();
  ~FirstProcessEnvironment();
  FirstProcessEnvironment(const FirstProcessEnvironment&) = delete;
  FirstProcessEnvironment& operator=(const FirstProcessEnvironment&) = delete;

  bool available() const { return size_ != 0; }
  const char* get(const char* name) const override;

 private:
  char* text_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t size_ = 0;
};

const char* own_variable(const char* name);

// Puts "NAME=value" (kept by reference) in front of a copy of `environ`, in the place of what that
// held for NAME. Nothing is freed or
// reused, so whoever holds the old array goes on reading it. The array isn't setenv's either:
// shells define their own setenv.
bool add_to_environment(char* entry);

// While it lives, `environ` holds "NAME=value" (by reference) instead of what it holds for NAME.
class SubstitutedVariable {
 public:
  SubstitutedVariable(const char* name, char* entry);
  ~SubstitutedVariable();
  SubstitutedVariable(const SubstitutedVariable&) = delete;
  SubstitutedVariable& operator=(const SubstitutedVariable&) = delete;
  bool succeeded() const { return during_ != nullptr; }

 private:
  char** before_;
  char** during_ = nullptr;  // not unmapped: other threads may be reading it
};

}  // namespace vgpu::limiter
