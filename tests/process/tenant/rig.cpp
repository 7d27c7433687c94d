// SPDX-License-Identifier: Apache-2.0
#include "rig.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include <vector>

#include "vgpu/sim/device_state.h"

namespace vgpu::test {
namespace {

constexpr int kPatienceMs = 60'000;

// fork, or where a pid is wanted clone3 with it; -1 where that isn't allowed or the pid is taken.
pid_t fork_as(pid_t wanted) {
  if (wanted == 0) return fork();
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
}

}  // namespace

Worker::Worker(const Environment& environment, std::vector<std::string> arguments, pid_t pid) {
  arguments.insert(arguments.begin(), VGPU_WORKER);
  std::vector<char*> argv;
  for (std::string& word : arguments) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<std::string> entries;
  for (const auto& [name, value] : environment) entries.push_back(name + "=" + value);
  std::vector<char*> envp;
  for (std::string& entry : entries) envp.push_back(entry.data());
  envp.push_back(nullptr);
  int to[2];
  int from[2];
  if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  pid_ = fork_as(pid);
  if (pid_ == 0) {
    dup2(to[0], 0);
    dup2(from[1], 1);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  to_ = to[1];
  from_ = from[0];
}

Worker::Worker(Worker&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      to_(std::exchange(other.to_, -1)),
      from_(std::exchange(other.from_, -1)) {}

Worker::~Worker() {
  signal(SIGKILL);
  reap();
  if (to_ >= 0) close(to_);
  if (from_ >= 0) close(from_);
}

void Worker::tell(const std::string& command) {
  const std::string line = command + "\n";
  // A worker that is dead is found out when its answer is read.
  [[maybe_unused]] const ssize_t written = write(to_, line.data(), line.size());
}

Answer Worker::answer() {
  std::string line;
  char byte = 0;
  pollfd readable{from_, POLLIN, 0};
  // A worker that waits for somebody for ever has not answered.
  while (poll(&readable, 1, kPatienceMs) == 1 && read(from_, &byte, 1) == 1 && byte != '\n')
    line += byte;
  Answer answer;
  if (byte != '\n' || std::sscanf(line.c_str(), "%d %ld", &answer.code, &answer.number) != 2)
    return {};
  return answer;
}

Answer Worker::ask(const std::string& command) {
  tell(command);
  return answer();
}

bool Worker::has_answered() const {
  pollfd readable{from_, POLLIN, 0};
  return poll(&readable, 1, 0) > 0;
}

void Worker::signal(int number) {
  if (pid_ > 0) kill(pid_, number);
}

void Worker::kill_and_leave() {
  signal(SIGKILL);
  siginfo_t ignored{};
  waitid(P_PID, static_cast<id_t>(pid_), &ignored, WEXITED | WNOWAIT);
}

bool Worker::reap() {
  if (pid_ <= 0) return false;
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

Rig::Rig(long limit_mib) : limit_mib_(limit_mib) {
  std::string name = (std::filesystem::temp_directory_path() / "vgpu-rig-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  folder_ = name;
  ::signal(SIGPIPE, SIG_IGN);
  observer_.emplace(outside());
  idle_bytes_ = observer_->ask("driver").number;
  for (const char* variable : {"VGPU_SIM_STATE", "VGPU_SIM_DEVICES"})
    setenv(variable, outside().at(variable).c_str(), 1);
  std::string why;
  device_ = sim::DeviceState::open(why);
  if (device_ == nullptr) throw std::runtime_error(why);
  // The simulation never detaches, so what it opened stays reachable to the end.
  static auto* const opened = new std::vector<sim::DeviceState*>;
  opened->push_back(device_);
}

Rig::~Rig() {
  observer_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Environment Rig::outside() const {
  return {{"PATH", "/usr/bin:/bin"},
          {"LD_LIBRARY_PATH", VGPU_SIMULATED_DIR},
          {"VGPU_SIM_STATE", folder_ + "/gpus"},
          {"VGPU_SIM_DEVICES", "h200"},
          {"VGPU_STATE_DIR", folder_ + "/tenants"}};
}

Environment Rig::inside(const std::string& fault) const {
  Environment environment = outside();
  environment["LD_PRELOAD"] = VGPU_LIMITER;
  // A worker is killed, not waited for, so a finding of the thread sanitizer has to end it at once.
  environment["TSAN_OPTIONS"] = "halt_on_error=1";
  environment["VGPU_TENANT"] = "rig";
  environment["VGPU_MEMORY_LIMIT"] = std::to_string(limit_mib_) + "MiB";
  if (!fault.empty()) environment["VGPU_SIM_FAULT"] = fault;
  return environment;
}

Worker Rig::member(const std::string& fault) const {
  Worker worker(inside(fault));
  if (worker.ask("context").code != 0) throw std::runtime_error("no context");
  return worker;
}

long Rig::driver_bytes() const { return observer_->ask("driver").number - idle_bytes_; }

long Rig::most_driver_bytes() const {
  const auto most = static_cast<long>(device_->look(0).most_used_bytes);
  device_->forget_most(0);
  return most;
}

long eventually(long wanted, const std::function<long()>& ask, std::chrono::seconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  long last = ask();
  while (last != wanted && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    last = ask();
  }
  return last;
}

void expect_a_fifth_to_hold(const std::function<double(int percent)>& done_under) {
  double all = done_under(100);
  double fifth = done_under(20);
  for (int again = 0; again < 4 && fifth >= 0.45 * all; ++again) {
    all = std::max(all, done_under(100));
    fifth = std::min(fifth, done_under(20));
  }
  EXPECT_GT(fifth, 0.02 * all);
  EXPECT_LT(fifth, 0.45 * all);
}

int rounds(int otherwise) {
  const char* text = std::getenv("VGPU_ROUNDS");
  return text == nullptr ? otherwise : std::atoi(text);
}

}  // namespace vgpu::test
