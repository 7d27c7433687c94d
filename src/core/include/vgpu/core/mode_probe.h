// SPDX-License-Identifier: Apache-2.0
// Turns or together? Neither is right always: exclusive turns win 2 to 9 times for tenants that
// wait for each kernel, overlap wins 2 times for launch-bound ones that queue ahead (measured on an
// H200). So the other mode is tried now and then for a short while, between two stretches of the
// present one (A-B-A), and adopted after it won twice. A probe that is lost makes the next one
// rarer; in the losing mode is spent half a percent of the time. Pure; one caller at a time.
#pragma once

#include <cstdint>

namespace vgpu::core {

enum class Mode : std::uint8_t { turns, overlap };

// Progress: the sum over the seats of completed work / work per time of a turn that one has alone.
// The GPU in perfect turns makes one nanosecond of it per nanosecond.
class ModeProbe {
 public:
  static constexpr std::uint64_t kProbeNs = 16'000'000;
  static constexpr std::uint64_t kGlimpseNs = 5'000'000;  // after which it may already be lost
  // Of the present mode, before and after: two cycles of turns, which vary by what falls into them.
  static constexpr std::uint64_t kStretchNs = 110'000'000;
  static constexpr std::uint64_t kTurnsProbeNs = 60'000'000;  // of turns, while all run together
  static constexpr std::uint64_t kFirstPauseNs = 1'000'000'000;
  static constexpr std::uint64_t kMostPauseNs = 64'000'000'000;

  // The mode to be in now.
  Mode mode() const { return probing_ ? other(mode_) : mode_; }
  Mode settled_mode() const { return mode_; }
  // When it wants to be told next, at the latest.
  std::uint64_t next_ns() const { return until_ns_; }

  // Everything starts anew: the seats that want the GPU are others than before.
  void restart(std::uint64_t now_ns);
  // `progress_ns`: made so far, only grows. `may_overlap`: false keeps to turns (nothing to win, or
  // somebody would fall below what it is owed).
  void observe(std::uint64_t now_ns, std::uint64_t progress_ns, bool may_overlap);

 private:
  static constexpr Mode other(Mode mode) {
    return mode == Mode::turns ? Mode::overlap : Mode::turns;
  }
  enum class Part : std::uint8_t { pause, before, glimpse, probe, after };
  void begin(Part part, std::uint64_t now_ns, std::uint64_t progress_ns, std::uint64_t length_ns);
  void lose(std::uint64_t now_ns, std::uint64_t progress_ns);
  void judge(std::uint64_t now_ns, std::uint64_t after_ppm);

  Mode mode_ = Mode::turns;
  bool probing_ = false;
  Part part_ = Part::pause;
  std::uint64_t since_ns_ = 0;
  std::uint64_t until_ns_ = 0;
  std::uint64_t progress_at_ns_ = 0;
  std::uint64_t before_ppm_ = 0;
  std::uint64_t probe_ppm_ = 0;
  std::uint64_t pause_ns_ = kFirstPauseNs;
  std::uint32_t wins_ = 0;
};

}  // namespace vgpu::core
