// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string_view>

namespace workload {

namespace {

constexpr char kUsage[] =
    "workload --mode MODE [--FLAG VALUE]...: one kind of GPU work for a given time, counted.\n"
    "\n"
    "  --mode calibrate         print how long a step of the kernel takes here, and end\n"
    "         sync              launch, synchronise, again\n"
    "         queued            launch ahead; at most --depth kernels (64) in flight and no\n"
    "                           more than --most-ahead-ms (200) of work\n"
    "         gaps              as queued, with --gap-us (30) of host work between launches\n"
    "         paced             one kernel every --period-us (2000); records latencies\n"
    "         cost              empty kernels; records what a launch costs the host\n"
    "         idle              a context and nothing else\n"
    "  --steps N --kernel-us T  the kernel: its steps (from calibrate), and the time they take\n"
    "  --graph N                launch graphs of N kernels instead of kernels\n"
    "  --streams N              feed N streams in turn\n"
    "  --processes N            N processes that all do the same\n"
    "  --blocks full|few        fill the GPU, or 8 blocks\n"
    "  --vary F --seed N        kernels of 1/F to F times the time\n"
    "  --seconds S --window-ms W  how long to run from the common start, and the windows of the\n"
    "                           record\n"
    "  --pause-from S --pause S do nothing for so long, so long after the start\n"
    "  --tail S                 wait so long after the end for the last completion\n"
    "  --back-to-back           first measure what one launch takes when launches queue\n"
    "  --probe-mib N            try to allocate N MiB, which a memory limit has to refuse\n"
    "  --rendezvous DIR --name NAME  write DIR/NAME.0.ready, start at the instant "
    "(CLOCK_MONOTONIC,\n"
    "                           ns) in DIR/go, write DIR/NAME.0.json, go on until DIR/stop is "
    "there\n"
    "\n"
    "bench.py runs it; docs in README.md. Exit: 0, 1 a CUDA call failed, 2 usage, 77 no driver.\n";

using Setter = std::function<bool(std::string_view, Options&)>;

bool number(std::string_view text, double& out) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && out >= 0;
}

template <class T>
Setter whole(T Options::*field, std::uint64_t factor = 1) {
  return [field, factor](std::string_view text, Options& options) {
    std::uint64_t value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    options.*field = static_cast<T>(value * factor);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
  };
}

Setter nanos(Nanos Options::*field, double unit) {
  return [field, unit](std::string_view text, Options& options) {
    double value = 0;
    if (!number(text, value)) return false;
    options.*field = static_cast<Nanos>(value * unit);
    return true;
  };
}

bool set_mode(std::string_view text, Options& options) {
  static const std::map<std::string_view, Mode> names = {{"calibrate", Mode::calibrate},
                                                         {"sync", Mode::sync},
                                                         {"queued", Mode::queued},
                                                         {"gaps", Mode::gaps},
                                                         {"paced", Mode::paced},
                                                         {"cost", Mode::cost},
                                                         {"idle", Mode::idle}};
  const auto found = names.find(text);
  if (found == names.end()) return false;
  options.mode = found->second;
  return true;
}

bool set_blocks(std::string_view text, Options& options) {
  options.few_blocks = text == "few";
  return text == "few" || text == "full";
}

bool set_vary(std::string_view text, Options& options) {
  return number(text, options.vary) && options.vary >= 1;
}

const std::map<std::string_view, Setter>& setters() {
  static const std::map<std::string_view, Setter> all = {
      {"--mode", set_mode},
      {"--blocks", set_blocks},
      {"--vary", set_vary},
      {"--steps", whole(&Options::steps)},
      {"--graph", whole(&Options::graph)},
      {"--streams", whole(&Options::streams)},
      {"--processes", whole(&Options::processes)},
      {"--index", whole(&Options::index)},
      {"--depth", whole(&Options::depth)},
      {"--seed", whole(&Options::seed)},
      {"--probe-mib", whole(&Options::probe_bytes, std::uint64_t{1} << 20)},
      {"--kernel-us", nanos(&Options::kernel_ns, 1e3)},
      {"--gap-us", nanos(&Options::gap_ns, 1e3)},
      {"--period-us", nanos(&Options::period_ns, 1e3)},
      {"--most-ahead-ms", nanos(&Options::most_ahead_ns, 1e6)},
      {"--window-ms", nanos(&Options::window_ns, 1e6)},
      {"--seconds", nanos(&Options::run_ns, 1e9)},
      {"--tail", nanos(&Options::tail_ns, 1e9)},
      {"--pause-from", nanos(&Options::pause_from_ns, 1e9)},
      {"--pause", nanos(&Options::pause_ns, 1e9)},
      {"--rendezvous",
       [](std::string_view text, Options& options) {
         options.rendezvous = text;
         return !text.empty();
       }},
      {"--name",
       [](std::string_view text, Options& options) {
         options.name = text;
         return !text.empty();
       }},
  };
  return all;
}

bool complete(const Options& options) {
  if (options.mode == Mode::calibrate) return true;
  const bool has_kernel =
      options.steps > 0 || options.mode == Mode::cost || options.mode == Mode::idle;
  return has_kernel && options.kernel_ns > 0 && options.streams > 0 && options.processes > 0 &&
         options.depth > 0 && options.window_ns > 0 && options.run_ns >= options.window_ns &&
         options.period_ns > 0 && !options.rendezvous.empty();
}

}  // namespace

const char* usage() { return kUsage; }

bool parse(int argc, char** argv, Options& out) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--back-to-back") {
      out.back_to_back = true;
      continue;
    }
    const auto setter = setters().find(flag);
    if (setter == setters().end() || i + 1 == argc || !setter->second(argv[i + 1], out)) {
      std::fprintf(stderr, "workload: %s is not an option, or not with that value\n%s", argv[i],
                   kUsage);
      return false;
    }
    ++i;
  }
  if (!complete(out)) {
    std::fprintf(stderr, "workload: --steps, --rendezvous, or a value above zero is missing\n%s",
                 kUsage);
    return false;
  }
  return true;
}

}  // namespace workload
