// SPDX-License-Identifier: Apache-2.0
#include "jobs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <thread>

namespace vgpu::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLongestStandstill = std::chrono::seconds(20);
constexpr auto kStart = std::chrono::seconds(60);
constexpr auto kLookEvery = std::chrono::milliseconds(2);

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

template <class Done>
bool wait_until(Clock::duration patience, Done done) {
  for (const auto deadline = Clock::now() + patience; !done();) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(kLookEvery);
  }
  return true;
}

}  // namespace

Machine::Machine() {
  std::string name = (std::filesystem::temp_directory_path() / "vgpu-jobs-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  folder_ = name;
}

Machine::~Machine() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Settings Machine::environment() const {
  return {{"PATH", "/usr/bin:/bin"},
          {"LD_LIBRARY_PATH", VGPU_SIMULATED_DIR},
          {"LD_PRELOAD", VGPU_LIMITER},
          // A finding of the thread sanitizer ends the job, and so fails the test.
          {"TSAN_OPTIONS", "halt_on_error=1"},
          // A job ends with what it holds, as most programs do.
          {"ASAN_OPTIONS", "detect_leaks=0"},
          {"VGPU_SIM_STATE", folder_ + "/gpus"},
          {"VGPU_SIM_DEVICES", "h200:2"},
          {"VGPU_STATE_DIR", folder_ + "/tenants"}};
}

Job::Job(const Machine& machine, const std::string& name, const std::string& what, unsigned steps,
         const Settings& settings)
    : name_(name), steps_(steps) {
  const bool has_ranks = what == "ranks" || what == "training" || what == "nccl-training";
  processes_ = has_ranks ? kRanks : 1;
  ranks_ = what == "consumer" || what == "saturate" ? 1 : kRanks;
  const std::string path = machine.folder() + "/" + name;
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(Board)) != 0) throw std::runtime_error(path);
  void* const page = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (page == MAP_FAILED) throw std::runtime_error("mmap");
  board_ = static_cast<Board*>(page);

  std::vector<std::string> arguments = {VGPU_JOB, path, what, std::to_string(steps)};
  Settings all = machine.environment();
  all["VGPU_TENANT"] = name;
  all.insert(settings.begin(), settings.end());
  std::vector<std::string> entries;
  for (const auto& [variable, value] : all) entries.push_back(variable + "=" + value);
  const auto argv = pointers_to(arguments);
  const auto envp = pointers_to(entries);
  pid_ = fork();
  if (pid_ == 0) {
    setpgid(0, 0);  // so that its children can be killed with it
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
}

Job::~Job() {
  if (pid_ > 0) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  munmap(board_, sizeof(Board));
}

bool Job::is_ready() const {
  return std::all_of(board_->ready, board_->ready + processes_,
                     [](const auto& ready) { return ready != 0; });
}

unsigned Job::steps() const { return *std::min_element(board_->steps, board_->steps + ranks_); }

bool Job::has_ended() {
  if (pid_ <= 0) return true;
  if (waitpid(pid_, &status_, WNOHANG) != pid_) return false;
  pid_ = -1;
  return true;
}

std::vector<unsigned> run(std::initializer_list<Job*> jobs, const std::function<void()>& look) {
  const auto all = [jobs](auto holds) { return std::all_of(jobs.begin(), jobs.end(), holds); };
  const bool began = wait_until(
      kStart, [&] { return all([](Job* job) { return job->is_ready() || job->has_ended(); }); });
  EXPECT_TRUE(began) << "a job did not begin";
  for (Job* job : jobs) job->go();

  struct Progress {
    unsigned steps = 0;
    Clock::time_point at = Clock::now();
  };
  std::vector<Progress> progress(jobs.size());
  std::vector<unsigned> at_first_end;
  const auto stands_still = [&](std::size_t index) {
    Job& job = *jobs.begin()[index];
    Progress& last = progress[index];
    const auto now = Clock::now();
    if (job.steps() != last.steps) last = {job.steps(), now};
    if (job.has_ended() || now - last.at < kLongestStandstill) return false;
    ADD_FAILURE() << job.name() << " stands still after " << last.steps << " steps";
    return true;
  };
  bool done = !began;
  while (!done) {
    std::this_thread::sleep_for(kLookEvery);
    look();
    for (std::size_t i = 0; i < jobs.size(); ++i) done = stands_still(i) || done;
    const bool first = std::any_of(jobs.begin(), jobs.end(), [](const Job* job) {
      return !job->is_endless() && job->steps() == job->wanted_steps();
    });
    if (first && at_first_end.empty())
      for (const Job* job : jobs) at_first_end.push_back(job->steps());
    done = done || all([](Job* job) { return job->is_endless() || job->has_ended(); });
  }
  for (Job* job : jobs) job->stop();
  wait_until(kLongestStandstill, [&] { return all([](Job* job) { return job->has_ended(); }); });
  for (Job* job : jobs) {
    EXPECT_TRUE(job->has_ended() && job->succeeded()) << job->name() << " did not end well";
    EXPECT_GE(job->steps(), job->wanted_steps()) << job->name();
  }
  at_first_end.resize(jobs.size());
  return at_first_end;
}

}  // namespace vgpu::test
