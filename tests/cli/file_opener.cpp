// SPDX-License-Identifier: Apache-2.0
// Opens the file that it is told and waits to be killed: a stand-in for a program that uses a GPU's
// device file itself. Built statically, so that nothing can be preloaded into it, and once
// dynamically. With --count-signals it counts the first real-time signal until the second one comes
// (those queue, where two USR1 would look like one).
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

namespace {

int count_signals() {
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGRTMIN);
  sigaddset(&both, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &both, nullptr);
  std::puts("ready");
  std::fflush(stdout);
  int count = 0;
  while (sigwaitinfo(&both, nullptr) == SIGRTMIN) {
    ++count;
    std::puts("got");
    std::fflush(stdout);
  }
  std::printf("count %d\n", count);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 0;
  if (std::strcmp(argv[1], "--count-signals") == 0) return count_signals();
  const int file = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return 1;
  while (true) pause();
}
