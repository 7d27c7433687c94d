// SPDX-License-Identifier: Apache-2.0
// Those who wait for room (`vgpu run --wait`), and whoever asks without waiting while they do.
// Pure: whoever calls carries the decisions out and tells the node as it then is.
// Order: by priority, then by arrival. Whoever fits may go past one that doesn't, but past each at
// most kMostOvertaken times on GPUs that it could have had: after that the GPUs that it will use
// are held for it, and as nobody new gets in there, it is served when those in it end. Of whom an
// allowance keeps back nothing is held: no room would help.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vgpu/admission/admission.h"

namespace vgpu::admission {

inline constexpr unsigned kMostOvertaken = 8;
inline constexpr std::size_t kMostWaiting = 1024;

using Ticket = std::uint64_t;

struct Admitted {
  Ticket ticket = 0;
  std::vector<Part> parts;
};

class Queue {
 public:
  // Without waiting: like decide(), but past the others only as the order allows.
  Decision ask(const Node& node, const Wish& wish);

  // Waits until admit() serves it; nullopt when too many wait. For a wish that decide() refused
  // with `waiting_helps`.
  std::optional<Ticket> wait(const Wish& wish, Priority priority);
  void forget(Ticket ticket);

  // The next one whose turn it is, if one fits: it waits no longer. Called again, with the node as
  // it is then, until it says nullopt.
  std::optional<Admitted> admit(const Node& node);

  std::size_t size() const { return waiting_.size(); }
  // How many are before it; nullopt: it doesn't wait.
  std::optional<std::size_t> place(Ticket ticket) const;

 private:
  struct Waiting {
    Ticket ticket;
    Wish wish;
    Priority priority;
    unsigned overtaken = 0;
    std::vector<std::size_t> held;  // GPUs that nobody else gets any more; empty: none yet
  };

  static void add_held(const Waiting& waiting, std::vector<bool>& held);
  std::vector<bool> held_by_all(const Node& node) const;
  void count_overtaking(const Node& node, Ticket newer, const std::vector<Part>& parts);
  void hold(const Node& node, Waiting& waiting);
  void check_held(const Node& node);
  std::vector<std::size_t> order() const;

  std::vector<Waiting> waiting_;  // by arrival: tickets rise
  Ticket next_ = 1;
};

}  // namespace vgpu::admission
