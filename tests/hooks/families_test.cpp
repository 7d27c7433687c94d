// SPDX-License-Identifier: Apache-2.0
// Every family of memory under a limit of 4 GiB on the simulated GPU, in a program of its own with
// the limiter preloaded (tests/gpu/family_probe.cpp, which runs unchanged on a real GPU). An
// observer without the limiter reads from NVML what the process really holds: never above the
// limit, close below it at the refusal, all of it back after the frees, and the same again. "Never"
// is the high-water mark of the simulated device, which misses no instant. Then threads and
// processes that race at the limit.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "vgpu/api/nvml_abi.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/sim/device_state.h"

namespace vgpu {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kLimitMiB = 4096;
// Charged for a process beside what NVML shows of it.
constexpr std::uint64_t kUnshownMiB = driver_model::kUnshownProcessBytes / kMiB;

struct FamilyCase {
  const char* name;
  unsigned
      step_mib;  // the family's growth step: so much may be missing at the refusal, besides 2 MiB
  unsigned piece_mib;         // asked for at a time
  bool shown = true;          // NVML shows it
  unsigned unserved_mib = 0;  // what may be free in the pool at the last refusal
  bool keeps = true;          // its memory, when all is freed
  std::uint64_t limit_mib = kLimitMiB;
};

// The widest step of a piece of 64 MiB is the piece itself.
const FamilyCase kFamilies[] = {
    {"alloc", 64, 64},
    {"alloc-small", 2, 64},
    {"pitch", 80, 64},
    {"managed", 64, 64, false, 0, true, 1024},  // each byte is written, which takes its time
    {"array2d", 64, 64},
    {"array3d", 64, 64},
    {"mipmapped", 96, 64},
    {"async", 64, 64},
    {"async-ptsz", 64, 64},
    {"pool", 64, 64},
    {"pool-ptsz", 64, 64},
    {"vmm", 64, 64},
    {"vmm-mapped", 64, 64},
    {"graph", 64, 64},
    {"graph-ptsz", 64, 64},
    {"graph-captured", 64, 64},
    {"context", 530, 64},
    {"module", 64, 64},
    {"library", 64, 64},
    {"local", 128, 64},
    {"stack", 80, 64},
    {"multicast", 64, 64},
};

// Pools that use their memory again (kept_pool.h). Their last refusals are of a few KiB, or of a
// quarter of a piece: what is free then lies scattered.
const FamilyCase kKeptFamilies[] = {
    {"pool-kept", 32, 40, true, 512},
    {"pool-fragmented", 32, 24, true, 64},
    {"pool-busy", 64, 64, true, 64, false},
};

struct Stage {
  long pieces = 0;
  std::uint64_t asked_mib = 0;
  int code = -1;
  std::uint64_t seen_used_mib = 0;
  std::uint64_t seen_total_mib = 0;
  std::uint64_t held_mib = 0;  // by NVML
};

long number_after(const std::string& line, const std::string& key) {
  const auto at = line.find("\"" + key + "\": ");
  return at == std::string::npos ? -1 : std::atol(line.c_str() + at + key.size() + 4);
}

// The simulated NVML, as nvidia-smi outside of the tenant would see the GPU.
class Observer {
 public:
  Observer() {
    library_ = dlopen(VGPU_SIMULATED_DIR "/libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library_ != nullptr && function<int()>("nvmlInit_v2")() == 0) {
      function<int(unsigned, nvmlDevice_t*)>("nvmlDeviceGetHandleByIndex_v2")(0, &device_);
    }
  }
  bool works() const { return device_ != nullptr; }
  std::uint64_t held_mib(pid_t pid) const {
    nvmlProcessInfo_t processes[64];
    unsigned count = 64;
    function<int(nvmlDevice_t, unsigned*, nvmlProcessInfo_t*)>(
        "nvmlDeviceGetComputeRunningProcesses_v3")(device_, &count, processes);
    for (unsigned i = 0; i < count; ++i) {
      if (processes[i].pid == static_cast<unsigned>(pid)) return processes[i].usedGpuMemory / kMiB;
    }
    return 0;
  }

