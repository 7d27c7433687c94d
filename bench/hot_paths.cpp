// SPDX-License-Identifier: Apache-2.0
// hot_paths [--rounds N] [flags of Google Benchmark]: a table of what the limiter adds to hot
// paths. hot_paths --check: fails where it adds system calls, or grossly much time. Preloading is a
// matter of a whole process, so this program starts itself once a mode and round (README.md says
// more).
#include <benchmark/benchmark.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "paths.h"
#include "system_calls.h"

namespace {

using bench::Path;
using Figures = std::map<std::string, double>;  // by name of the path

struct Mode {
  const char* name;
  bool loaded;
  const char* memory_limit;
  const char* compute_limit;
};
constexpr Mode kModes[] = {{"without", false, nullptr, nullptr},
                           {"loaded", true, nullptr, nullptr},
                           {"limited", true, "64GiB", nullptr},
                           {"gated", true, "64GiB", "100"}};

constexpr int kBatch = 256;  // calls between two drains: less than what a stream holds

// --- in a child: one mode, one round -----------------------------------------------------------

void measure(benchmark::State& state, const Path& path) {
  int queued = 0;
  for (auto _ : state) {
    path.call();
    if (path.drain == nullptr || ++queued < kBatch) continue;
    state.PauseTiming();
    path.drain();
    queued = 0;
    state.ResumeTiming();
  }
  if (path.drain != nullptr) path.drain();
}

// A line for each path: nanoseconds and name.
class Lines : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      std::printf("%f %s\n", run.GetAdjustedRealTime(), run.run_name.function_name.c_str());
  }
};

