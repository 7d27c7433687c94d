// SPDX-License-Identifier: Apache-2.0
// What a worker writes down, as JSON: README.md lists the fields.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "options.h"
#include "progress.h"
#include "vgpu/api/cuda_abi.h"

namespace workload {

struct Setting;

struct Record {
  bool complete = false;  // the last completion lies beyond the end
  Nanos start_ns = 0;
  Nanos window_ns = 0;
  unsigned batch_kernels = 0;
  unsigned depth_kernels = 0;
  unsigned blocks = 0;
  Nanos cpu_ns = 0;         // of the process, since the start
  Nanos thread_cpu_ns = 0;  // of the submitting thread alone
  Nanos wall_ns = 0;
};

std::string to_json(const Record& record, const Setting& setting, const Progress& progress,
                    const std::vector<std::uint32_t>& launch_ns,
                    const std::vector<float>& latency_us);

std::string uuid_text(const CUuuid& uuid);

// Of the libraries that LD_PRELOAD and /etc/ld.so.preload name, those mapped into this process.
std::vector<std::string> preloaded_libraries();

}  // namespace workload
