// SPDX-License-Identifier: Apache-2.0
// Events for marks and samples. They belong to a context and end with it; what isn't in use waits
// here to be used again, so in the long run none is created. Under the gate's lock but for
// create().
#pragma once

#include <cstddef>
#include <cstdint>

#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

enum class EventKind : std::uint8_t { mark, timing };

class EventPool {
 public:
  // nullptr: none is left, create() one.
  CUevent take(std::uint64_t context, EventKind kind) {
    for (std::size_t i = count_; i-- > 0;) {
      if (spare_[i].context != context || spare_[i].kind != kind) continue;
      const CUevent event = spare_[i].event;
      spare_[i] = spare_[--count_];
      return event;
    }
    return nullptr;
  }
  // False: there is no place for it; destroy it.
  bool give_back(CUevent event, std::uint64_t context, EventKind kind) {
    if (count_ == kMost) return false;
    spare_[count_++] = {event, context, kind};
    return true;
  }
  void forget(std::uint64_t context) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      if (spare_[i].context != context) spare_[kept++] = spare_[i];
    }
    count_ = kept;
  }
  void clear() { count_ = 0; }

  // In the current context; without the lock. nullptr: the driver refuses.
  static CUevent create(EventKind kind) {
    CUevent event = nullptr;
    const unsigned flags = kind == EventKind::mark ? CU_EVENT_DISABLE_TIMING : CU_EVENT_DEFAULT;
    if (real().cuEventCreate == nullptr || real().cuEventCreate(&event, flags) != CUDA_SUCCESS)
      return nullptr;
    return event;
  }

 private:
  static constexpr std::size_t kMost = 256;
  struct Spare {
    CUevent event;
    std::uint64_t context;
    EventKind kind;
  };
  Spare spare_[kMost] = {};
  std::size_t count_ = 0;
};

}  // namespace vgpu::limiter