int measure_all(int argc, char** argv) {
  if (!bench::prepare()) return 77;
  for (const Path& path : bench::paths())
    benchmark::RegisterBenchmark(path.name,
                                 [path](benchmark::State& state) { measure(state, path); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Lines lines;
  benchmark::RunSpecifiedBenchmarks(&lines);
  return 0;
}

constexpr int kCounted = 1000;

int count_all() {
  if (!bench::prepare()) return 77;
  for (const Path& path : bench::paths()) {
    const auto repeat = [&](int times) {
      for (int i = 0; i < times; ++i) path.call();
    };
    const auto count = bench::count_system_calls(
        [&] {
          bench::use_context();
          repeat(10);
          if (path.drain != nullptr) path.drain();
        },
        [&] {
          // Batches without their drains, which wait.
          repeat(path.drain == nullptr ? kCounted : kBatch);
        });
    if (path.drain != nullptr) path.drain();
    if (!count.has_value()) return 78;
    std::printf("%f %s\n",
                static_cast<double>(*count) / (path.drain == nullptr ? kCounted : kBatch),
                path.name);
  }
  return 0;
}

// --- in the parent ------------------------------------------------------------------------------

// What a child says, or nothing with its status in `status`.
Figures run_child(const Mode& mode, const std::string& folder, std::vector<std::string> arguments,
                  int& status) {
  std::vector<std::string> environment = {
      "PATH=/usr/bin:/bin", "LD_LIBRARY_PATH=" VGPU_SIMULATED_DIR, "VGPU_SIM_DEVICES=h200",
      "VGPU_SIM_STATE=" + folder, "VGPU_STATE_DIR=" + folder + "/tenants"};
  if (mode.loaded) environment.push_back("LD_PRELOAD=" VGPU_LIMITER);
  const auto add = [&](const char* name, const char* value) {
    if (value != nullptr) environment.push_back(std::string(name) + "=" + value);
  };
  add("VGPU_MEMORY_LIMIT", mode.memory_limit);
  add("VGPU_COMPUTE_LIMIT", mode.compute_limit);
  arguments.insert(arguments.begin(), "hot_paths");
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (std::string& word : arguments) argv.push_back(word.data());
  for (std::string& entry : environment) envp.push_back(entry.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  int from[2];
  if (pipe(from) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    dup2(from[1], 1);
    close(from[0]);
    close(from[1]);
    execve("/proc/self/exe", argv.data(), envp.data());
    _exit(127);
  }
  close(from[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(from[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  close(from[0]);
  int ended = 0;
  waitpid(child, &ended, 0);
  status = WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
  Figures figures;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.find(' ');
    figures[line.substr(space + 1)] = std::stod(line);
  }
  return figures;
}

class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "vgpu-bench-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The least of all rounds, by mode. Modes take turns, so that a slow minute hits them all.
bool measure_modes(int rounds, const std::vector<std::string>& flags,
                   std::map<std::string, Figures>& least, int& status) {
  const Folder folder;
  for (int round = 0; round < rounds; ++round) {
    for (const Mode& mode : kModes) {
      std::vector<std::string> arguments = {"--child"};
      arguments.insert(arguments.end(), flags.begin(), flags.end());
      const Figures figures = run_child(mode, folder.path(), arguments, status);
      if (status != 0) return false;
      for (const auto& [path, ns] : figures) {
        const auto [known, is_new] = least[mode.name].emplace(path, ns);
        if (!is_new) known->second = std::min(known->second, ns);
      }
    }
  }
  return true;
}

int print_table(int rounds, const std::vector<std::string>& flags) {
  std::map<std::string, Figures> least;
  int status = 0;
  if (!measure_modes(rounds, flags, least, status)) return status;
  std::printf("Hot paths on the simulated GPU, nanoseconds a call, least of %d rounds\n\n", rounds);
  std::printf("%-24s%12s", "", kModes[0].name);
  for (const Mode& mode : std::span(kModes).subspan(1)) std::printf("%12s%10s", mode.name, "added");
  std::printf("\n");
  for (const Path& path : bench::paths()) {
    if (!least["without"].contains(path.name)) continue;  // filtered out
    const double without = least["without"][path.name];
    std::printf("%-24s%12.1f", path.name, without);
    for (const Mode& mode : std::span(kModes).subspan(1)) {
      const double ns = least[mode.name][path.name];
      std::printf("%12.1f%10.1f", ns, ns - without);
    }
    std::printf("\n");
  }
  return 0;
}

// What may be added by the limiter, under a limit.
struct Bound {
  const char* path;
  double system_calls;  // a call
  double locked_adds;   // in time; 0: the simulated driver's own time varies by more
};
constexpr Bound kBounds[] = {
    {"cuLaunchKernel", 0.02, 300},
    {"cuMemAlloc 1 KiB", 0.02, 0},
    {"cuMemAlloc 4 MiB", 0.02, 0},
    // Every 64 MiB its pool is asked, which the simulated driver does with a few system calls.
    {"cuMemAllocAsync 1 MiB", 0.5, 0},
    // Dead processes are looked for every 50 ms, with a few system calls.
    {"cuMemGetInfo", 0.2, 0},
    {"cuDeviceTotalMem", 0.02, 300},
    {"dlsym cuMemAlloc", 0.02, 1000},
    {"dlsym strlen", 0.02, 300},
    {"cuGetProcAddress", 0.02, 1000},
};

int check() {
  const Folder folder;
  int status = 0;
  const Figures alone = run_child(kModes[0], folder.path(), {"--count"}, status);
  Figures limited;
  if (status == 0) limited = run_child(kModes[2], folder.path(), {"--count"}, status);
  if (status == 78) {
    std::fprintf(stderr, "skipped: system calls can't be watched here\n");
    return 77;
  }
  std::map<std::string, Figures> least;
  if (status != 0 || !measure_modes(3, {"--benchmark_min_time=0.01"}, least, status)) return status;
  const double unit_ns = std::max(1.0, least["without"][bench::kReference]);
  bool good = true;
  for (const Bound& bound : kBounds) {
    const double calls = limited.at(bound.path) - alone.at(bound.path);
    const double adds =
        (least["limited"].at(bound.path) - least["without"].at(bound.path)) / unit_ns;
    const bool passes =
        calls <= bound.system_calls && (bound.locked_adds == 0 || adds <= bound.locked_adds);
    good = good && passes;
    std::printf(
        "%-24s adds %6.3f system calls (at most %.2f), %7.1f locked adds (at most %.0f)%s\n",
        bound.path, calls, bound.system_calls, adds, bound.locked_adds,
        passes ? "" : "  <-- too much");
  }
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "--child") {
    argv[1] = argv[0];
    return measure_all(argc - 1, argv + 1);
  }
  if (verb == "--count") return count_all();
  if (verb == "--check") return check();
  int rounds = 5;
  std::vector<std::string> flags;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++i]));
    } else {
      flags.emplace_back(argv[i]);
    }
  }
  return print_table(rounds, flags);
}
