// SPDX-License-Identifier: Apache-2.0
// What is done about a process on a GPU without the limiter, and about a tenant that holds more
// than its limit by the driver's own count. Decisions are pure: time and suspects in, signals out.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "daemon_options.h"

namespace vgpu::hypervisor {

enum class Offence : unsigned char { unlimited, over_memory };

struct Suspect {
  Offence offence = Offence::unlimited;
  pid_t pid = 0;
  std::uint64_t start_time_ticks = 0;
  friend auto operator<=>(const Suspect&, const Suspect&) = default;
};

struct GuardAction {
  Suspect suspect;
  int signal = 0;
};

class Guard {
 public:
  // Who offends at present; who doesn't any more is forgotten. `now_ns`: CLOCK_MONOTONIC.
  std::vector<GuardAction> decide(std::uint64_t now_ns, const std::vector<Suspect>& suspects,
                                  const DaemonOptions& options);

 private:
  struct Case {
    std::uint64_t since_ns = 0;
    std::uint64_t asked_ns = 0;  // SIGTERM was sent; 0: not yet
    bool killed = false;
    bool present = false;
  };
  std::map<Suspect, Case> cases_;
};

// Whether a tenant holds more on a GPU than its limit by the driver's count. The driver frees a
// moment after the ledger, and the two are read at different moments: it counts once it has been so
// for a while, and by another reading of the driver's, however far apart the looks are.
class OverMemory {
 public:
  static constexpr std::uint64_t kUntilSureNs = 200'000'000;
  enum class Finding : unsigned char { within, unsure, began, lasts, ended };

  // One look. `now_ns`: CLOCK_MONOTONIC; `read_ns`: when the driver was read, by any clock.
  Finding look(bool is_over, std::uint64_t now_ns, std::optional<std::uint64_t> read_ns);

 private:
  struct Since {
    std::uint64_t now_ns = 0;
    std::optional<std::uint64_t> read_ns;
    bool is_sure = false;
  };
  std::optional<Since> since_;  // none: it was within its limit
};

// Is the process of that program one that may do without the limiter? `executable` is what
// /proc/PID/exe leads to and `executable_owner` whose file that is: a process can call itself
// anything, so only its file counts, and of kAlwaysExempt only root's.
bool is_exempt(std::string_view executable, uid_t executable_owner, const DaemonOptions& options);

// False: it is gone, or isn't ours to signal. Never another process than the one that is meant.
bool send_signal(pid_t pid, std::uint64_t start_time_ticks, int signal);

}  // namespace vgpu::hypervisor
