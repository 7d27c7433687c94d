// SPDX-License-Identifier: Apache-2.0
#include "capture.h"

#include <atomic>

#include "../hooks.h"

namespace vgpu::limiter {
namespace {

// A later driver may have ways to begin a capture that aren't in driver_hooks.def.
constexpr int kNewestKnownVersion = 13000;

}  // namespace

constinit std::atomic<Captures> internal::g_captures{Captures::unknown};

Captures internal::find_captures() {
  int version = 0;
  const bool is_known = real().cuDriverGetVersion != nullptr &&
                        real().cuDriverGetVersion(&version) == CUDA_SUCCESS &&
                        version <= kNewestKnownVersion;
  Captures expected = Captures::unknown;
  const Captures found = is_known ? Captures::none_begun : Captures::begun;
  return g_captures.compare_exchange_strong(expected, found) ? found : expected;
}

namespace {
// Before the driver begins it, so that no launch into it misses it.
void begin_capture() { internal::g_captures.store(Captures::begun, std::memory_order_release); }
}  // namespace

}  // namespace vgpu::limiter

namespace vgpu::hooks {

CUresult cuStreamBeginCapture(CUstream stream) {
  limiter::begin_capture();
  return real().cuStreamBeginCapture(stream);
}

CUresult cuStreamBeginCapture_ptsz(CUstream stream) {
  limiter::begin_capture();
  return real().cuStreamBeginCapture_ptsz(stream);
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  limiter::begin_capture();
  return real().cuStreamBeginCapture_v2(stream, mode);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  limiter::begin_capture();
  return real().cuStreamBeginCapture_v2_ptsz(stream, mode);
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph,
                                     const CUgraphNode* dependencies,
                                     const CUgraphEdgeData* dependency_data,
                                     size_t num_dependencies, CUstreamCaptureMode mode) {
  limiter::begin_capture();
  return real().cuStreamBeginCaptureToGraph(stream, graph, dependencies, dependency_data,
                                            num_dependencies, mode);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph,
                                          const CUgraphNode* dependencies,
                                          const CUgraphEdgeData* dependency_data,
                                          size_t num_dependencies, CUstreamCaptureMode mode) {
  limiter::begin_capture();
  return real().cuStreamBeginCaptureToGraph_ptsz(stream, graph, dependencies, dependency_data,
                                                 num_dependencies, mode);
}

}  // namespace vgpu::hooks
