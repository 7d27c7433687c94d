// SPDX-License-Identifier: Apache-2.0
// The hot paths: the driver's calls that programs make most, each as a function to be called over
// and over, and what they need (a context, a stream, a kernel). One thread.
#pragma once

#include <functional>
#include <vector>

namespace bench {

struct Path {
  const char* name;
  std::function<void()> call;
  // What was queued is worked off between batches, off the clock. Empty: nothing is queued.
  std::function<void()> drain;
};

// False: no driver, or no device; the reason went to stderr.
bool prepare();
// Makes the context of prepare() current on the calling thread.
void use_context();
std::vector<Path> paths();

// What one locked addition costs is the measure of the machine.
inline constexpr const char* kReference = "locked add";

}  // namespace bench
