// SPDX-License-Identifier: Apache-2.0
// What the tool says when it can't do what was asked: what and why in one line, a stable code, and
// the next step. Thrown by the verbs, printed once by main. Tests match the codes, people read the
// text.
#pragma once

#include <string>
#include <utility>

namespace vgpu::survey {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotStarted =
    125;  // run, exec: not startable as asked, or ended because it would escape
inline constexpr int kExitNotExecutable = 126;  // run, exec: found, but can't be executed
inline constexpr int kExitNotFound = 127;       // run, exec: no such program
inline constexpr int kExitSignalBase = 128;  // run, exec: 128 + n when signal n ended the program

struct Problem {
  Problem(int exit_code_in, std::string code_in, std::string what_in, std::string next_in = "")
      : exit_code(exit_code_in),
        code(std::move(code_in)),
        what(std::move(what_in)),
        next(std::move(next_in)) {}

  int exit_code;
  std::string code;  // "VG1004"
  std::string what;  // one line
  std::string next;  // a command or an advice, may be empty
};

}  // namespace vgpu::survey
