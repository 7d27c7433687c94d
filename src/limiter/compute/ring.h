// SPDX-License-Identifier: Apache-2.0
// A queue of fixed capacity. Under the gate's lock.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vgpu::limiter {

template <class T, std::size_t kCapacity>
class Ring {
  static_assert((kCapacity & (kCapacity - 1)) == 0);

 public:
  bool empty() const { return first_ == end_; }
  bool full() const { return end_ - first_ == kCapacity; }
  std::size_t size() const { return end_ - first_; }
  T& front() { return items_[first_ % kCapacity]; }
  T& operator[](std::size_t i) { return items_[(first_ + i) % kCapacity]; }
  void push(const T& item) { items_[end_++ % kCapacity] = item; }  // not when full
  void pop() { ++first_; }
  void clear() { first_ = end_; }

 private:
  std::size_t first_ = 0;
  std::size_t end_ = 0;
  T items_[kCapacity] = {};
};

}  // namespace vgpu::limiter
