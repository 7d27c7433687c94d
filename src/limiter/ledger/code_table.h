// SPDX-License-Identifier: Apache-2.0
// Code that this process loaded: modules with what each took, libraries with what they will take in
// every context that uses them, and which functions have been launched before. The last is on the
// launch path: one load and a compare.
#pragma once

#include <atomic>
#include <cstdint>

#include "handle_map.h"

namespace vgpu::limiter {

struct LoadedCode {
  std::uint64_t bytes = 0;        // charged as implicit memory
  std::uint64_t known_bytes = 0;  // of that, what goes with it for sure
  std::uint64_t owner = 0;        // the context it is in; 0 for a library, which is in none yet
  std::uint64_t library = 0;      // set: what this library took in the context
  std::uint32_t gpu = 0;
};

class CodeTable {
 public:
  // Whether this function was prepared before. A cache: a forgotten one is prepared again, which
  // changes nothing.
  bool was_launched(std::uint64_t function) const {
    // Relaxed: the entry is all that a reader uses.
    return launched_[place_of(function)].load(std::memory_order_relaxed) == function;
  }
  void note_launched(std::uint64_t function) {
    launched_[place_of(function)].store(function, std::memory_order_relaxed);
  }
  // Handles come again after an unload, and another stack size or context changes what a launch
  // takes.
  void forget_launches() {
    for (auto& entry : launched_) entry.store(0, std::memory_order_relaxed);
  }

  void add(std::uint64_t handle, const LoadedCode& code) { code_.insert(handle, code); }
  bool find(std::uint64_t handle, LoadedCode& out) { return code_.find(handle, out); }
  bool take(std::uint64_t handle, LoadedCode& out) { return code_.take(handle, out); }

  // What a library took in one context. False: it had been taken there already.
  bool add_use(std::uint64_t library, const LoadedCode& code) {
    bool is_new = false;
    code_.upsert(use_key(library, code.owner), [&](LoadedCode& slot, bool fresh) {
      is_new = fresh;
      if (fresh) slot = code;
    });
    return is_new;
  }
  bool has_use(std::uint64_t library, std::uint64_t owner) {
    LoadedCode code;
    return code_.find(use_key(library, owner), code);
  }
  void remove_use(std::uint64_t library, std::uint64_t owner) {
    LoadedCode code;
    code_.take(use_key(library, owner), code);
  }
  // A library is unloaded, or a context is gone with all code in it: release(LoadedCode) for each.
  template <class Release>
  void drop_library(std::uint64_t library, Release release) {
    code_.sweep([&](std::uint64_t, LoadedCode& code) {
      if (code.library != library) return true;
      release(code);
      return false;
    });
  }
  template <class Release>
  void drop_context(std::uint64_t owner, Release release) {
    code_.sweep([&](std::uint64_t, LoadedCode& code) {
      if (code.owner != owner) return true;
      release(code);
      return false;
    });
  }

  void reset_after_fork() {
    code_.reset_after_fork();
    forget_launches();
  }

 private:
  static constexpr unsigned kPlacesBits = 12;

  static std::size_t place_of(std::uint64_t function) {
    return static_cast<std::size_t>((function * 0x9E3779B97F4A7C15ULL) >> (64 - kPlacesBits));
  }
  // Odd, so it is no handle, which are aligned addresses.
  static std::uint64_t use_key(std::uint64_t library, std::uint64_t owner) {
    return (library ^ (owner * 0x9E3779B97F4A7C15ULL)) | 1;
  }

  HandleMap<LoadedCode, 2> code_;
  std::atomic<std::uint64_t> launched_[std::size_t{1} << kPlacesBits] = {};
};

}  // namespace vgpu::limiter
