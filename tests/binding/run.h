// SPDX-License-Identifier: Apache-2.0
// Starts a program with an environment of the test's own and gives back what it said and how it
// ended.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vgpu::test {

inline const std::string kLimiter = VGPU_LIMITER;  // libcuda_limiter.so

struct Ended {
  int status = -1;  // exit status, or 128 + signal
  std::string out;
  std::string err;
};

// `environment` is all that the program gets. What it writes is read to the end before it is waited
// for.
Ended run(const std::vector<std::string>& command,
          const std::map<std::string, std::string>& environment);

// How many system calls the program makes from its exec to its end; 0 where they can't be watched.
// The measure of what a preload costs at start: times vary with the machine, this doesn't.
std::size_t count_system_calls(const std::vector<std::string>& command,
                               const std::map<std::string, std::string>& environment);

// A directory that goes with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace vgpu::test
