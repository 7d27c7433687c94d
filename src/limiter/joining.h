// SPDX-License-Identifier: Apache-2.0
// A process without a limit or tenant of its own asks the node's daemon, over its Unix socket,
// which tenant it belongs to: the daemon decides by what the kernel says of it. Plain calls of
// libc, no thread, ten seconds at most.
#pragma once

#include "vgpu/base/fixed_string.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

struct Membership {
  enum class Answer : std::uint8_t {
    nobody,        // there is no daemon, or, with `why`, one that doesn't answer
    busy,          // it has no time yet; never the answer in the end
    none,          // nothing says that this process is a tenant's
    joined,        // `id` in `directory`
    no_directory,  // it is one's, for which this user's state directory is wanted
    refused        // it is one's, and may not be: `why`
  };
  Answer answer = Answer::nobody;
  FixedString<shm::kMaxName> id;
  shm::StateDir directory;  // by descriptors, where its name leads nowhere in this process's view
  FixedString<400> why;
};

Membership ask_for_membership();

// Where no daemon answers: the one tenant that one made for this user's processes, if there is one
// and only one, so that what it said last holds.
Membership last_membership();

}  // namespace vgpu::limiter
