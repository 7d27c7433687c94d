// SPDX-License-Identifier: Apache-2.0
// What a pod is told, whatever it is: a reply of HTTP (its body as an answer), an answer, a file.
// Either there is a reason, or limits that the limiter can keep.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "vgpu/pod/answer.h"
#include "vgpu/pod/file.h"
#include "vgpu/pod/http_reply.h"
#include "vgpu/pod/variables.h"

namespace {

using namespace vgpu;

void require(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "pod_fuzz: " << what << std::endl;
  std::abort();
}

void check(bool good, const pod::Limits& limits, const pod::Why& why) {
  if (!good) {
    require(!why.empty(), "a refusal without a reason");
    return;
  }
  require(!limits.gpus.empty(), "limits of no GPU");
  for (const pod::GpuLimits& gpu : limits.gpus) {
    const Quota& quota = gpu.quota;
    require(quota.memory_limit_bytes != 0, "a memory limit of nothing");
    require(quota.compute_share_percent <= 100 && quota.compute_limit_percent <= 100,
            "a percentage over 100");
    require(quota.compute_limit_percent == 0 ||
                quota.compute_limit_percent >= quota.compute_share_percent,
            "a compute limit below the share");
    require(limits.has_compute || !quota.limits_compute(), "compute of which nothing was said");
    require(find(limits, gpu.uuid) == &gpu, "a GPU twice");
  }
}

void check_answer(std::string_view body) {
  pod::Limits limits;
  pod::Why why;
  check(pod::parse_answer(body, limits, why), limits, why);
  static_cast<void>(pod::parse_success(body, why));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_answer(text);

  // The same in one piece and byte by byte.
  const auto whole = std::make_unique<pod::HttpReply>();
  const auto pieces = std::make_unique<pod::HttpReply>();
  whole->feed(text);
  for (const char& byte : text) pieces->feed({&byte, 1});
  whole->end();
  pieces->end();
  require(whole->state() == pieces->state() && whole->status() == pieces->status() &&
              whole->body() == pieces->body(),
          "a reply that depends on how it comes");
  require(whole->state() != pod::HttpReply::State::more, "a reply that goes on after its end");
  if (whole->state() == pod::HttpReply::State::complete) check_answer(whole->body());

  // As a file, and as the beginning of one of the right size.
  pod::Limits limits;
  pod::Why why;
  const auto bytes = std::as_bytes(std::span(data, size));
  check(pod::parse_file(bytes, size, limits, why), limits, why);
  std::vector<std::byte> padded(pod::kReadBytes);
  if (size > 0) std::memcpy(padded.data(), data, std::min(size, padded.size()));
  check(pod::parse_file(padded, 35'504, limits, why), limits, why);

  std::uint64_t ns = 0;
  require(!pod::parse_duration(text, ns) || ns != 0, "a duration of nothing");
  return 0;
}
