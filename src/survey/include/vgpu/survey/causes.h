// SPDX-License-Identifier: Apache-2.0
// What held a tenant back on each of its GPUs, in words with figures: two snapshots in, sentences
// out, the weightiest first. Pure, so that every cause can be staged in a test.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/survey/snapshot.h"

namespace vgpu::survey {

enum class CauseKind : unsigned char {
  compute_limit,      // its own limit
  turn,               // others had the GPU
  daemon_gone,        // launches wait for the next one
  debt,               // it used more than it was owed, and repays
  refused_memory,     // allocations failed at its limit
  endless_neighbour,  // somebody's work doesn't end
  endless_work,       // its own work doesn't end
  no_share,           // it splits what others leave
  scaled_share,       // shares add up to more than the GPU
  best_effort,        // somebody without the limiter is on the GPU
  in_flight,          // launches waited for the work before them
  idle,               // it had nothing to do
  not_started,        // none of its processes has launched anything there
};
std::string_view cause_name(CauseKind kind);  // "compute_limit": for scripts

struct Cause {
  CauseKind kind = CauseKind::idle;
  double weight = 0;              // what it is ordered by
  std::optional<double> percent;  // of the wall time, where it is one of time
  std::string text;               // a sentence
  std::string next;               // what changes it; may be empty
};

struct Explanation {
  std::uint32_t gpu_index = 0;
  GpuUuid gpu;
  unsigned seconds = 0;  // that are judged; 0: it did nothing in those that are remembered
  double got_percent = 0;
  std::string summary;
  std::vector<Cause> causes;  // none: nothing held it back
};

// One for each GPU that the tenant uses; where it uses none, one for the first of its set.
// `before` is an earlier look, a second ago, say.
std::vector<Explanation> explain(const Snapshot& before, const Snapshot& now,
                                 std::string_view tenant_id);

}  // namespace vgpu::survey
