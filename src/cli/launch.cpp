// SPDX-License-Identifier: Apache-2.0
// Front and keeper; see launch.h.
//
// Signals. The terminal's go to the whole group, so the program has them already; one that was sent
// to the front alone is handed on. To tell the two apart when a process sends to the group: the
// keeper is in that group too and keeps every signal blocked, so if the same sender's same signal
// waits for it, the program has it as well.
#include "launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <utility>

#include "vgpu/survey/problem.h"
#include "watch.h"

namespace vgpu::cli {

using survey::descendants_of, survey::kExitNotExecutable, survey::kExitNotFound,
    survey::kExitNotStarted, survey::kExitSignalBase, survey::Problem, survey::TenantHold;

namespace {

std::vector<int>& inherited_files() {
  static std::vector<int> files;
  return files;
}

enum class Kind : int {
  signal_for_program,
  program_ended,
  program_stopped,
  program_not_started,
  escaped
};

struct Message {
  Kind kind;
  int number;  // signal, exit status or errno
  int sender;  // of a signal
  char text[400];
};

void send_message(int socket, Kind kind, int number, int sender = 0, std::string_view text = {}) {
  Message message{kind, number, sender, {}};
  text.copy(message.text, sizeof message.text - 1);
  (void)send(socket, &message, sizeof message, MSG_NOSIGNAL);
}

bool receive_message(int socket, Message& message) {
  ssize_t got = 0;
  do got = recv(socket, &message, sizeof message, 0);
  while (got < 0 && errno == EINTR);
  return got == sizeof message;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const auto& string : strings) out.push_back(const_cast<char*>(string.c_str()));
  out.push_back(nullptr);
  return out;
}

void close_what_the_program_has() {
  for (const int file : inherited_files()) close(file);
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere < 0) return;
  dup2(nowhere, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  if (nowhere > STDERR_FILENO) close(nowhere);
}

bool from_a_process(int code) {
  return code <= 0;
}  // SI_USER, SI_QUEUE, SI_TKILL; the kernel's own are positive

class Keeper {
 public:
  Keeper(const Launch& launch, shm::Tenant& tenant, TenantHold hold, int front,
         const sigset_t& mask)
      : launch_(launch),
        tenant_(tenant),
        hold_(std::move(hold)),
        front_(front),
        program_mask_(mask) {}

  [[noreturn]] void run() {
    prctl(PR_SET_NAME, "vgpu-keeper");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const auto child_action = signal(SIGCHLD, SIG_DFL);
    if (!start_program(child_action == SIG_IGN)) finish();
    close_what_the_program_has();
    sigset_t all;
    sigfillset(&all);
    signals_ = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    const std::string& limiter = launch_.limiter;
    RunWatch watch(tenant_, launch_.tenant_id, limiter.substr(limiter.rfind('/') + 1),
                   launch_.gpu_files);
    while (step(watch)) {
    }
    finish();
  }

 private:
  bool start_program(bool children_were_ignored) {
    std::array<int, 2> failure{};
    if (pipe2(failure.data(), O_CLOEXEC) != 0) return false;
    const auto argv = pointers(launch_.argv), environment = pointers(launch_.environment);
    const pid_t keeper = getpid();
    program_ = fork();
    if (program_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // without a keeper nobody would see an escape
      if (getppid() != keeper) _exit(kExitNotStarted);
      if (children_were_ignored) signal(SIGCHLD, SIG_IGN);
      sigprocmask(SIG_SETMASK, &program_mask_, nullptr);
      execve(launch_.path.c_str(), argv.data(), environment.data());
      const int error = errno;
      (void)!write(failure[1], &error, sizeof error);
      _exit(kExitNotStarted);
    }
    int error = program_ < 0 ? errno : 0;
    close(failure[1]);
    if (program_ > 0 &&
        read(failure[0], &error, sizeof error) == static_cast<ssize_t>(sizeof error)) {
      waitpid(program_, nullptr, 0);
    }
    close(failure[0]);
    if (error != 0) send_message(front_, Kind::program_not_started, error);
    return error == 0;
  }

  // False when no process of the run is left.
  bool step(RunWatch& watch) {
    std::array<pollfd, 3> sources{
        {{signals_, POLLIN, 0}, {front_, POLLIN, 0}, {watch.descriptor(), POLLIN, 0}}};
    poll(sources.data(), sources.size(), watch.wait_ms());
    if ((sources[1].revents & (POLLIN | POLLHUP)) != 0) hear_front();
    drain_signals();
    if (!reap()) return false;
    if (auto escape = watch.look()) end_run(*escape);
    return true;
  }

  void hear_front() {
    Message message{};
    if (!receive_message(front_, message)) {
      // The front was killed: as if the signal had met the program.
      if (!program_ended_) kill(program_, SIGKILL);
      close(std::exchange(front_, -1));
      return;
    }
    drain_signals();
    const auto same = [&](const auto& seen) {
      return seen.first == message.number && seen.second == message.sender;
    };
    const auto seen = std::find_if(group_signals_.begin(), group_signals_.end(), same);
    if (seen != group_signals_.end()) {
      group_signals_.erase(seen);
    } else if (!program_ended_) {
      kill(program_, message.number);
    }
  }

