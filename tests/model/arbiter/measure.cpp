// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace vgpu::model {
namespace {

double variation(const Outcome& outcome, Time window, Time from, Time to) {
  double sum = 0;
  double squares = 0;
  double count = 0;
  for (Time at = from; at + window <= to; at += window) {
    const auto work = static_cast<double>(outcome.work_between(at, at + window));
    sum += work;
    squares += work * work;
    ++count;
  }
  if (count < 2 || sum == 0) return 0;
  const double mean = sum / count;
  return std::sqrt(std::max(0.0, squares / count - mean * mean)) / mean;
}

constexpr const char* kColours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e",
                                    "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"};

std::string file_name(const std::string& name) {
  std::string file;
  for (const char c : name) {
    const bool keeps = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (keeps) {
      file += c;
    } else if (!file.empty() && file.back() != '-') {
      file += '-';
    }
  }
  while (!file.empty() && file.back() == '-') file.pop_back();
  return file + ".svg";
}

// Each tenant's work in windows of 0.1 s, in percent of its rate alone, over the run's time.
void plot(const std::string& folder, const std::string& name, const Scenario& scenario,
          const Measured& measured) {
  constexpr Time kWindow = 100 * kMs;
  constexpr double kWidth = 760;
  constexpr double kHeight = 240;
  constexpr double kLeft = 40;
  constexpr double kTop = 26;
  const double length = static_cast<double>(scenario.length_ns);
  std::FILE* const file = std::fopen((folder + "/" + file_name(name)).c_str(), "w");
  if (file == nullptr) return;
  const auto x = [&](Time at) { return kLeft + kWidth * static_cast<double>(at) / length; };
  const auto y = [&](double percent) {
    return kTop + kHeight * (1 - std::min(percent, 110.0) / 110.0);
  };
  std::fprintf(file,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
               "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" "
               "height=\"100%%\" fill=\"white\"/>\n<text x=\"%.0f\" y=\"16\">%s: percent of "
               "the rate alone, in windows of 0.1 s</text>\n",
               kLeft + kWidth + 110, kTop + kHeight + 30, kLeft, name.c_str());
  for (const double percent : {0.0, 25.0, 50.0, 75.0, 100.0})
    std::fprintf(file,
                 "<path d=\"M%.0f %.1fH%.0f\" stroke=\"#ddd\"/><text x=\"8\" "
                 "y=\"%.1f\">%.0f</text>\n",
                 kLeft, y(percent), kLeft + kWidth, y(percent) + 4, percent);
  for (Time at = 0; at <= scenario.length_ns; at += kS)
    std::fprintf(file, "<text x=\"%.1f\" y=\"%.0f\">%llu s</text>\n", x(at), kTop + kHeight + 16,
                 static_cast<unsigned long long>(at / kS));
  for (std::size_t t = 0; t < measured.shares.size(); ++t) {
    const char* const colour = kColours[t % std::size(kColours)];
    const double alone = measured.shares[t].alone / 100 * static_cast<double>(kS);
    std::fprintf(file, "<path fill=\"none\" stroke=\"%s\" d=\"", colour);
    for (Time at = 0; at + kWindow <= scenario.length_ns; at += kWindow)
      std::fprintf(file, "%c%.1f %.1f", at == 0 ? 'M' : 'L', x(at + kWindow / 2),
                   y(percent(measured.result.tenants[t], alone, at, at + kWindow)));
    std::fprintf(file, "\"/>\n<text x=\"%.0f\" y=\"%.1f\" fill=\"%s\">%s</text>\n",
                 kLeft + kWidth + 6, kTop + 12 + 14 * static_cast<double>(t), colour,
                 scenario.tenants[t].name.c_str());
  }
  std::fprintf(file, "</svg>\n");
  std::fclose(file);
}

}  // namespace

std::uint64_t seeds(std::uint64_t usual) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  usual = 1;  // ten times as slow
#endif
  const char* const factor = std::getenv("VGPU_MODEL_ROUNDS");
  const std::uint64_t times = factor == nullptr ? 1 : std::strtoull(factor, nullptr, 10);
  return std::max<std::uint64_t>(usual * times, 1);
}

Tenant tenant(std::string name, Program program, int share, int limit, Priority priority) {
  Tenant made;
  made.name = std::move(name);
  made.program = std::move(program);
  made.share = static_cast<std::uint8_t>(share);
  made.limit = static_cast<std::uint8_t>(limit);
  made.priority = priority;
  return made;
}

double alone_rate(const Program& program) {
  Scenario scenario;
  scenario.sharing = Sharing::unmanaged;
  scenario.length_ns = 2 * kS;
  scenario.tenants = {Tenant{.name = "alone", .program = program}};
  const Result result = simulate(scenario);
  return static_cast<double>(result.tenants[0].work_between(100 * kMs, scenario.length_ns)) / 1.9;
}

double percent(const Outcome& outcome, double alone, Time from, Time to) {
  return 100.0 * static_cast<double>(outcome.work_between(from, to)) /
         (alone * static_cast<double>(to - from) / static_cast<double>(kS));
}

Measured measure(const Scenario& scenario) {
  Measured measured;
  measured.result = simulate(scenario);
  const Time from = kWarmUpNs;
  const Time to = scenario.length_ns;
  for (std::size_t t = 0; t < scenario.tenants.size(); ++t) {
    const Outcome& outcome = measured.result.tenants[t];
    const double alone = alone_rate(scenario.tenants[t].program);
    Share share;
    share.alone = alone / static_cast<double>(kS) * 100;
    share.mean = percent(outcome, alone, from, to);
    share.least = 1e9;
    for (Time at = from; at + kS <= to; at += kS / 10) {
      const double second = percent(outcome, alone, at, at + kS);
      share.least = std::min(share.least, second);
      share.most = std::max(share.most, second);
    }
    share.cov_250ms = variation(outcome, 250 * kMs, from, to);
    share.cov_1s = variation(outcome, kS, from, to);
    measured.sum += share.mean;
    measured.shares.push_back(share);
  }
  return measured;
}

void report(const std::string& name, const Scenario& scenario, const Measured& measured) {
  std::printf("%-46s sum %5.1f ", name.c_str(), measured.sum);
  for (std::size_t t = 0; t < measured.shares.size(); ++t) {
    const Share& share = measured.shares[t];
    if (t == 4) {
      std::printf(" ...");
      break;
    }
    std::printf(" | %3d%%: %5.2f [%5.1f %5.1f] cov %.3f %.3f wait %4.0f", scenario.tenants[t].share,
                share.mean, share.least, share.most, share.cov_250ms, share.cov_1s,
                static_cast<double>(measured.result.tenants[t].most_wait_ns) / 1e6);
  }
  if (const char* const folder = std::getenv("VGPU_PLOTS")) plot(folder, name, scenario, measured);
  std::printf(" | together %.1f%%, %.0f steps/s\n",
              100.0 * static_cast<double>(measured.result.overlapped_ns) /
                  static_cast<double>(scenario.length_ns),
              static_cast<double>(measured.result.steps) /
                  (static_cast<double>(scenario.length_ns) / static_cast<double>(kS)));
}

}  // namespace vgpu::model
