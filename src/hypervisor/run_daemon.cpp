// SPDX-License-Identifier: Apache-2.0
#include "run_daemon.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "daemon.h"
#include "node_state_json.h"
#include "notify.h"
#include "services.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

constexpr auto kLogWait = std::chrono::milliseconds(500);
constexpr std::size_t kLinesPerSecond = 200;
constexpr auto kStartWait = std::chrono::seconds(5);

// Whoever can write a segment's file can cut it while we have it mapped. Zeroes take the place of
// what is gone: every reader of segments takes them for damage.
void put_zeroes(int /*signal*/, siginfo_t* info, void* /*context*/) {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const int before = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr) / page * page;
  if (info->si_code != BUS_ADRERR ||
      mmap(reinterpret_cast<void*>(address), page, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
    std::signal(SIGBUS, SIG_DFL);  // comes again, and ends us
  }
  errno = before;
}

void survive_cut_files() {
  struct sigaction action {};
  action.sa_sigaction = put_zeroes;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

// Events as lines on standard error, as many a second as a log can bear.
void log_events(const Control& control, const std::atomic<bool>& stopping) {
  std::uint64_t next = 0;
  for (bool last = false; !last;) {
    last = stopping;
    const EventBatch batch = control.events_after(next, 4 * kLinesPerSecond,
                                                  last ? std::chrono::milliseconds(0) : kLogWait);
    if (batch.missed) fmt::print(stderr, "hypervisor: events were lost\n");
    const std::size_t shown = std::min(batch.events.size(), kLinesPerSecond);
    for (std::size_t i = 0; i < shown; ++i) {
      const Event& event = batch.events[i];
      fmt::print(stderr, "hypervisor: {} {}: {}\n", time_text(event.time_ns),
                 event_name(event.kind), survey::visible(event.text));
    }
    if (batch.events.size() > shown) {
      fmt::print(stderr, "hypervisor: {} more events\n", batch.events.size() - shown);
      std::this_thread::sleep_for(kLogWait);
    }
    next = batch.next;
  }
}

// Whoever asks for a tenant at once shall find the GPUs known; without a driver they never are.
void wait_for_driver(const Control& control) {
  const auto until = std::chrono::steady_clock::now() + kStartWait;
  StatePointer now = control.state();
  while ((now->sequence == 0 || !now->driver_is_read) && std::chrono::steady_clock::now() < until)
    now = control.state_after(now->sequence, std::chrono::milliseconds(100));
}

sigset_t awaited_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

}  // namespace

int run_daemon(const DaemonOptions& options, const std::function<DaemonOptions()>& read_again) {
  // Before any thread is: they inherit the mask.
  const sigset_t awaited = awaited_signals();
  pthread_sigmask(SIG_BLOCK, &awaited, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  survive_cut_files();

  Daemon daemon(options);
  std::atomic<bool> stopping{false};
  std::thread log([&] { log_events(daemon, stopping); });
  std::vector<std::unique_ptr<Service>> services;
  const auto stop = [&] {
    notify("STOPPING=1");
    while (!services.empty()) {
      services.back()->stop();
      services.pop_back();
    }
    stopping = true;
    daemon.stop();
    log.join();
  };
  try {
    wait_for_driver(daemon);
    services = start_services(daemon, options);
  } catch (...) {
    stop();
    throw;
  }
  notify("READY=1");

  const auto watchdog = watchdog_interval();
  const auto beat =
      watchdog ? std::min<std::chrono::microseconds>(*watchdog / 3, std::chrono::seconds(10))
               : std::chrono::microseconds(std::chrono::seconds(10));
  const timespec wait{static_cast<time_t>(beat.count() / 1'000'000),
                      static_cast<long>(beat.count() % 1'000'000 * 1000)};
  for (;;) {
    const int signal = sigtimedwait(&awaited, nullptr, &wait);
    if (signal == SIGTERM || signal == SIGINT) break;
    if (signal == SIGHUP) {
      try {
        const DaemonOptions fresh = read_again();
        daemon.reload(fresh);
        for (const auto& service : services) service->reload(fresh);
      } catch (const survey::Problem& problem) {
        fmt::print(stderr, "hypervisor: settings stay as they were: {} ({})\n", problem.what,
                   problem.code);
      }
    }
    if (watchdog && daemon.is_alive(std::chrono::seconds(5))) notify("WATCHDOG=1");
  }
  stop();
  return 0;
}

}  // namespace vgpu::hypervisor
