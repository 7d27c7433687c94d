// SPDX-License-Identifier: Apache-2.0
#include "service.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <new>

#include "../enter.h"
#include "../environment.h"
#include "../limiter.h"
#include "../log.h"
#include "../pod.h"
#include "vgpu/driver/real_loader.h"
#include "vgpu/host/host.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/futex.h"

namespace vgpu::limiter {
namespace {

// Never destroyed: the thread may be inside while the process exits.
alignas(shm::Node) std::byte g_node[sizeof(shm::Node)];
alignas(host::Host) std::byte g_host[sizeof(host::Host)];

shm::Node& own_node() { return *std::launder(reinterpret_cast<shm::Node*>(g_node)); }
host::Host& own_host() { return *std::launder(reinterpret_cast<host::Host*>(g_host)); }

constexpr std::size_t kStackBytes = 512 * 1024;
// A host that hasn't looked by then, after quotas changed, isn't there any more.
constexpr std::uint64_t kHostMustLookNs = 50'000'000;

// Once for all processes of a user. Where nothing changes for the program it is told who asks.
void say_daemon_lost(shm::OnDaemonLoss policy) {
  switch (policy) {
    case shm::OnDaemonLoss::hold:
      log(LogLevel::warning, "VG2020",
          "daemon.gone the hypervisor daemon is gone: quotas hold as it left them");
      break;
    case shm::OnDaemonLoss::open:
      say("the hypervisor daemon is gone: there are no compute shares and limits until one is "
          "there again (on-daemon-loss = open)");
      break;
    case shm::OnDaemonLoss::stop:
      say("the hypervisor daemon is gone: launches wait until one is there again "
          "(on-daemon-loss = stop)");
      break;
  }
}

// By name: glibc 2.34 moved these to a new version, and the limiter loads into older ones.
template <class Function>
Function* libc_function(const char* name, Function* linked) {
#if defined(VGPU_PLAIN_EXPORTS)
  static_cast<void>(name);
  return linked;
#else
  static_cast<void>(linked);
  return reinterpret_cast<Function*>(driver::real_loader().dlsym(RTLD_DEFAULT, name));
#endif
}
#if defined(VGPU_PLAIN_EXPORTS)
#define VGPU_LIBC(name) libc_function(#name, &::name)
#else
#define VGPU_LIBC(name) libc_function<decltype(::name)>(#name, nullptr)
#endif

}  // namespace

bool begin_detached_thread(void* (*main)(void*), void* argument) {
  const auto create = VGPU_LIBC(pthread_create);
  const auto mask = VGPU_LIBC(pthread_sigmask);
  const auto set_stack = VGPU_LIBC(pthread_attr_setstacksize);
  if (create == nullptr || mask == nullptr || set_stack == nullptr) return false;
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return false;
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  set_stack(&attributes, kStackBytes);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  // The thread inherits the mask: no signal of the program's is ever taken in it.
  if (mask(SIG_SETMASK, &all, &before) != 0) return false;
  pthread_t thread;
  const bool begun = create(&thread, &attributes, main, argument) == 0;
  mask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  return begun;
}

struct ServiceStorage {
  static constinit Service service;
};
constinit Service ServiceStorage::service;

Service& Service::get() { return ServiceStorage::service; }

shm::Node* Service::node() {
  for (;;) {
    State state = state_.load(std::memory_order_acquire);
    if (state == State::open) return &own_node();
    if (state == State::unavailable) return nullptr;
    if (state == State::unopened && state_.compare_exchange_strong(state, State::opening)) open();
    sched_yield();
  }
}

void Service::follow() {
  if (state_.load(std::memory_order_acquire) == State::unopened)
    only_follows_.store(true, std::memory_order_relaxed);
  static_cast<void>(node());
}

void Service::open() {
  shm::Node* const node = new (g_node) shm::Node;
  const shm::StateDir& directory = Limiter::active()->state_directory();
  const bool opened = directory.error == 0 && shm::Node::open(directory, *node) == shm::Status::ok;
  new (g_host) host::Host(*node);
  const bool is_wanted = opened || PodFollower::get().follows();
  const bool served = is_wanted && begin_detached_thread(thread_main, this) && opened;
  if (!served) {
    say(opened ? "no thread for the arbiter can be started: compute shares don't bind this process"
               : "the state of compute shares can't be opened: they don't bind this process");
  }
  state_.store(served ? State::open : State::unavailable, std::memory_order_release);
}

void* Service::thread_main(void* self) { static_cast<Service*>(self)->serve(); }

void Service::serve() {
  ++t_depth;  // nothing that happens here is the program's doing
  ::prctl(PR_SET_NAME, "vgpu-arbiter");
  ::prctl(PR_SET_TIMERSLACK, 1'000UL);
  State state = state_.load(std::memory_order_acquire);
  for (; state == State::opening; state = state_.load(std::memory_order_acquire)) sched_yield();
  if (state != State::open) {
    for (;;) platform::futex_wait(prods_, 0, PodFollower::get().look(platform::monotonic_ns()));
  }
  shm::Node& node = own_node();
  host::Host& host = own_host();
  // Born with the first launch, it sees at once whether there is a host.
  std::uint32_t answered = only_follows_.load(std::memory_order_relaxed) ? 0 : UINT32_MAX;
  for (;;) {
    const std::uint32_t prods = prods_.load(std::memory_order_acquire);
    const std::uint64_t look_ns = std::min(PodFollower::get().look(platform::monotonic_ns()),
                                           replace_absent_host(platform::monotonic_ns()));
    // Woken for the pod alone, it leaves a host in office that nobody misses.
    const bool is_prodded = prods != answered;
    answered = prods;
    if (!host.hosts() &&
        !(is_prodded && host.take_over(platform::monotonic_ns(), waiting_since_ns_.load()))) {
      platform::futex_wait(prods_, prods, look_ns);
      continue;
    }
    if (host.take_daemon_lost()) say_daemon_lost(node.plan().policy);
    // Read before the step: what is said after it rings again.
    const std::uint32_t bell = node.doorbell().load(std::memory_order_acquire);
    const std::uint64_t wake_ns = host.step(platform::monotonic_ns());
    if (wake_ns != 0) platform::futex_wait(node.doorbell(), bell, std::min(wake_ns, look_ns));
  }
}

// The host has been rung for when quotas changed. Launches that go freely wait for nobody, so none
// of them would find out that it died. Gives when to look again.
std::uint64_t Service::replace_absent_host(std::uint64_t now_ns) {
  if (const std::uint64_t changed = PodFollower::get().take_change(); changed != 0)
    rung_ns_ = changed;
  if (rung_ns_ == 0) return UINT64_MAX;
  if (now_ns < rung_ns_ + kHostMustLookNs) return rung_ns_ + kHostMustLookNs;
  const core::Hosting lease =
      core::Hosting::unpack(own_node().host().load(std::memory_order_acquire));
  if (lease.deadline_ns < rung_ns_) static_cast<void>(own_host().take_over(now_ns, rung_ns_));
  rung_ns_ = 0;
  return UINT64_MAX;
}

void Service::expect_answer(std::uint64_t now_ns, std::uint64_t waiting_since_ns) {
  const core::Hosting lease =
      core::Hosting::unpack(own_node().host().load(std::memory_order_acquire));
  if (!lease.may_be_taken_over(now_ns, waiting_since_ns)) return;
  waiting_since_ns_.store(waiting_since_ns);
  prods_.fetch_add(1, std::memory_order_release);
  platform::futex_wake_all(prods_);
}

void Service::release() {
  if (state_.load(std::memory_order_acquire) == State::open) own_host().release();
}

void Service::reset_after_fork() {
  // Closing the file here leaves the parent's locks as they are: they belong to the open file,
  // which the parent has too.
  if (state_.load(std::memory_order_relaxed) == State::open) {
    own_host().~Host();
    own_node().~Node();
  }
  state_.store(State::unopened, std::memory_order_relaxed);
  rung_ns_ = 0;
  only_follows_.store(false, std::memory_order_relaxed);
  prods_.store(0, std::memory_order_relaxed);
  waiting_since_ns_.store(0, std::memory_order_relaxed);
}

}  // namespace vgpu::limiter
