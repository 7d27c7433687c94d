// SPDX-License-Identifier: Apache-2.0
// How many system calls a piece of code makes: it runs on a thread of its own under a seccomp
// filter that reports each of them to another thread, which lets it go on. Only that thread is
// watched.
#pragma once

#include <functional>
#include <optional>

namespace bench {

// `before` runs on the same thread, unwatched. Empty where the kernel doesn't let a program watch
// itself.
std::optional<long> count_system_calls(const std::function<void()>& before,
                                       const std::function<void()>& code);

}  // namespace bench
