// SPDX-License-Identifier: Apache-2.0
// Can the limiter get into this program? Finds what a command would execute and reads its ELF
// headers: what the dynamic loader would not preload into (static, setuid, foreign libc, other
// architecture) is refused before the start, and so are programs whose work happens in processes
// that aren't children of the run (sudo, docker, tmux). Reads files, executes nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vgpu::survey {

enum class Linking : unsigned char {
  preloadable,  // dynamic, glibc, this architecture
  script,       // "#!": `interpreter` is what runs
  no_format,    // neither: a shell would run it
  static_program,
  foreign_libc,  // `interpreter` isn't glibc's loader
  other_architecture,
  shared_library,  // the loader itself or a library: nothing to preload into
  privileged,      // setuid, setgid or file capabilities: the loader ignores LD_PRELOAD
  unreadable,
};

struct ProgramFile {
  Linking linking = Linking::unreadable;
  std::string interpreter;  // of a script (with its path) or an ELF file
  std::vector<std::string>
      script_words;  // what follows the interpreter in a "#!" line, split as `env -S` would
  std::string why;   // in words, for the refusal: "statically linked"
};

// Looks at one file.
ProgramFile inspect_program(const std::string& path);

struct Command {
  std::string path;  // what to execute
  std::vector<std::string>
      argv;  // with argv[0]; a file without a format gets /bin/sh in front, as execvp does it
};

// Resolves argv[0] in `search_path` (as PATH is written) and refuses (throws Problem: 125 can't be
// limited, 126, 127) or returns what to execute.
Command check_command(const std::vector<std::string>& argv, const std::string& search_path);

// Why the running process `pid` may be without the limiter, in words: its file, else its
// environment.
std::string explain_missing_limiter(int pid);

}  // namespace vgpu::survey
