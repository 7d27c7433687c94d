// SPDX-License-Identifier: Apache-2.0
// What the look-alike prints, each a function of the selected GPUs. Layouts are those of the real
// tool of driver 580.
#pragma once

#include <string>
#include <vector>

#include "client.h"

namespace vgpu::sim::smi {

void print_table(const std::vector<Gpu>& gpus);
void print_list(const std::vector<Gpu>& gpus);
void print_process_monitor(const std::vector<Gpu>& gpus, bool with_header);

struct CsvFormat {
  bool header = true;
  bool units = true;
};
// Both return what the program exits with: 2 for a field that isn't one.
int print_gpu_query(const std::vector<Gpu>& gpus, const std::vector<std::string>& fields,
                    CsvFormat format);
int print_process_query(const std::vector<Gpu>& gpus, const std::vector<std::string>& fields,
                        CsvFormat format);

}  // namespace vgpu::sim::smi
