// SPDX-License-Identifier: Apache-2.0
// Who may have what of a node's GPUs. Pure: the GPUs, the tenants and a wish come in, a place or a
// refusal goes out. No clock, no input, no output, no state: the daemon calls it from one thread.
// Room: on each GPU the memory limits add up to at most its memory and the shares to at most 100,
// unless oversubscription of that quantity is allowed and asked for. Allowance: so much of each GPU
// a user may give to their own tenants; root and the trusted group have no allowance and may change
// any tenant. A tenant without a memory limit, or without a share, is promised nothing and takes no
// room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/base/quota.h"

namespace vgpu::admission {

struct Gpu {
  std::string name;  // for messages: "GPU 0"
  std::uint64_t total_bytes = 0;
  bool usable = true;  // false: lost, or not readable
  // Why nothing new is admitted for the time being; empty: it is.
  std::string closed{};
};

// What one tenant has, or wants, of one GPU. `gpu` is its place in Node::gpus.
struct Part {
  std::size_t gpu = 0;
  std::uint64_t memory_bytes = kNoLimit;
  std::uint8_t share_percent = 0;

  friend bool operator==(const Part&, const Part&) = default;
};

struct User {
  std::uint32_t uid = 0;
  bool trusted = false;  // root, or a member of the trusted group
};

struct Tenant {
  std::string name;
  User owner;
  std::vector<Part> parts;
};

enum class Placement : std::uint8_t { binpack, spread };

struct Rules {
  // Whether it may be asked for, by quantity.
  bool oversubscribe_memory = true;
  bool oversubscribe_share = true;
  // Percent of each GPU that one user may have; nullopt: an equal part among the users on it.
  std::optional<std::uint8_t> allowance_percent;
};

struct Node {
  std::vector<Gpu> gpus;
  std::vector<Tenant> tenants;
  Rules rules;
};

// Either `named`, each with what is wanted there, or `count` GPUs with `each` of every one of them.
struct Wish {
  User user;
  std::vector<Part> named;
  std::size_t count = 0;
  Part each;
  Placement placement = Placement::binpack;
  bool oversubscribe = false;
};

enum class Rule : std::uint8_t {
  nothing_asked,  // neither GPUs nor a number of them
  unknown_gpu,    // no such GPU, or it can't be used
  gpu_twice,      // one GPU named twice
  more_gpus_than_there_are,
  share_above_100,
  more_memory_than_a_gpu,
  oversubscription_off,
  memory_limit_needed,  // whoever has an allowance must name a limit
  memory_allowance,
  share_allowance,
  memory_room,
  share_room,
  gpu_closed,  // enough room, and nothing new gets in for the time being
  gpus_held,   // enough room, kept for somebody who waits
  not_yours,   // another user's tenant
};
std::string_view rule_name(Rule rule);  // "memory_room"

// The largest that would have been granted in place of what was asked.
struct Fit {
  std::uint64_t memory_bytes = 0;  // with the share as asked
  std::uint8_t share_percent = 0;  // with the memory as asked
  std::size_t gpus = 0;            // how many GPUs have room for it as asked
};

struct Refusal {
  Rule rule = Rule::nothing_asked;
  std::size_t gpu = 0;  // where it failed: of several the one that came nearest
  Part wanted;
  Fit fit;
  std::uint64_t bound = 0;       // of the rule: the allowance, what the GPU has, 100, how many GPUs
  bool waiting_helps = false;    // an empty node would grant it
  bool oversubscribing = false;  // it was asked for, and isn't allowed for what is full
};

// One line: what was asked, the rule, what would fit.
std::string describe(const Refusal& refusal, const Node& node);

struct Decision {
  std::vector<Part> parts;         // not empty: granted like this
  std::optional<Refusal> refusal;  // else why not
  bool granted() const { return !refusal.has_value(); }
};

// `held[i]`: GPU i is kept for somebody else; empty: none is.
Decision decide(const Node& node, const Wish& wish, const std::vector<bool>& held = {});

// May `user` give `node.tenants[tenant]` these parts instead of its own? What gets lower or stays
// needs only ownership; what rises needs allowance and room on that GPU.
std::optional<Refusal> check_change(const Node& node, std::size_t tenant, const User& user,
                                    const std::vector<Part>& parts, bool oversubscribe);

// What `user` could have of a GPU now, and what remains of it where a tenant is left out of the
// sum.
struct Remaining {
  std::uint64_t memory_bytes = 0;
  std::uint8_t share_percent = 0;
};
Remaining remaining(const Node& node, std::size_t gpu, const User& user,
                    std::optional<std::size_t> without = std::nullopt);

// May `user` rename or end it?
std::optional<Refusal> check_owner(const Node& node, std::size_t tenant, const User& user);

// Percent of GPU `gpu` that `user` may give to their tenants in all; 100 for who is trusted.
std::uint8_t allowance_percent(const Node& node, std::size_t gpu, const User& user);

}  // namespace vgpu::admission
