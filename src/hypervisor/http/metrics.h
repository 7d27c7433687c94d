// SPDX-License-Identifier: Apache-2.0
// The node's figures as Prometheus wants them: base units, ratios from 0 to 1, counters that end in
// _total. What isn't known has no sample.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "node_state.h"
#include "server.h"

namespace vgpu::hypervisor::http {

// What the daemon's own process uses, from /proc/self.
struct OwnFigures {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double open_files = 0;
};
OwnFigures read_own_figures();

// Pure.
std::vector<prometheus::MetricFamily> metrics_of(const NodeState& state,
                                                 const ServerFigures& server,
                                                 const OwnFigures& own);
std::string metrics_text(const std::vector<prometheus::MetricFamily>& families);

}  // namespace vgpu::hypervisor::http
