// SPDX-License-Identifier: Apache-2.0
// Files that processes share: mapping, and locks on single bytes that belong to an open file
// description, so that they go when the last process that inherited it is gone. A mapping keeps its
// description open even when the program closes descriptors that it doesn't know. Any thread;
// async-signal-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vgpu::platform {

// A descriptor that closes itself.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(other.take()) {}
  File& operator=(File&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = other.take();
    }
    return *this;
  }
  ~File() { close(); }

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int take() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void close();

 private:
  int fd_ = -1;
};

// Which file a descriptor or path leads to; both zero when it leads nowhere.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};
FileIdentity identity_of(int fd);
FileIdentity identity_of(const char* path);

// Another open file description of the same file, also where its name is gone.
File reopen(int fd);

enum class ByteLock : std::uint8_t { taken, held_elsewhere, unsupported };
// Takes the write lock on one byte for this description, without waiting.
ByteLock try_lock_byte(int fd, std::uint64_t offset);
void unlock_byte(int fd, std::uint64_t offset);
// Whether another description holds the byte (`taken`: nobody does).
ByteLock look_at_byte(int fd, std::uint64_t offset);

// Shared and writable; nullptr with errno on failure.
void* map_shared(int fd, std::size_t size);
void* map_shared_readonly(int fd, std::size_t size);
// Memory of this process and its forked children; zeroed.
void* map_private_zeroed(std::size_t size);
void unmap(void* address, std::size_t size);

}  // namespace vgpu::platform
