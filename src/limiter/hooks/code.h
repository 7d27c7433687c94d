// SPDX-License-Identifier: Apache-2.0
// What the hooks of modules, launches and graphs share: what functions and libraries take at their
// first use.
#pragma once

#include <optional>

#include "charge.h"
#include "settle.h"

namespace vgpu::limiter {

// The first launch of a function in the current context, from before the driver's call until after
// it: local memory for all threads, and the code of the library that a CUkernel comes from. While
// it lives a change is open. Ends with ran(), or without: then nothing is known to have been taken.
class FirstLaunch {
 public:
  explicit FirstLaunch(CUfunction function);
  ~FirstLaunch();
  FirstLaunch(const FirstLaunch&) = delete;
  FirstLaunch& operator=(const FirstLaunch&) = delete;

  bool refused() const { return reservation_ && reservation_->refused(); }
  // The driver made the launch: what it needs has been taken.
  void ran();
  // It was put into a graph: what it needs stays promised until a launch of that.
  void captured();

  // What a graph with this function needs at its launch; 0: nothing that is only promised.
  std::uint64_t context() const { return place_.context; }
  std::uint64_t local_bytes() const { return local_bytes_; }

 private:
  bool claim_local(std::uint64_t bytes_per_thread, std::uint64_t reserved);
  void keep(Charge local);
  void note_buffers(std::uint64_t grown);

  std::uint64_t function_;
  Place place_;
  CUlibrary library_ = nullptr;      // whose code comes with it
  std::uint64_t code_bytes_ = 0;     // claimed for that
  std::uint64_t local_bytes_ = 0;    // what the context holds for its threads once it ran
  std::uint64_t claimed_bytes_ = 0;  // of that, charged for this launch
  std::optional<Growth> growth_;     // where it may be the first to use a heap
  std::optional<Reservation> reservation_;
};

// The first use of a library's code in a context, otherwise than by a launch.
class LibraryUse {
 public:
  LibraryUse(CUlibrary library, const Place& place);
  ~LibraryUse();
  LibraryUse(const LibraryUse&) = delete;
  LibraryUse& operator=(const LibraryUse&) = delete;

  bool refused() const { return reservation_ && reservation_->refused(); }
  void succeeded();

 private:
  CUlibrary library_;
  Place place_;
  bool claimed_ = false;
  std::optional<Reservation> reservation_;
};

// What a library's code takes in a context; 0 where it was charged already.
std::uint64_t unclaimed_library_bytes(CUlibrary library, const Place& place);
// Claims it. False: another thread was faster.
bool claim_library(CUlibrary library, const Place& place);

}  // namespace vgpu::limiter
