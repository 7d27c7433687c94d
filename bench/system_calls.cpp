// SPDX-License-Identifier: Apache-2.0
#include "system_calls.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <iterator>
#include <thread>

namespace bench {
namespace {

constexpr int kNotYet = -1;
constexpr int kImpossible = -2;

// Once installed a filter stays: hence the thread of its own.
int install_filter() {
  sock_filter report[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
  };
  const sock_fprog program{std::size(report), report};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return kImpossible;
  const long listener =
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  return listener < 0 ? kImpossible : static_cast<int>(listener);
}

// Until the watched thread is gone.
void watch(int listener, std::atomic<long>& count) {
  for (;;) {
    seccomp_notif call{};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
      if (errno == EINTR) continue;
      break;
    }
    count.fetch_add(1);
    seccomp_notif_resp go_on{};
    go_on.id = call.id;
    go_on.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
  }
  close(listener);
}

}  // namespace

std::optional<long> count_system_calls(const std::function<void()>& before,
                                       const std::function<void()>& code) {
  std::atomic<int> listener{kNotYet};
  std::atomic<long> count{0};
  long seen = 0;
  std::thread watcher([&] {
    while (listener.load() == kNotYet) std::this_thread::yield();
    if (listener.load() >= 0) watch(listener.load(), count);
  });
  std::thread watched([&] {
    before();
    // No system call may come between the filter and the word to the watcher.
    const int installed = install_filter();
    listener.store(installed);
    if (installed < 0) return;
    code();
    seen = count.load();
  });
  watched.join();
  watcher.join();
  if (listener.load() < 0) return std::nullopt;
  return seen;
}

}  // namespace bench
