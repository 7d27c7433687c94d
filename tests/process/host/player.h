// SPDX-License-Identifier: Apache-2.0
// A process with a seat that works whenever its grant lets it, and hosts the arbiter when nobody
// does: what the limiter's gate and service thread do, in one thread and without a GPU. A kernel is
// half a millisecond in which it says that it is busy.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>

#include "child.h"
#include "vgpu/host/host.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/futex.h"

namespace vgpu::shm {

// What all processes of a test see.
struct Board {
  static constexpr int kPlayers = 3;
  static constexpr int kVictim = 0;
  struct Player {
    std::atomic<std::uint64_t> kernels;
    std::atomic<std::uint64_t> last_ns;
    std::atomic<std::uint64_t> longest_gap_ns;  // between two kernels; the test sets it to 0
  };
  Player players[kPlayers];
  std::atomic<bool> armed;  // the victim is to pass every step
  // Not until it has: else another one that looks at the wrong moment, on a busy machine, is host
  // from then on.
  std::atomic<bool> others_may_host;
  // When the victim halted: what it took to come there isn't what the others lose by it.
  std::atomic<std::uint64_t> halted_ns;
};

class Player {
 public:
  Player(const StateDir& dir, Board& board, int number, int share)
      : dir_(dir),
        board_(board),
        score_(board.players[number]),
        tenant_("t" + std::to_string(number)),
        is_victim_(number == Board::kVictim) {
    gpu_.bytes[0] = 0x5a;
    terms_.compute_share_percent = static_cast<std::uint8_t>(share);
    CHILD_EXPECT(Node::open(dir_, node_) == Status::ok);
    sit();
  }

  void sit() {
    CHILD_EXPECT(node_.take_seat(gpu_, tenant_, now(), number_) == Status::ok);
    seat_ = Seat(node_.seat(number_));
    seat_.set_terms(terms_);
    report_ = {};
    node_.ring();
  }
  void leave() { node_.leave_seat(number_); }
  host::Host& host() { return host_; }

  // One look at everything.
  void play() {
    const std::uint64_t at = now();
    serve(at);
    if (at < report_.busy_until_ns) return rest(report_.busy_until_ns);
    report_.done_ns = report_.work_ns;
    const std::uint32_t turn = seat_.turn().load();
    if (may_launch(at)) return launch(at);
    if (report_.want_since_ns == 0 || turn != turn_) {
      report_.want_since_ns = at;
      waiting_since_ns_ = at;
      turn_ = turn;
      seat_.report(report_);
      node_.ring();
    }
    rest(at + 200'000);
  }

 private:
  static constexpr std::uint64_t kKernelNs = 500'000;
  static std::uint64_t now() { return platform::monotonic_ns(); }

  bool may_launch(std::uint64_t at) const {
    const std::uint64_t grant = seat_.grant().load();
    return at < core::GrantWord::end_ns(grant) &&
           core::GrantWord::epoch(grant) == core::Hosting::unpack(node_.host().load()).epoch;
  }

  void launch(std::uint64_t at) {
    report_.want_since_ns = 0;
    report_.last_launch_ns = at;
    report_.busy_until_ns = at + kKernelNs;
    report_.work_ns += kKernelNs;
    seat_.report(report_);
    const std::uint64_t last = score_.last_ns.exchange(at);
    const std::uint64_t from = std::max(last, board_.halted_ns.load());
    const std::uint64_t gap = last == 0 || from > at ? 0 : at - from;
    std::uint64_t longest = score_.longest_gap_ns.load();
    while (gap > longest && !score_.longest_gap_ns.compare_exchange_weak(longest, gap)) {
    }
    score_.kernels.fetch_add(1);
  }

  void serve(std::uint64_t at) {
    const bool waits = report_.want_since_ns != 0 && (is_victim_ || board_.others_may_host);
    if (!host_.hosts() && (!waits || !host_.take_over(at, waiting_since_ns_))) return;
    const std::uint32_t bell = node_.doorbell().load();
    if (bell == bell_ && at < step_at_ns_) return;
    bell_ = bell;
    step_at_ns_ = host_.step(at);
  }

  void rest(std::uint64_t until_ns) const {
    std::atomic<std::uint32_t> nobody{0};
    platform::futex_wait(nobody, 0, std::min(until_ns, now() + 200'000));
  }

  StateDir dir_;
  Board& board_;
  Board::Player& score_;
  std::string tenant_;
  bool is_victim_;
  GpuUuid gpu_;
  Quota terms_;
  Node node_;
  host::Host host_{node_};
  std::uint32_t number_ = kNoSeat;
  Seat seat_;
  SeatReport report_;
  std::uint64_t waiting_since_ns_ = 0;
  std::uint64_t step_at_ns_ = 0;
  std::uint32_t turn_ = 0;
  std::uint32_t bell_ = 0;
};

}  // namespace vgpu::shm
