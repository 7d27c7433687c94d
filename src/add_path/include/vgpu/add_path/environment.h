// SPDX-License-Identifier: Apache-2.0
// Edits an environment (a NULL-terminated array of "NAME=value") in place. libc's setenv is no way
// to do it: bash and others export a setenv of their own that a preloaded library would call
// instead, before it is ready. Entries are replaced where they stand, so whoever holds the array
// (bash, a runtime that reads the initial stack) sees the new value; a variable that was not there
// needs a longer array. Called before main, while the process has one thread.
#pragma once

#include <cstddef>

namespace vgpu::add_path {

// Memory that outlives the process's use of its environment, so it is never given back. nullptr if
// there is none.
using Allocate = void* (*)(std::size_t bytes);

// Applies every TF_* variable of the array to the array. Returns it, or its longer copy if a
// variable was added. Out of memory, what could not be edited stays as it is.
char** edit_environment(char** environment, Allocate allocate);

}  // namespace vgpu::add_path