  void drain_signals() {
    signalfd_siginfo info{};
    while (read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (static_cast<int>(info.ssi_signo) == SIGCHLD || !from_a_process(info.ssi_code)) continue;
      group_signals_.emplace_back(static_cast<int>(info.ssi_signo), static_cast<int>(info.ssi_pid));
      if (group_signals_.size() > kMaxRemembered) group_signals_.erase(group_signals_.begin());
    }
  }

  bool reap() {
    int status = 0;
    pid_t pid = 0;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
      if (pid != program_) continue;
      if (WIFSTOPPED(status)) {
        send_message(front_, Kind::program_stopped, WSTOPSIG(status));
      } else if (WIFCONTINUED(status)) {
        if (front_ >= 0) kill(getppid(), SIGCONT);
      } else {
        program_ended_ = true;
        exit_code_ = WIFSIGNALED(status) ? kExitSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
      }
    }
    const bool any_left = !(pid < 0 && errno == ECHILD);
    // What the program left behind runs on under our eyes; whoever waits for the program need not
    // wait for it.
    if (program_ended_ && any_left && front_ >= 0) leave_front();
    return any_left;
  }

  void leave_front() {
    send_message(front_, Kind::program_ended, exit_code_);
    close(std::exchange(front_, -1));
    const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
  }

  void end_run(const Escape& escape) {
    send_message(front_, Kind::escaped, 0, 0, escape.text);
    exit_code_ = kExitNotStarted;
    // Children of those that die come to us, so this ends: whoever is left is found in the next
    // round.
    while (true) {
      for (const pid_t pid : descendants_of(getpid())) kill(pid, SIGKILL);
      if (waitpid(-1, nullptr, 0) < 0 && errno == ECHILD) break;
    }
    finish();
  }

  [[noreturn]] void finish() {
    if (launch_.remove_at_end) {
      tenant_.reap();
      hold_.end(launch_.dir, tenant_);
    }
    if (front_ >= 0) send_message(front_, Kind::program_ended, exit_code_);
    _exit(0);
  }

  static constexpr std::size_t kMaxRemembered = 32;

  const Launch& launch_;
  shm::Tenant& tenant_;
  TenantHold hold_;
  int front_;
  sigset_t program_mask_;
  int signals_ = -1;
  pid_t program_ = -1;
  bool program_ended_ = false;
  int exit_code_ = kExitNotStarted;
  std::vector<std::pair<int, int>> group_signals_;  // signal and sender, seen by the whole group
};

int exit_code_for(int error) {
  if (error == ENOENT) return kExitNotFound;
  return error == EACCES || error == ENOEXEC || error == EPERM ? kExitNotExecutable
                                                               : kExitNotStarted;
}

// The front's wait. Throws Problem when the program could not be started or the run was ended.
int wait_as_front(const Launch& launch, int keeper_socket) {
  sigset_t all;
  sigfillset(&all);
  const int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  std::string escape;
  while (true) {
    std::array<pollfd, 2> sources{{{signals, POLLIN, 0}, {keeper_socket, POLLIN, 0}}};
    poll(sources.data(), sources.size(), -1);
    signalfd_siginfo info{};
    while (read(signals, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const auto signal_number = static_cast<int>(info.ssi_signo);
      if (signal_number == SIGCHLD || !from_a_process(info.ssi_code)) continue;
      send_message(keeper_socket, Kind::signal_for_program, signal_number,
                   static_cast<int>(info.ssi_pid));
    }
    if ((sources[1].revents & (POLLIN | POLLHUP)) == 0) continue;
    Message message{};
    if (!receive_message(keeper_socket, message)) {
      throw Problem(kExitNotStarted, "VG1302",
                    "the process that watches over this run was killed, so the run was ended");
    }
    switch (message.kind) {
      case Kind::program_not_started:
        throw Problem(exit_code_for(message.number), "VG1106",
                      fmt::format("{}: {}", launch.path, std::strerror(message.number)));
      case Kind::program_stopped:
        raise(SIGSTOP);
        break;
      case Kind::escaped:
        escape = message.text;
        break;
      case Kind::program_ended:
        if (!escape.empty()) throw Problem(kExitNotStarted, "VG1301", "ended the run: " + escape);
        return message.number;
      case Kind::signal_for_program:
        break;
    }
  }
}

}  // namespace

void remember_inherited_files() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const std::string name = entry.path().filename();
    int file = -1;
    std::from_chars(name.data(), name.data() + name.size(), file);
    if (file > STDERR_FILENO) inherited_files().push_back(file);
  }
  // The listing's own descriptor is among them, and closed by now.
  std::erase_if(inherited_files(), [](int file) { return fcntl(file, F_GETFD) < 0; });
}

int run_to_end(const Launch& launch, shm::Tenant& tenant, TenantHold hold) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw Problem(kExitNotStarted, "VG1303",
                  fmt::format("no socket pair: {}", std::strerror(errno)));
  }
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  const pid_t keeper = fork();
  if (keeper == 0) {
    close(ends[0]);
    Keeper(launch, tenant, std::move(hold), ends[1], before).run();
  }
  close(ends[1]);
  if (keeper < 0)
    throw Problem(kExitNotStarted, "VG1303", fmt::format("no process: {}", std::strerror(errno)));
  close_what_the_program_has();
  return wait_as_front(launch, ends[0]);
}

}  // namespace vgpu::cli
