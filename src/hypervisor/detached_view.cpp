// SPDX-License-Identifier: Apache-2.0
#include "detached_view.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace vgpu::hypervisor {
namespace {

// By number: Debian 12's C library has no wrappers. The same on all architectures.
constexpr long kSysOpenTree = 428, kSysMountSetattr = 442;
constexpr unsigned kClone = 1, kCloseOnExec = O_CLOEXEC;  // OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC
constexpr unsigned kNoFollow = AT_SYMLINK_NOFOLLOW;

struct MountAttributes {  // the kernel's mount_attr
  std::uint64_t set = 0;
  std::uint64_t clear = 0;
  std::uint64_t propagation = 0;
  std::uint64_t user_namespace = 0;
};
constexpr std::uint64_t kReadOnly = 0x1, kNoSetuid = 0x2, kNoDevices = 0x4, kNoPrograms = 0x8;

}  // namespace

platform::File detached_view(const std::string& directory, View view) {
  platform::File tree(static_cast<int>(
      syscall(kSysOpenTree, AT_FDCWD, directory.c_str(), kClone | kCloseOnExec | kNoFollow)));
  if (!tree.is_open()) return tree;
  MountAttributes attributes;
  attributes.set =
      kNoSetuid | kNoDevices | kNoPrograms | (view == View::to_read ? kReadOnly : std::uint64_t{0});
  if (syscall(kSysMountSetattr, tree.fd(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    tree.close();
  return tree;
}

}  // namespace vgpu::hypervisor
