// SPDX-License-Identifier: Apache-2.0
// How workers and bench.py meet: files in a folder, because a limiter may wrap the worker in
// commands that keep its standard streams, and may put it into a container that shares the folder.
//
//   NAME.INDEX.ready   the worker stands at the line
//   go                 the common start, in nanoseconds of CLOCK_MONOTONIC
//   NAME.INDEX.json    the worker's record; it goes on working for the sake of its neighbours
//   stop               everybody's record is there; who has none yet writes what there is, as
//                      incomplete, so that whoever doesn't know for how long can say so
#pragma once

#include <string>

#include "options.h"

namespace workload {

class Rendezvous {
 public:
  Rendezvous(const std::string& folder, const std::string& name, unsigned index)
      : folder_(folder), own_(folder + "/" + name + "." + std::to_string(index)) {}

  // Says ready, waits for `go`, and returns the start; 0 when `stop` came instead.
  Nanos wait_for_start() const;
  bool stopped() const;
  bool write_record(const std::string& json) const;

 private:
  std::string folder_;
  std::string own_;
};

void sleep_until(Nanos when);

}  // namespace workload
