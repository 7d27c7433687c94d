// SPDX-License-Identifier: Apache-2.0
#include "vgpu/core/mode_probe.h"

#include <algorithm>

namespace vgpu::core {

void ModeProbe::restart(std::uint64_t now_ns) {
  *this = ModeProbe();
  since_ns_ = now_ns;
  until_ns_ = now_ns + pause_ns_;
}

void ModeProbe::begin(Part part, std::uint64_t now_ns, std::uint64_t progress_ns,
                      std::uint64_t length_ns) {
  part_ = part;
  probing_ = part == Part::probe || part == Part::glimpse;
  since_ns_ = now_ns;
  until_ns_ = now_ns + length_ns;
  progress_at_ns_ = progress_ns;
}

void ModeProbe::judge(std::uint64_t now_ns, std::uint64_t after_ppm) {
  // To change what works takes a tenth more, better than both stretches beside it.
  const std::uint64_t present = std::max(before_ppm_, after_ppm);
  const bool wins = probe_ppm_ > present + present / 10;
  wins_ = wins ? wins_ + 1 : 0;
  if (wins_ >= 2) {
    mode_ = other(mode_);
    wins_ = 0;
    pause_ns_ = 2 * kFirstPauseNs;
  } else if (wins) {
    begin(Part::before, now_ns, progress_at_ns_, kStretchNs);  // again, soon
    return;
  } else {
    lose(now_ns, progress_at_ns_);
    return;
  }
  begin(Part::pause, now_ns, progress_at_ns_, pause_ns_);
}

void ModeProbe::lose(std::uint64_t now_ns, std::uint64_t progress_ns) {
  wins_ = 0;
  pause_ns_ = std::min(2 * pause_ns_, kMostPauseNs);
  begin(Part::pause, now_ns, progress_ns, pause_ns_);
}

void ModeProbe::observe(std::uint64_t now_ns, std::uint64_t progress_ns, bool may_overlap) {
  if (!may_overlap && mode() == Mode::overlap) {
    mode_ = Mode::turns;
    lose(now_ns, progress_ns);
    return;
  }
  if (now_ns < until_ns_) return;
  const std::uint64_t elapsed = std::max<std::uint64_t>(now_ns - since_ns_, 1);
  const std::uint64_t ppm = (progress_ns - progress_at_ns_) * 1'000'000 / elapsed;
  switch (part_) {
    case Part::pause:
      if (mode_ == Mode::turns && !may_overlap) {
        begin(Part::pause, now_ns, progress_ns, kFirstPauseNs);
      } else {
        begin(Part::before, now_ns, progress_ns, kStretchNs);
      }
      return;
    case Part::before:
      before_ppm_ = ppm;
      // One whole cycle of turns is what can be compared; to see that overlap is far worse takes
      // less.
      begin(mode_ == Mode::turns ? Part::glimpse : Part::probe, now_ns, progress_ns,
            mode_ == Mode::turns ? kGlimpseNs : kTurnsProbeNs);
      return;
    case Part::glimpse:
      if (ppm < before_ppm_ - before_ppm_ / 5) {
        lose(now_ns, progress_ns);
        return;
      }
      // Goes on from where it began.
      part_ = Part::probe;
      until_ns_ = since_ns_ + (mode_ == Mode::turns ? kProbeNs : kTurnsProbeNs);
      return;
    case Part::probe:
      probe_ppm_ = ppm;
      begin(Part::after, now_ns, progress_ns, kStretchNs);
      return;
    case Part::after:
      progress_at_ns_ = progress_ns;
      judge(now_ns, ppm);
      return;
  }
}

}  // namespace vgpu::core
