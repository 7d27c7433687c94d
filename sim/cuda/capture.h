// SPDX-License-Identifier: Apache-2.0
// Stream capture: which calls it forbids, and where a captured operation goes.
#pragma once

#include <set>

#include "driver.h"
#include "graph.h"

namespace vgpu::sim {

struct Capture {
  CUgraph graph = nullptr;
  bool to_graph = false;  // the caller's own graph
  std::uint64_t id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::uint64_t thread = 0;
  CUstream origin = nullptr;
  bool invalidated = false;
  std::set<CUstream> streams;
};

// Calls that could disturb a capture (allocation, synchronisation with anything): refused as the
// thread's capture mode says, and the captures in question are lost.
CUresult refuse_unsafe_in_capture(Call& call);
// Before anything is put into a stream: whether it is captured, or an error.
CUresult route(Call& call, CUstream stream, bool& captured);
// Before a stream or its context is waited for or asked.
CUresult refuse_if_capturing(CUstream stream);
CUresult refuse_if_context_captures(Call& call);
Capture* find_capture(std::uint64_t id);  // null: over
CUresult capture_node(CUstream stream, NodeBody&& body, CUgraphNode* out = nullptr);

}  // namespace vgpu::sim
