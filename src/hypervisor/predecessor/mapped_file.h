// SPDX-License-Identifier: Apache-2.0
// A mapping of a file that others may cut short at any moment. Touching what was cut off raises
// SIGBUS, which would end the daemon; touch() turns it into `false`. The first use installs the
// handler for the process; a SIGBUS from anywhere else goes where it went before. Any thread.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <string>
#include <utility>

namespace vgpu::hypervisor {

namespace guard {
struct Region {
  const std::byte* begin = nullptr;
  const std::byte* end = nullptr;
  sigjmp_buf back;
};
void install();
// The region that this thread is touching, or nullptr.
Region*& current();
}  // namespace guard

class MappedFile {
 public:
  enum class Access : unsigned char { read, write };

  MappedFile() = default;
  // Takes the descriptor over. errno is set where is_open() is false afterwards.
  MappedFile(int fd, std::size_t size, Access access);
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~MappedFile();

  bool is_open() const { return base_ != nullptr; }
  int fd() const { return fd_; }
  // For files that nobody else knows yet.
  std::byte* base() const { return base_; }
  std::size_t size() const { return size_; }

  // Runs access(base). False: the file has become shorter, and `access` was left where it stood:
  // it must own nothing that wants a destructor, and what it has written may be half of what it
  // meant to.
  template <class F>
  bool touch(F&& access) const {
    guard::Region region;
    region.begin = base_;
    region.end = base_ + size_;
    guard::Region*& slot = guard::current();
    guard::Region* const outer = slot;
    // The signal isn't masked in its handler (SA_NODEFER), so there is no mask to bring back.
    if (sigsetjmp(region.back, 0) != 0) {
      guard::current() = outer;
      return false;
    }
    slot = &region;
    std::forward<F>(access)(base_);
    slot = outer;
    return true;
  }

 private:
  void swap(MappedFile& other) {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(fd_, other.fd_);
  }
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  int fd_ = -1;
};

}  // namespace vgpu::hypervisor
