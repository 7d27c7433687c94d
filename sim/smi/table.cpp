// SPDX-License-Identifier: Apache-2.0
// The plain table, -L and pmon. Column widths are the real tool's, so that scripts which cut them
// keep working.
#include <cstdio>
#include <ctime>
#include <string>

#include "output.h"

namespace vgpu::sim::smi {
namespace {

template <class Number>
std::string with_unit(const std::optional<Number>& number, const char* unit) {
  return number ? std::to_string(*number) + unit : "N/A";
}

std::string on_off(const std::optional<bool>& value) {
  if (!value) return "N/A";
  return *value ? "On" : "Off";
}

std::string watts(const std::optional<unsigned>& milliwatts) {
  return milliwatts ? std::to_string((*milliwatts + 500) / 1000) + "W" : "N/A";
}

void print_now() {
  char text[64];
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  std::strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &parts);
  std::printf("%s       \n", text);
}

void print_gpu(const Gpu& gpu) {
  const auto memory = gpu.memory();
  const auto used = memory ? std::to_string(mebibytes(memory->used)) + "MiB" : "N/A";
  const auto total = memory ? std::to_string(mebibytes(memory->total)) + "MiB" : "N/A";
  const auto rates = gpu.utilization();
  const auto state = gpu.performance_state();
  std::printf("|%4u  %-31.31s%-3s |   %-16s %-3s |%21s |\n", gpu.index(), gpu.name().c_str(),
              on_off(gpu.persistence()).c_str(), gpu.bus_id().c_str(),
              on_off(gpu.display_active()).c_str(), "N/A");
  std::printf(
      "|%4s%6s%6s%16s / %5s |%11s / %9s |%8s %12s |\n", with_unit(gpu.fan_percent(), "%").c_str(),
      with_unit(gpu.temperature_celsius(), "C").c_str(),
      state ? ("P" + std::to_string(*state)).c_str() : "N/A", watts(gpu.power_milliwatts()).c_str(),
      watts(gpu.power_limit_milliwatts()).c_str(), used.c_str(), total.c_str(),
      rates ? (std::to_string(rates->gpu) + "%").c_str() : "N/A", gpu.compute_mode().c_str());
  std::printf("|%41s|%24s|%21s |\n", "", "", gpu.mig_mode().c_str());
  std::puts(
      "+-----------------------------------------+------------------------+----------------------"
      "+");
}

void print_processes(const std::vector<Gpu>& gpus) {
  std::puts(
      "+-----------------------------------------------------------------------------------------"
      "+");
  std::puts(
      "| Processes:                                                                              "
      "|");
  std::puts(
      "|  GPU   GI   CI              PID   Type   Process name                        GPU Memory "
      "|");
  std::puts(
      "|        ID   ID                                                               Usage      "
      "|");
  std::puts(
      "|========================================================================================="
      "|");
  bool any = false;
  for (const Gpu& gpu : gpus) {
    for (const Process& process : gpu.processes()) {
      any = true;
      const auto used =
          process.used_bytes ? std::to_string(mebibytes(*process.used_bytes)) + "MiB" : "N/A";
      std::printf("|%5u   N/A  N/A%16u%7c   %-37.37s%9s |\n", gpu.index(), process.pid,
                  process.type, process_name(process.pid).c_str(), used.c_str());
    }
  }
  if (!any)
    std::puts(
        "|  No running processes found                                                             "
        "|");
  std::puts(
      "+-----------------------------------------------------------------------------------------"
      "+");
}

}  // namespace

void print_table(const std::vector<Gpu>& gpus) {
  print_now();
  const std::string driver = driver_version();
  std::puts(
      "+-----------------------------------------------------------------------------------------"
      "+");
  std::printf("| %-34sDriver Version: %-15sCUDA Version: %-9s|\n",
              ("vgpu simulated SMI " + driver).c_str(), driver.c_str(), cuda_version().c_str());
  std::puts(
      "+-----------------------------------------+------------------------+----------------------"
      "+");
  std::puts(
      "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC "
      "|");
  std::puts(
      "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. "
      "|");
  std::puts(
      "|                                         |                        |               MIG M. "
      "|");
  std::puts(
      "|=========================================+========================+======================"
      "|");
  for (const Gpu& gpu : gpus) print_gpu(gpu);
  std::puts("");
  print_processes(gpus);
}

void print_list(const std::vector<Gpu>& gpus) {
  for (const Gpu& gpu : gpus) {
    std::printf("GPU %u: %s (UUID: %s)\n", gpu.index(), gpu.name().c_str(), gpu.uuid().c_str());
  }
}

void print_process_monitor(const std::vector<Gpu>& gpus, bool with_header) {
  if (with_header) {
    std::puts("# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command ");
    std::puts("# Idx           #    C/G      %      %      %      %      %      %    name ");
  }
  for (const Gpu& gpu : gpus) {
    const auto processes = gpu.processes();
    if (processes.empty()) {
      std::printf("%5u%11s%6s%7s%7s%7s%7s%7s%7s    %-15s\n", gpu.index(), "-", "-", "-", "-", "-",
                  "-", "-", "-", "-");
    }
    for (const Process& process : processes) {
      const auto percent = gpu.process_percent(process.pid);
      std::string name = process_name(process.pid);
      name.erase(0, name.rfind('/') + 1);
      std::printf("%5u%11u%6c%7s%7s%7s%7s%7s%7s    %-15.15s\n", gpu.index(), process.pid,
                  process.type, percent ? std::to_string(*percent).c_str() : "-",
                  percent ? "0" : "-", "-", "-", "-", "-", name.c_str());
    }
  }
}

}  // namespace vgpu::sim::smi
