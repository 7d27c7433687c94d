// SPDX-License-Identifier: Apache-2.0
// Core's Memory (core/ledger.h) over a mapped segment, for one GPU. Sequentially consistent where
// the protocol's proof needs an order between different words: asks, owners, high-water marks,
// object words, holders. The others say why not.
#pragma once

#include <cstdint>

#include "segment.h"
#include "vgpu/core/ledger.h"
#include "vgpu/core/shared_objects.h"
#include "vgpu/shm/step.h"

namespace vgpu::shm {

class AtomicMemory {
 public:
  static constexpr std::uint32_t kCells = core::kAskCells;

  AtomicMemory(const Segment& segment, std::uint32_t gpu) : segment_(segment), gpu_(gpu) {}

  std::uint32_t slots() const { return segment_.slots(); }
  bool counts(std::uint32_t slot) const { return slot < kMaxSlots && segment_.is_live(slot); }

  std::uint64_t ask(std::uint32_t slot, std::uint32_t cell) const {
    return line(slot).ask[cell].load();
  }
  bool swap_ask(std::uint32_t slot, std::uint32_t cell, std::uint64_t from,
                std::uint64_t to) const {
    return line(slot).ask[cell].compare_exchange_strong(from, to);
  }
  // Release: whoever finds the cell empty finds the charge raised.
  void clear_ask(std::uint32_t slot, std::uint32_t cell) const {
    line(slot).ask[cell].store(0, std::memory_order_release);
  }

  std::uint64_t charge(std::uint32_t slot) const { return line(slot).charge.load(); }
  bool swap_charge(std::uint32_t slot, std::uint64_t from, std::uint64_t to) const {
    return line(slot).charge.compare_exchange_strong(from, to);
  }
  // Release: pairs with the load after an empty or granted cell; a charge is ordered against
  // nothing else.
  void add_charge(std::uint32_t slot, std::uint64_t amount) const {
    line(slot).charge.fetch_add(amount, std::memory_order_release);
  }
  void subtract_charge(std::uint32_t slot, std::uint64_t amount) const {
    line(slot).charge.fetch_sub(amount, std::memory_order_release);
  }
  // What the object that `slot` moves into counts already. Read after the charge word, checked by
  // rereading that.
  std::uint64_t moving_bytes(std::uint32_t slot) const {
    const std::uint32_t object = line(slot).moving_object.load();
    return object < kMaxObjects ? object_charge(object) : 0;
  }
  void set_moving_object(std::uint32_t slot, std::uint32_t object) const {
    line(slot).moving_object.store(object);
  }

  std::uint32_t objects() const { return segment_.objects(); }
  static constexpr std::uint32_t object_capacity() { return kMaxObjects; }
  std::uint64_t object(std::uint32_t object) const { return segment_.object(object).word.load(); }
  bool swap_object(std::uint32_t object, std::uint64_t from, std::uint64_t to) const {
    return segment_.object(object).word.compare_exchange_strong(from, to);
  }
  // Between these loads the object may become another one. Then the first is gone, and the other is
  // still in the charge of its exporter, which was read before.
  std::uint64_t object_charge(std::uint32_t object) const {
    const SharedObject& shared = segment_.object(object);
    if (!core::ObjectWord::unpack(shared.word.load()).counts() || shared.gpu.load() != gpu_)
      return 0;
    return std::min(shared.bytes.load(), core::kBytesMask);
  }
  core::ObjectKey object_key(std::uint32_t object) const {
    const SharedObject& shared = segment_.object(object);
    return {shared.key_high.load(), shared.key_low.load()};
  }
  // Relaxed: published by the object's word.
  void describe_object(std::uint32_t object, const core::ObjectKey& key,
                       std::uint64_t bytes) const {
    SharedObject& shared = segment_.object(object);
    shared.key_high.store(key.high, std::memory_order_relaxed);
    shared.key_low.store(key.low, std::memory_order_relaxed);
    shared.bytes.store(bytes, std::memory_order_relaxed);
    shared.gpu.store(gpu_, std::memory_order_relaxed);
  }
  void raise_objects(std::uint32_t count) const {
    raise(segment_.header().object_high_water, count);
  }
  bool holds(std::uint32_t slot, std::uint32_t object) const {
    return (segment_.held(slot).bits[object / 64].load() & bit(object)) != 0;
  }
  void set_holds(std::uint32_t slot, std::uint32_t object, bool holds) const {
    Word& word = segment_.held(slot).bits[object / 64];
    if (holds) {
      word.fetch_or(bit(object));
    } else {
      word.fetch_and(~bit(object));
    }
  }

  void step(core::Step at) const { shm::step(at); }

  static void raise(HalfWord& mark, std::uint32_t count) {
    for (std::uint32_t seen = mark.load();
         seen < count && !mark.compare_exchange_weak(seen, count);) {
    }
  }

 private:
  static constexpr std::uint64_t bit(std::uint32_t object) {
    return std::uint64_t{1} << (object % 64);
  }
  ChargeLine& line(std::uint32_t slot) const { return segment_.line(gpu_, slot); }

  const Segment& segment_;
  std::uint32_t gpu_;
};

}  // namespace vgpu::shm
