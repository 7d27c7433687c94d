// SPDX-License-Identifier: Apache-2.0
#include "rendezvous.h"

#include <time.h>
#include <unistd.h>

#include <cstdio>

#include "kernel.h"

namespace workload {
namespace {

constexpr Nanos kPollEvery = 2'000'000;

// In one step, so that nobody reads half of it.
bool write_whole(const std::string& path, const std::string& text) {
  const std::string unfinished = path + ".tmp";
  std::FILE* file = std::fopen(unfinished.c_str(), "w");
  if (file == nullptr) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && written && std::rename(unfinished.c_str(), path.c_str()) == 0;
}

}  // namespace

void sleep_until(Nanos when) {
  timespec at{};
  at.tv_sec = when / 1'000'000'000;
  at.tv_nsec = when % 1'000'000'000;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) != 0) {
  }
}

Nanos Rendezvous::wait_for_start() const {
  if (!write_whole(own_ + ".ready", "")) {
    std::perror(("workload: " + own_ + ".ready").c_str());
    return 0;
  }
  const std::string go = folder_ + "/go";
  while (!stopped()) {
    if (std::FILE* file = std::fopen(go.c_str(), "r")) {
      long long start = 0;
      const bool read = std::fscanf(file, "%lld", &start) == 1;
      std::fclose(file);
      if (read) return start;
    }
    sleep_until(now_ns() + kPollEvery);
  }
  return 0;
}

bool Rendezvous::stopped() const { return access((folder_ + "/stop").c_str(), F_OK) == 0; }

bool Rendezvous::write_record(const std::string& json) const {
  return write_whole(own_ + ".json", json);
}

}  // namespace workload
