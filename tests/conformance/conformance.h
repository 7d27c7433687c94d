// SPDX-License-Identifier: Apache-2.0
// ONE program that asks a CUDA driver what it does, run unchanged on a real GPU and on the
// simulated one. It prints `section.question answer` lines; the answers of a real GPU are committed
// in answers/ and hold the simulator to them. Each section runs in a process of its own, so that no
// section sees another's contexts or caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "driver_under_test.h"

namespace conformance {

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;

// Prints `key answer`. Keys that begin with "~" in the answers file are compared within a
// tolerance.
void answer(const std::string& key, const std::string& value);
void answer(const std::string& key, long long value);
inline void answer_code(const std::string& key, CUresult code) {
  answer(key, static_cast<long long>(code));
}

// The primary context of device 0, current on this thread. Ends the section's process when there is
// none.
void use_device();
CUdevice device();
// Used bytes of the whole GPU by the driver's word (total - free).
std::size_t used_bytes();
// What NVML says this process holds on device 0; 0 where it can't say.
std::size_t process_bytes();
// Growth of the used memory over `step`, in KiB.
long long growth_kib(const std::function<void()>& step);
// A module made of PTX text; the code is printed when it fails.
CUmodule load_ptx(const std::string& ptx);
// PTX of a kernel `name(u64 ns)` that spins for the stated time, and says so to a simulated driver.
std::string spin_ptx(const std::string& name, const std::string& extra_globals = "",
                     std::size_t local_bytes = 0);
// Runs this program again for `section` with one variable set (nullptr: removed); returns its
// standard output.
std::string run_section_with(const std::string& section, const char* variable, const char* value);

struct Section {
  const char* name;
  void (*run)();
  bool on_request;  // only with --section or --all: takes the whole GPU, or is a helper of another
                    // section
};
extern const Section kSections[];
extern const std::size_t kSectionCount;

void section_init();
void section_errors();
void section_visible();
void section_visible_child();
void section_lookup();
void section_alloc();
void section_small_blocks();
void section_pitch();
void section_managed();
void section_array();
void section_pool();
void section_vmm();
void section_graph();
void section_context();
void section_limit();
void section_module();
void section_capture();
void section_ipc();
void section_ipc_child();
void section_full();
void section_order();
void section_packing();
void section_objects();
void section_legacy();
void section_cost();

}  // namespace conformance
