// SPDX-License-Identifier: Apache-2.0
// The file of the usage log: a new one every day (UTC), three kept. Time is an argument. One
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::hypervisor {

class UsageLog {
 public:
  static constexpr std::size_t kKept = 3;

  // `path`: the beginning of the files' names, "/logs/metrics.log" for
  // /logs/metrics.log.2026-11-25, or a folder that is there (then metrics.log in it).
  explicit UsageLog(const std::string& path);

  // Appends whole lines, all or none as far as the system allows. Returns what is worth a line in
  // the daemon's log: the first failure of a row, and the first success after it; else empty.
  std::string append(std::string_view lines, std::uint64_t now_s);

  static std::string file_name(const std::string& prefix, std::uint64_t now_s);
  const std::string& prefix() const { return prefix_; }

 private:
  std::string write(std::string_view lines, std::uint64_t now_s);
  void remove_old() const;

  std::string prefix_;
  std::string today_;
  std::uint64_t failures_ = 0;
};

}  // namespace vgpu::hypervisor
