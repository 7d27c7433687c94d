// SPDX-License-Identifier: Apache-2.0
// The SIGBUS handler behind mapped_file.h.
#include "mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <mutex>

namespace vgpu::hypervisor {
namespace guard {
namespace {

struct sigaction before;  // written once, before the handler can run

void on_bus_error(int number, siginfo_t* info, void* context) {
  Region* const region = current();
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  if (region != nullptr && info->si_code > 0 && at >= region->begin && at < region->end) {
    siglongjmp(region->back, 1);
  }
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(number, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(number);
  } else {
    // Not ours: the instruction runs again and the signal does what it does by default.
    ::signal(SIGBUS, SIG_DFL);
  }
}

}  // namespace

Region*& current() {
  static thread_local Region* region = nullptr;
  return region;
}

void install() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGBUS, nullptr, &before);
    ::sigaction(SIGBUS, &action, nullptr);
  });
}

}  // namespace guard

MappedFile::MappedFile(int fd, std::size_t size, Access access) : size_(size), fd_(fd) {
  guard::install();
  const int protection = access == Access::read ? PROT_READ : PROT_READ | PROT_WRITE;
  void* const base = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (base != MAP_FAILED) base_ = static_cast<std::byte*>(base);
}

MappedFile::~MappedFile() {
  const int error = errno;
  if (base_ != nullptr) ::munmap(base_, size_);
  if (fd_ >= 0) ::close(fd_);
  errno = error;
}

}  // namespace vgpu::hypervisor
