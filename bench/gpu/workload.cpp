// SPDX-License-Identifier: Apache-2.0
// One tenant of the benchmark: does one kind of GPU work for a given time and counts what was
// completed. Links libc only and finds the driver at run time, so that one file runs on any
// machine, under any limiter, and on the simulated GPU. bench.py drives it; --help says how.
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "kernel.h"
#include "options.h"
#include "record.h"
#include "worker.h"

using namespace workload;
using gpu_client::cu;

namespace {

int calibrate() {
  Kernel full;
  Kernel few;
  CUstream stream = nullptr;
  CUdevice device = 0;
  char name[128] = "";
  CUuuid uuid{};
  int driver = 0;
  if (!full.load(false) || !few.load(true)) return 1;
  if (cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS) return 1;
  cu.cuCtxGetDevice(&device);
  cu.cuDeviceGetName(name, sizeof name, device);
  cu.cuDeviceGetUuid_v2(&uuid, device);
  cu.cuDriverGetVersion(&driver);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  cu.cuMemGetInfo_v2(&free_bytes, &total_bytes);
  // A block that has a multiprocessor to itself steps faster.
  const double step = step_ns(full, stream);
  const double step_few = step_ns(few, stream);
  if (step <= 0 || step_few <= 0) {
    std::fprintf(stderr, "workload: calibration failed\n");
    return 1;
  }
  std::printf(
      "{\"step_ns\":%.6f,\"step_few_ns\":%.6f,\"gpu\":\"%s\",\"uuid\":\"%s\","
      "\"cuda\":%d,\"blocks\":%u,\"total_bytes\":%zu,\"free_bytes\":%zu}\n",
      step, step_few, name, uuid_text(uuid).c_str(), driver, full.blocks(), total_bytes,
      free_bytes);
  return 0;
}

// Starts the tenant's processes as programs of their own and ends with the worst of their statuses.
int run_processes(int argc, char** argv, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child < 0) {
      std::perror("workload: fork");
      return 1;
    }
    if (child > 0) continue;
    const std::string index = std::to_string(i);
    std::vector<char*> arguments(argv, argv + argc);
    for (const char* more : {"--processes", "1", "--index", index.c_str()})
      arguments.push_back(const_cast<char*>(more));
    arguments.push_back(nullptr);
    execv("/proc/self/exe", arguments.data());
    std::perror("workload: exec");
    _exit(1);
  }
  int worst = 0;
  for (int status = 0; wait(&status) > 0;)
    worst = std::max(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return worst;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && (argv[1] == std::string_view("--help") || argv[1] == std::string_view("-h"))) {
    std::fputs(usage(), stdout);
    return 0;
  }
  Options options;
  if (!parse(argc, argv, options)) return 2;
  if (options.processes > 1) return run_processes(argc, argv, options.processes);
  if (!gpu_client::load_driver()) return gpu_client::no_driver();
  if (!gpu_client::use_device(0)) return 1;
  if (options.mode == Mode::calibrate) return calibrate();
  Worker worker(options);
  return worker.prepare() && worker.run() ? 0 : 1;
}