 private:
  template <class Signature>
  Signature* function(const char* name) const {
    return reinterpret_cast<Signature*>(dlsym(library_, name));
  }
  void* library_ = nullptr;
  nvmlDevice_t device_ = nullptr;
};

class OnOneGpu : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    signal(SIGPIPE, SIG_IGN);
    root_ = std::filesystem::temp_directory_path() / ("vgpu-families-" + std::to_string(getpid()));
    std::filesystem::create_directories(root_ / "state");
    std::filesystem::permissions(root_ / "state", std::filesystem::perms::owner_all);
    setenv("VGPU_SIM_STATE", (root_ / "gpu").c_str(), 1);
    setenv("VGPU_SIM_DEVICES", "h200:1", 1);
    observer_ = new Observer;
    std::string why;
    device_ = sim::DeviceState::open(why);
    ASSERT_NE(device_, nullptr) << why;
  }
  static void TearDownTestSuite() {
    delete observer_;
    std::filesystem::remove_all(root_);
  }
  void SetUp() override { device_->forget_most(0); }
  // In the limited program, after fork.
  static void become(const char* program, const char* tenant, std::uint64_t limit_mib,
                     std::vector<const char*> arguments) {
    setenv("LD_LIBRARY_PATH", VGPU_SIMULATED_DIR, 1);
    setenv("LD_PRELOAD", VGPU_LIMITER, 1);
    setenv("VGPU_STATE_DIR", (root_ / "state").c_str(), 1);
    setenv("VGPU_MEMORY_LIMIT", (std::to_string(limit_mib) + "MiB").c_str(), 1);
    tenant == nullptr ? unsetenv("VGPU_TENANT") : setenv("VGPU_TENANT", tenant, 1);
    arguments.insert(arguments.begin(), program);
    arguments.push_back(nullptr);
    execv(program, const_cast<char**>(arguments.data()));
    _exit(127);
  }
  static std::uint64_t most_ever_held_mib() { return device_->look(0).most_used_bytes / kMiB; }

  static inline std::filesystem::path root_;
  static inline Observer* observer_ = nullptr;
  static inline sim::DeviceState* device_ = nullptr;
};

class Families : public OnOneGpu, public ::testing::WithParamInterface<FamilyCase> {
 protected:
  void TearDown() override {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
  }

  void start(const FamilyCase& family) {
    int in[2];
    int out[2];
    ASSERT_EQ(pipe(in), 0);
    ASSERT_EQ(pipe(out), 0);
    child_ = fork();
    if (child_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      for (const int each : {in[0], in[1], out[0], out[1]}) close(each);
      const std::string piece = std::to_string(family.piece_mib);
      become(VGPU_FAMILY_PROBE, nullptr, family.limit_mib,
             {family.name, piece.c_str(), "8192", "--pause"});
    }
    close(in[0]);
    close(out[1]);
    to_child_ = in[1];
    from_child_ = fdopen(out[0], "r");
  }

  Stage next() {
    Stage stage;
    char* line = nullptr;
    size_t size = 0;
    if (getline(&line, &size, from_child_) > 0) {
      const std::string text = line;
      stage.pieces = number_after(text, "pieces");
      stage.asked_mib = static_cast<std::uint64_t>(number_after(text, "asked_mib"));
      stage.code = static_cast<int>(number_after(text, "code"));
      stage.seen_used_mib = static_cast<std::uint64_t>(number_after(text, "seen_used_mib"));
      stage.seen_total_mib = static_cast<std::uint64_t>(number_after(text, "seen_total_mib"));
      stage.held_mib = observer_->held_mib(child_);
    }
    free(line);
    EXPECT_EQ(write(to_child_, "\n", 1), 1);
    return stage;
  }

  pid_t child_ = -1;
  int to_child_ = -1;
  FILE* from_child_ = nullptr;
};

class KeptFamilies : public Families {};

TEST_P(Families, StopsAtTheLimitAndComesBack) {
  const FamilyCase& family = GetParam();
  ASSERT_TRUE(observer_->works());
  start(family);
  const Stage full = next();
  const Stage freed = next();
  const Stage again = next();
  const Stage freed_again = next();

  EXPECT_EQ(full.code, 2) << "CUDA_ERROR_OUT_OF_MEMORY";
  EXPECT_GT(full.pieces, 0);
  EXPECT_EQ(full.seen_total_mib, family.limit_mib);
  EXPECT_LE(full.seen_used_mib, family.limit_mib);
  EXPECT_LE(full.held_mib, family.limit_mib);
  if (family.shown) {
    EXPECT_GE(full.held_mib + kUnshownMiB + family.step_mib + 2, family.limit_mib);
    EXPECT_LE(full.held_mib, full.seen_used_mib) << "never charged less than is held";
    EXPECT_LE(full.seen_used_mib, full.held_mib + kUnshownMiB + 64 + 2)
        << "never charged much more";
  } else {
    EXPECT_GE(full.seen_used_mib + family.step_mib + 2, family.limit_mib);
  }
  const std::uint64_t kept_mib = family.shown ? 0 : driver_model::kFirstManagedBytes / kMiB;
  // What a stream takes shows at the next measurement.
  EXPECT_NEAR(static_cast<double>(freed.held_mib + kUnshownMiB + kept_mib),
              static_cast<double>(freed.seen_used_mib), 2);
  EXPECT_EQ(again.code, full.code);
  EXPECT_EQ(again.pieces, full.pieces) << "the second fill gets as much as the first";
  EXPECT_LE(again.held_mib, family.limit_mib);
  EXPECT_EQ(freed_again.seen_used_mib, freed.seen_used_mib) << "nothing leaks from round to round";
  EXPECT_LE(most_ever_held_mib(), family.limit_mib) << "at no instant";
}

