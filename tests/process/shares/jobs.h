// SPDX-License-Identifier: Apache-2.0
// A simulated machine of two H200 for one test, and jobs (job.cpp) on it, each a tenant of its own
// with its compute share and limit.
#pragma once

#include <sys/types.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "board.h"

namespace vgpu::test {

using Settings = std::map<std::string, std::string>;  // VGPU_COMPUTE, ...

class Machine {
 public:
  Machine();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const std::string& folder() const { return folder_; }
  Settings environment() const;  // of a tenant's process, without limits

 private:
  std::string folder_;
};

class Job {
 public:
  // `steps`: 0 for one that goes on until it is told to stop.
  Job(const Machine& machine, const std::string& name, const std::string& what, unsigned steps,
      const Settings& settings);
  ~Job();  // kills it
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  const std::string& name() const { return name_; }
  bool is_endless() const { return steps_ == 0; }
  unsigned wanted_steps() const { return steps_; }
  bool is_ready() const;
  void go() { board_->go = 1; }
  void stop() { board_->stop = 1; }
  unsigned steps() const;  // done by all of its ranks
  bool has_ended();        // by itself, whatever it says
  bool succeeded() const { return status_ == 0; }

 private:
  std::string name_;
  unsigned steps_;
  unsigned processes_ = 1;
  unsigned ranks_ = 1;
  Board* board_ = nullptr;
  pid_t pid_ = -1;
  int status_ = -1;
};

// Lets the jobs go together and waits until those with a number of steps have done them and ended;
// then stops the others. Gives each one's steps at the moment when the first was done. A job that
// does no step for a while, or ends otherwise, fails the test.
// `look` is called now and then meanwhile.
std::vector<unsigned> run(
    std::initializer_list<Job*> jobs, const std::function<void()>& look = [] {});

}  // namespace vgpu::test
