// SPDX-License-Identifier: Apache-2.0
// What nvidia-smi prints inside a tenant, compared whole: the table of the predecessor's README and
// the forms that scripts read. Date, UUIDs and versions are masked, nothing else.
#include <regex>
#include <utility>

#include "run.h"

namespace {

using namespace nvml_test;

std::string masked(std::string text) {
  const std::pair<const char*, const char*> kMasks[] = {
      {"^... ... .. ..:..:.. ....", "<date>"},
      {"GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"},
      {"[0-9]{3}\\.[0-9]{3}\\.[0-9]{2} ", "<driver> "},
  };
  for (const auto& [pattern, mask] : kMasks)
    text = std::regex_replace(text, std::regex(pattern), mask);
  return text;
}

constexpr const char* kHeader =
    "<date>       \n"
    "+-----------------------------------------------------------------------------------------+\n"
    "| vgpu simulated SMI <driver>     Driver Version: <driver>     CUDA Version: 13.0     |\n"
    "+-----------------------------------------+------------------------+----------------------+\n"
    "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |\n"
    "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |\n"
    "|                                         |                        |               MIG M. |\n"
    "|=========================================+========================+======================|\n";
constexpr const char* kProcesses =
    "\n"
    "+-----------------------------------------------------------------------------------------+\n"
    "| Processes:                                                                              |\n"
    "|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |\n"
    "|        ID   ID                                                               Usage      |\n"
    "|=========================================================================================|\n";
constexpr const char* kEnd =
    "+-----------------------------------------------------------------------------------------+\n";

TEST(NvidiaSmi, ShowsTheLimitAndNoProcessForTheOldVariableKeyedByUuid) {
  const Machine machine("h200");
  const std::string uuid =
      run(smi({"--query-gpu=uuid", "--format=csv,noheader"}), machine.plain()).out.substr(0, 40);
  const Output output =
      run(smi({}),
          machine.limited({{"TENSOR_FUSION_CUDA_MEM_LIMIT", "{\"" + uuid + "\": 1073741824}"}}));
  EXPECT_EQ(output.err, "");
  EXPECT_EQ(masked(output.out), std::string(kHeader) +
                                    "|   0  vgpu simulated H200            Off |   "
                                    "00000000:18:00.0 Off |                  N/A |\n"
                                    "| N/A   30C    P0             70W /  700W |       0MiB /   "
                                    "1024MiB |      0%      Default |\n"
                                    "|                                         |                   "
                                    "     |                  N/A |\n"
                                    "+-----------------------------------------+-------------------"
                                    "-----+----------------------+\n" +
                                    kProcesses +
                                    "|  No running processes found                                 "
                                    "                            |\n" +
                                    kEnd);
}

TEST(NvidiaSmi, WithoutALimitShowsTheWholeGpuAndItsUtilization) {
  const Machine machine("h200");
  const Output output = run(smi({}), machine.limited({}));
  EXPECT_NE(output.out.find("|       0MiB / 143771MiB |      0%      Default |"), std::string::npos)
      << output.out;
}

TEST(NvidiaSmi, ListsTheTenantsGpus) {
  const Machine machine;
  const Output output = run(smi({"-L"}), machine.limited({{"VGPU_GPUS", "1,2"}}));
  EXPECT_EQ(output.err, "");
  EXPECT_EQ(
      masked(output.out),
      "GPU 0: vgpu simulated H200 (UUID: <uuid>)\nGPU 1: vgpu simulated H200 (UUID: <uuid>)\n");
}

TEST(NvidiaSmi, CsvIsByteClean) {
  const Machine machine;
  const auto tenant = machine.limited({{"VGPU_MEMORY_LIMIT", "2GiB"}, {"VGPU_GPUS", "0,1"}});
  const Output bare =
      run(smi({"--query-gpu=index,memory.used,memory.free,memory.total,utilization.gpu",
               "--format=csv,noheader,nounits"}),
          tenant);
  EXPECT_EQ(bare.out, "0, 0, 2046, 2048, 0\n1, 0, 2046, 2048, 0\n");
  EXPECT_EQ(bare.err, "");
  const Output full = run(smi({"--query-gpu=index,memory.total", "--format=csv"}), tenant);
  EXPECT_EQ(full.out, "index, memory.total [MiB]\n0, 2048 MiB\n1, 2048 MiB\n");
}

TEST(NvidiaSmi, ShowsTheTenantsProcessInTableQueryAndMonitor) {
  const Machine machine("h200");
  const auto tenant = machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}, {"VGPU_TENANT", "shown"}});
  Program holder(probe({"use", "0", "104857600", "init", "memory", "wait"}), tenant);
  Program other(probe({"use", "0", "104857600", "wait"}),
                machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}, {"VGPU_TENANT", "hidden"}}));
  ASSERT_NE(holder.wait_until_ready(), 0);
  ASSERT_NE(other.wait_until_ready(), 0);
  const std::string pid = std::to_string(holder.pid());
  const std::string others_pid = std::to_string(other.pid());

  const Output query =
      run(smi({"--query-compute-apps=pid,process_name", "--format=csv,noheader"}), tenant);
  EXPECT_EQ(query.out, pid + ", " + VGPU_NVML_PROBE + "\n");
  const Output used =
      run(smi({"--query-gpu=memory.used", "--format=csv,noheader,nounits"}), tenant);
  const Output of_process =
      run(smi({"--query-compute-apps=used_memory", "--format=csv,noheader,nounits"}), tenant);
  EXPECT_EQ(used.out, of_process.out);

  const Output monitor = run(smi({"pmon", "-c", "1"}), tenant);
  EXPECT_TRUE(std::regex_search(
      monitor.out, std::regex("\n    0 +" + pid +
                              "     C      0      0      -      -      -      -    nvml_probe")))
      << monitor.out;
  const Output table = run(smi({}), tenant);
  EXPECT_TRUE(std::regex_search(table.out, std::regex("\\|    0   N/A  N/A +" + pid +
                                                      "      C   .{37}" + " *[0-9]+MiB \\|\n")))
      << table.out;
  EXPECT_EQ(table.out.find(others_pid + " "), std::string::npos);
  EXPECT_EQ(monitor.out.find(others_pid + " "), std::string::npos);
}

TEST(NvidiaSmi, SaysThatItIsSimulated) {
  const Machine machine("h200");
  EXPECT_NE(run(smi({}), machine.plain()).out.find("vgpu simulated"), std::string::npos);
  EXPECT_NE(run(smi({"--help"}), machine.plain()).out.find("not NVIDIA's"), std::string::npos);
}

TEST(NvidiaSmi, UnknownFieldIsNamedAndFails) {
  const Machine machine("h200");
  const Output output = run(smi({"--query-gpu=index,colour", "--format=csv"}), machine.plain());
  EXPECT_EQ(output.out, "Field \"colour\" is not a valid field to query.\n\n");
  EXPECT_EQ(output.status, 2);
}

}  // namespace