// The pool is full; what was freed in it serves again, in other sizes, and the pool never grows.
TEST_P(KeptFamilies, StopAtTheLimitAndReuseWhatTheyKeep) {
  const FamilyCase& family = GetParam();
  ASSERT_TRUE(observer_->works());
  start(family);
  const Stage full = next();
  const Stage freed = next();
  const Stage again = next();
  const Stage freed_again = next();

  const std::uint64_t context_mib = driver_model::kContextBytes / kMiB;
  for (const Stage& stage : {full, again}) {
    EXPECT_EQ(stage.code, 2) << "CUDA_ERROR_OUT_OF_MEMORY";
    EXPECT_LE(stage.held_mib, kLimitMiB);
    EXPECT_GE(stage.held_mib + kUnshownMiB + family.step_mib + 2, kLimitMiB);
    EXPECT_GE(stage.asked_mib + context_mib + family.unserved_mib, kLimitMiB)
        << "refused what was there";
  }
  for (const Stage& stage : {freed, freed_again}) {
    if (family.keeps) {
      EXPECT_EQ(stage.held_mib, full.held_mib) << "the pool keeps its memory";
    }
    EXPECT_NEAR(static_cast<double>(stage.held_mib + kUnshownMiB),
                static_cast<double>(stage.seen_used_mib), 2);
  }
  EXPECT_LE(most_ever_held_mib(), kLimitMiB) << "at no instant";
}

INSTANTIATE_TEST_SUITE_P(SimulatedGpu, Families, ::testing::ValuesIn(kFamilies),
                         [](const auto& each) {
                           std::string name = each.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

INSTANTIATE_TEST_SUITE_P(SimulatedGpu, KeptFamilies, ::testing::ValuesIn(kKeptFamilies),
                         [](const auto& each) {
                           std::string name = each.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

struct RaceCase {
  const char* name;
  int processes;
  const char* threads;
  const char* piece_mib;
  const char* kind;  // of race_probe
};

const RaceCase kRaces[] = {
    {"EightThreads", 1, "8", "2", "plain"},
    {"FourProcessesOfTwoThreads", 4, "2", "2", "plain"},
    {"OneThreadOnAPool", 1, "1", "40", "pool"},
    {"TwoThreadsOnAPool", 1, "2", "40", "pool"},
    {"EightThreadsOnAPool", 1, "8", "40", "pool"},
    {"ThreeProcessesOfTwoThreadsOnPools", 3, "2", "40", "pool"},
    {"EightThreadsOnAPoolWithLargeAndSmall", 1, "8", "300", "pool"},
    {"EightThreadsOnAPoolThatGivesBack", 1, "8", "40", "giving"},
    {"ThreeProcessesOfTwoThreadsOnPoolsThatGiveBack", 3, "2", "40", "giving"},
};

class Race : public OnOneGpu, public ::testing::WithParamInterface<RaceCase> {
 protected:
  struct Racer {
    pid_t pid;
    int to;
    FILE* from;
  };
  static Racer start(const RaceCase& race) {
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) std::abort();
    const pid_t pid = fork();
    if (pid == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      become(VGPU_RACE_PROBE, race.name, kLimitMiB,
             {race.threads, race.piece_mib, "0.5", race.kind, "gate"});
    }
    close(in[0]);
    close(out[1]);
    return {pid, in[1], fdopen(out[0], "r")};
  }
};

TEST_P(Race, AtTheLimitKeepsNothingBeyondIt) {
  const RaceCase& race = GetParam();
  std::vector<Racer> racers;
  for (int i = 0; i < race.processes; ++i) racers.push_back(start(race));
  // Contexts first: whoever comes late finds no room for one.
  for (const Racer& racer : racers) {
    char word[8] = {};
    ASSERT_EQ(fscanf(racer.from, "%7s", word), 1);
  }
  for (const Racer& racer : racers) ASSERT_EQ(write(racer.to, "\n", 1), 1);
  long denied_in_all = 0;
  for (const Racer& racer : racers) {
    long held_mib = 0;
    long denied = 0;
    long errors = -1;
    EXPECT_EQ(fscanf(racer.from, "%ld %ld %ld", &held_mib, &denied, &errors), 3);
    EXPECT_EQ(errors, 0) << "another error than out of memory";
    denied_in_all += denied;
  }
  EXPECT_GT(denied_in_all, 0) << "nobody came to the limit";
  EXPECT_LE(most_ever_held_mib(), kLimitMiB) << "at no instant";
  for (const Racer& racer : racers) {
    close(racer.to);
    fclose(racer.from);
    waitpid(racer.pid, nullptr, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(SimulatedGpu, Race, ::testing::ValuesIn(kRaces),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace vgpu
