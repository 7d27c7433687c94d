// SPDX-License-Identifier: Apache-2.0
// The order of those who wait.
#include "vgpu/admission/queue.h"

#include <algorithm>
#include <tuple>

namespace vgpu::admission {
namespace {

bool concerns_room(const Node& node, const Wish& wish) {
  const Decision decision = decide(node, wish);
  if (decision.granted()) return true;
  const Rule rule = decision.refusal->rule;
  return decision.refusal->waiting_helps && (rule == Rule::memory_room || rule == Rule::share_room);
}

// Whether a GPU that was given away is one that `wish` could have used.
bool could_use(const Node& node, const Wish& wish, std::size_t gpu) {
  if (!wish.named.empty()) {
    return std::any_of(wish.named.begin(), wish.named.end(),
                       [&](const Part& part) { return part.gpu == gpu; });
  }
  return wish.each.memory_bytes == kNoLimit || wish.each.memory_bytes <= node.gpus[gpu].total_bytes;
}

std::uint64_t free_memory(const Node& node, std::size_t gpu) {
  std::uint64_t used = 0;
  for (const Tenant& tenant : node.tenants) {
    for (const Part& part : tenant.parts) {
      if (part.gpu == gpu && part.memory_bytes != kNoLimit)
        used = used > UINT64_MAX - part.memory_bytes ? UINT64_MAX : used + part.memory_bytes;
    }
  }
  const std::uint64_t total = node.gpus[gpu].total_bytes;
  return total > used ? total - used : 0;
}

}  // namespace

std::vector<std::size_t> Queue::order() const {
  std::vector<std::size_t> places(waiting_.size());
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = i;
  // Those who were overtaken too often come first, by arrival, whatever their priority.
  const auto key = [&](std::size_t i) {
    const Waiting& one = waiting_[i];
    const bool due = !one.held.empty();
    return std::tuple(!due, due ? 0 : -static_cast<int>(one.priority), one.ticket);
  };
  std::sort(places.begin(), places.end(),
            [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
  return places;
}

void Queue::add_held(const Waiting& waiting, std::vector<bool>& held) {
  for (const std::size_t gpu : waiting.held) {
    if (gpu < held.size()) held[gpu] = true;
  }
}

std::vector<bool> Queue::held_by_all(const Node& node) const {
  std::vector<bool> held(node.gpus.size(), false);
  for (const Waiting& waiting : waiting_) add_held(waiting, held);
  return held;
}

// The GPUs that `waiting` will have: those it named, or the emptiest that are big enough and held
// for nobody else. Chosen once, so that the wait has an end.
void Queue::hold(const Node& node, Waiting& waiting) {
  if (!waiting.wish.named.empty()) {
    for (const Part& part : waiting.wish.named) waiting.held.push_back(part.gpu);
    return;
  }
  const std::vector<bool> others = held_by_all(node);
  std::vector<std::size_t> candidates;
  for (std::size_t gpu = 0; gpu < node.gpus.size(); ++gpu) {
    if (node.gpus[gpu].usable && !others[gpu] && could_use(node, waiting.wish, gpu))
      candidates.push_back(gpu);
  }
  if (candidates.size() < waiting.wish.count) return;  // later, when others have been served
  std::stable_sort(candidates.begin(), candidates.end(), [&](std::size_t a, std::size_t b) {
    return free_memory(node, a) > free_memory(node, b);
  });
  candidates.resize(waiting.wish.count);
  waiting.held = candidates;
}

// What is held follows the node: a GPU that is gone is held no longer, one that no room can help
// lets go, and whoever was overtaken often enough gets its own.
void Queue::check_held(const Node& node) {
  for (Waiting& waiting : waiting_) {
    const bool gone = std::any_of(waiting.held.begin(), waiting.held.end(), [&](std::size_t gpu) {
      return gpu >= node.gpus.size() || !node.gpus[gpu].usable;
    });
    const bool due = waiting.overtaken >= kMostOvertaken && concerns_room(node, waiting.wish);
    if (gone || !due) waiting.held.clear();
    if (due && waiting.held.empty()) hold(node, waiting);
  }
}

void Queue::count_overtaking(const Node& node, Ticket newer, const std::vector<Part>& parts) {
  for (Waiting& waiting : waiting_) {
    if (waiting.ticket >= newer) break;
    const bool in_its_way = std::any_of(parts.begin(), parts.end(), [&](const Part& part) {
      return could_use(node, waiting.wish, part.gpu);
    });
    if (in_its_way && concerns_room(node, waiting.wish)) ++waiting.overtaken;
  }
}

Decision Queue::ask(const Node& node, const Wish& wish) {
  check_held(node);
  Decision decision = decide(node, wish, held_by_all(node));
  if (decision.granted()) count_overtaking(node, next_, decision.parts);
  return decision;
}

std::optional<Ticket> Queue::wait(const Wish& wish, Priority priority) {
  if (waiting_.size() >= kMostWaiting) return std::nullopt;
  waiting_.push_back({next_, wish, priority, 0, {}});
  return next_++;
}

void Queue::forget(Ticket ticket) {
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.ticket == ticket; });
}

std::optional<std::size_t> Queue::place(Ticket ticket) const {
  std::size_t before = 0;
  for (const std::size_t i : order()) {
    if (waiting_[i].ticket == ticket) return before;
    ++before;
  }
  return std::nullopt;
}

std::optional<Admitted> Queue::admit(const Node& node) {
  check_held(node);
  std::vector<bool> held(node.gpus.size(), false);  // for those before the one at hand
  for (const std::size_t i : order()) {
    const Ticket ticket = waiting_[i].ticket;
    const Decision decision = decide(node, waiting_[i].wish, held);
    if (!decision.granted()) {
      add_held(waiting_[i], held);
      continue;
    }
    forget(ticket);
    count_overtaking(node, ticket, decision.parts);
    return Admitted{ticket, decision.parts};
  }
  return std::nullopt;
}

}  // namespace vgpu::admission
