// SPDX-License-Identifier: Apache-2.0
// MADV_WIPEONFORK on a private anonymous page.
#include "vgpu/platform/fork_page.h"

#include <sys/mman.h>

#include "vgpu/platform/file.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

namespace vgpu::platform {

ForkPage map_fork_page() {
  ForkPage page;
  page.address = map_private_zeroed(kForkPageSize);
  if (page.address == nullptr) return page;
  page.wiped_by_fork = ::madvise(page.address, kForkPageSize, MADV_WIPEONFORK) == 0;
  return page;
}

}  // namespace vgpu::platform
