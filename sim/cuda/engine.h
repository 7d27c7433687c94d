// SPDX-License-Identifier: Apache-2.0
// Executes what streams hold, in stream order and real time. A discrete simulation that follows the
// clock: whoever waits or asks advances it to now, a thread of its own (born with the first work)
// does when nobody else does, and start and end times are exact even if it comes late. Kernels run
// only in the process's turns on the device (device_state.h). Under the driver's mutex; long copies
// and host functions run outside of it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "driver.h"

namespace vgpu::sim {

struct EventState {
  std::uint64_t recorded = 0;  // how often a record was submitted
  std::uint64_t done = 0;      // the last record that was reached
  std::uint64_t time_ns = 0;   // when
};

struct Op {
  enum class Type : std::uint8_t { kernel, transfer, host, record, wait_event, wait_value, marker };
  enum class State : std::uint8_t { queued, running, executing };
  struct Point {
    Lane* lane;
    std::uint64_t ticket;
  };

  Type type = Type::marker;
  State state = State::queued;
  bool on_sms = false;  // runs in the process's turns only
  bool heavy = false;   // its work takes long: done outside of the mutex
  bool prompt = false;  // somebody outside may watch its effect, so it must not be late
  std::uint8_t value_bytes = 0;
  unsigned value_flags = 0;
  std::uint64_t ticket = 0;
  std::uint64_t submit_ns = 0;
  std::uint64_t remaining_ns = 0;
  std::uint64_t work_ns = 0;  // on the SMs, in all; kNeverEnds: nobody knows
  std::uint64_t resume_ns = 0;
  // A kernel's grid: of the device's resident threads it holds so many at a time, for which its
  // blocks run in waves.
  std::uint64_t threads = 0;
  std::uint64_t blocks = 0;
  std::uint64_t block_threads = 0;
  std::uint64_t wave_ns = 0;
  // A kernel that meets others in memory: when it begins it adds 1 to the word there (0: to none,
  // or it has), then stays on the SMs until the value at `address` matches.
  std::uint64_t arrives_at = 0;
  bool spins = false;
  bool meets() const { return arrives_at != 0 || spins; }
  std::vector<Point> after;
  std::function<void()> work;
  std::shared_ptr<EventState> event;
  std::uint64_t generation = 0;
  std::uint64_t address = 0;
  std::uint64_t value = 0;
};

// The queue behind a stream. Never freed, and tickets only grow, so a point in an old lane is
// simply reached.
struct Lane {
  Device* device = nullptr;
  int priority = 0;
  bool active = false;
  bool orphan = false;  // its stream is gone
  std::deque<Op> queue;
  std::uint64_t submitted = 0;  // ticket of the last op
  std::uint64_t completed = 0;
  bool on_sms = true;  // what ended last ran on them, or nothing has yet
  bool idle() const { return queue.empty(); }
};

class Engine {
 public:
  static Engine& get();

  Lane* new_lane(Device& device, int priority);
  void retire_lane(Lane* lane);  // idle ones only
  std::uint64_t submit(Lane& lane, Op&& op);
  // Brings everything up to now.
  void advance(std::unique_lock<std::mutex>& lock);
  void drain(std::unique_lock<std::mutex>& lock, Lane& lane) {
    wait_for(lock, lane, lane.submitted);
  }
  void wait_for(std::unique_lock<std::mutex>& lock, Lane& lane, std::uint64_t ticket);
  void wait_for(std::unique_lock<std::mutex>& lock, const std::shared_ptr<EventState>& event,
                std::uint64_t generation);
  // Everything that the context's streams hold by now.
  void drain(std::unique_lock<std::mutex>& lock, CUcontext context);
  std::uint64_t time() const { return clock_ns_; }

 private:
  struct Sm {  // one device's multiprocessors, as far as this process is concerned
    bool wanted = false;
    bool held = false;
    bool lost = false;
    std::uint64_t start_ns = 0;
    std::uint64_t lost_ns = 0;
    Turn next;
    std::uint64_t retry_ns = 0;
    // Of all that is queued for it or running on it: what takes a known time, and how much doesn't.
    std::uint64_t work_ns = 0;
    std::uint64_t endless = 0;
    std::uint64_t threads = 0;
    int running = 0;
    std::uint64_t busy_from_ns = 0;
    std::uint64_t last_end_ns = 0;

    void add_work(std::uint64_t ns) { ns == kNeverEnds ? ++endless : work_ns += ns; }
    void remove_work(std::uint64_t ns) { ns == kNeverEnds ? --endless : work_ns -= ns; }
    std::uint64_t needs_ns() const { return endless != 0 ? kNeverEnds : work_ns; }
  };

  template <class Done>
  void wait(std::unique_lock<std::mutex>& lock, Done done);
  Sm& sm(const Device& device) { return sms_[static_cast<std::size_t>(device.index())]; }
  void refresh_turns(std::uint64_t now);
  void adopt_turn(int device, const Turn& turn);
  void pause_device(int device, std::uint64_t at);
  bool start_ready();
  bool start_queued(Lane& lane);
  bool has_turn(Lane& lane);
  bool needs_turn(const Lane& lane) const;
  void start_on_sms(Lane& lane);
  bool fit(Op& op, const Lane& lane) const;
  bool meet();
  bool complete_due();
  void pop(Lane& lane);
  void release_turns();
  void report_busy();
  std::uint64_t next_internal() const;
  std::uint64_t next_event() const;
  std::uint64_t next_wake(std::uint64_t now) const;
  void poke(bool prompt);
  void thread_main();
  void callback_main();
  static bool reached(const Op& op);
  static bool value_matches(const Op& op);

  std::vector<Lane*> active_;
  std::vector<Lane*> spare_;
  std::array<Sm, kMaxDevices> sms_;
  std::uint64_t clock_ns_ = 0;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t sleeping_until_ = 0;
  std::uint64_t last_active_ns_ = 0;
  int prompt_ops_ = 0;
  int waiters_ = 0;
  bool has_news_ = false;
  bool has_thread_ = false;
  bool has_callback_thread_ = false;
  std::condition_variable finished_;
  std::condition_variable callbacks_;
  std::deque<Lane*> callback_queue_;
  Lane* heavy_lane_ = nullptr;  // found by start_ready: its work has to run outside of the mutex
};

}  // namespace vgpu::sim
