// SPDX-License-Identifier: Apache-2.0
// The head of a request, judged before a parser sees it: what would make the body's length
// ambiguous, the answer larger than the thing asked for, or the body another thing than its bytes
// is refused or left out. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vgpu::hypervisor::http {

struct RequestHead {
  int refused = 0;  // a status; 0: fine
  std::string why;
  std::string text;  // the head without what we don't follow (Range, Expect), to its empty line
  std::uint64_t body_bytes = 0;
  std::string authorization, host;
  bool expects_continue = false;
};

// `head` ends with its empty line.
RequestHead judge_head(std::string_view head, std::size_t body_bytes_max);

}  // namespace vgpu::hypervisor::http
