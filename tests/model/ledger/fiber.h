// SPDX-License-Identifier: Apache-2.0
// A process of the model: code that can be left at any call of pause() and gone on with later, or
// never.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VGPU_MODEL_SANITIZED 1
#endif

namespace vgpu::model {

class Fiber {
 public:
  Fiber() : stack_(new std::byte[kStackSize]) {}
  ~Fiber() {
    forget();
    delete[] stack_;
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Code that was left in the middle is forgotten; it must not own anything.
  void start(std::function<void()> code) {
    forget();
    code_ = std::move(code);
    finished_ = false;
    entered_ = false;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_, kStackSize);
#endif
#if defined(__SANITIZE_THREAD__)
    tsan_fiber_ = __tsan_create_fiber(0);
#endif
    ::getcontext(&own_);
    own_.uc_stack.ss_sp = stack_;
    own_.uc_stack.ss_size = kStackSize;
    own_.uc_link = nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(this);
    ::makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
                  static_cast<unsigned>(address), static_cast<unsigned>(address >> 32));
  }

  bool finished() const { return finished_; }

  // Runs it to its next pause() or its end.
  void go_on() {
#if defined(__SANITIZE_THREAD__)
    tsan_caller_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_fiber_, 0);
#endif
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_, kStackSize);
#endif
#if defined(VGPU_MODEL_SANITIZED)
    ::swapcontext(&caller_, &own_);
#else
    if (::_setjmp(caller_jump_) != 0) return;
    if (!entered_) {
      entered_ = true;
      ::setcontext(&own_);
    }
    ::_longjmp(own_jump_, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  // Called by the code itself.
  void pause() { leave(false); }

 private:
  static constexpr std::size_t kStackSize = 256 * 1024;

  static void enter(unsigned low, unsigned high) {
    auto* const self = reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(low) |
                                                (static_cast<std::uintptr_t>(high) << 32));
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_size_);
#endif
    self->code_();
    self->finished_ = true;
    self->leave(true);
  }

  void leave([[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(tsan_caller_, 0);
#endif
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, caller_stack_, caller_stack_size_);
#endif
#if defined(VGPU_MODEL_SANITIZED)
    ::swapcontext(&own_, &caller_);
#else
    if (::_setjmp(own_jump_) == 0) ::_longjmp(caller_jump_, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_stack_size_);
#endif
  }

  void forget() {
#if defined(__SANITIZE_THREAD__)
    if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
    tsan_fiber_ = nullptr;
#endif
  }

  std::byte* stack_;
  ucontext_t own_{};
  ucontext_t caller_{};
  std::function<void()> code_;
  bool finished_ = true;
  bool entered_ = false;
  jmp_buf own_jump_;
  jmp_buf caller_jump_;
#if defined(__SANITIZE_ADDRESS__)
  const void* caller_stack_ = nullptr;
  std::size_t caller_stack_size_ = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan_fiber_ = nullptr;
  void* tsan_caller_ = nullptr;
#endif
};

}  // namespace vgpu::model
