// SPDX-License-Identifier: Apache-2.0
// Streams and events, as far as the rest of the driver puts work into them.
#pragma once

#include "driver.h"
#include "engine.h"

struct CUevent_st : vgpu::sim::Handle<CUevent_st> {
  static constexpr std::uint32_t kMagic = 0x45564e31;
  CUcontext context = nullptr;
  unsigned flags = 0;
  std::shared_ptr<vgpu::sim::EventState> state;
  std::uint64_t capture_id = 0;  // recorded in a capture that may still go on: by these nodes
  std::vector<CUgraphNode> captured;
};

namespace vgpu::sim {

// Puts an operation into a stream, behind what the legacy stream's rules demand.
std::uint64_t enqueue(Call& call, CUstream stream, Op&& op);
unsigned stream_sms(CUstream stream);
Op record_op(CUevent event);
Op wait_op(CUevent event);
Op memory_op(const CUstreamBatchMemOpParams& params);

}  // namespace vgpu::sim
