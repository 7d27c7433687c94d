// SPDX-License-Identifier: Apache-2.0
// The daemon's side of a predecessor's shared-memory file: made whole or not at all, never
// replaced, changed in place. Its tenant can write every byte of it and cut it short: nothing is
// read from it but tokens, and a member that finds it short returns false (then call restore()).
// One thread.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mapped_file.h"
#include "vgpu/pod/file_layout.h"

namespace vgpu::hypervisor {

struct PodGpu {
  std::uint32_t index = 0;  // NVML's of the host, below pod_file::kMaxDevices
  std::string uuid;         // "GPU-...", at most 63 characters
  std::uint32_t limit_percent = 100;
  std::uint64_t memory_limit_bytes = 0;
  std::uint32_t total_cuda_cores = 0;  // as the predecessor counts: SMs x threads of one x 64; or 0

  friend bool operator==(const PodGpu&, const PodGpu&) = default;
};

// Who may open it for writing, which limiters have to.
struct PodFileAccess {
  mode_t mode = 0600;
  std::optional<uid_t> owner;  // else the daemon's own
  std::optional<gid_t> group;
};

class PodFile {
 public:
  // Makes the file and the folders above it, or takes over the V2 file that is there, which is its
  // owner's alone from then on too. Throws
  // std::runtime_error with one line that names the path.
  PodFile(const std::string& path, const PodFileAccess& access, std::span<const PodGpu> gpus,
          std::uint64_t now_s);

  bool was_there() const { return was_there_; }
  bool is_same(const struct stat& other) const;
  const std::string& path() const { return path_; }

  // Limits of all GPUs; those that aren't among them become inactive.
  bool set_gpus(std::span<const PodGpu> gpus);
  // False as well where somebody else has changed what set_gpus() wrote.
  bool has_our_limits() const;
  // Everything that only we write but PIDs, which the caller sets again. Tokens stay.
  bool mend(std::uint64_t now_s);
  // Its length is right. What lies behind a cut reads as zero when it is brought back.
  bool is_whole() const;
  bool set_memory_used(std::uint32_t index, std::uint64_t bytes);
  bool set_pids(std::span<const std::int32_t> pids);  // more than kMaxPids: the first of them
  bool beat(std::uint64_t now_s);
  bool set_supply(std::uint32_t index, double rate, double capacity, double now_s);

  bool read_supply(std::uint32_t index, double& tokens, double& rate) const;
  // False and `tokens` as they are now, where a limiter was faster.
  enum class Exchange : unsigned char { done, changed, short_file };
  Exchange exchange_tokens(std::uint32_t index, double& tokens, double wanted);

  // After somebody cut it short: its length and its limits, without tokens. Throws as above.
  void restore(std::uint64_t now_s);

 private:
  void make(const PodFileAccess& access, std::uint64_t now_s);
  bool take_over(const PodFileAccess& access);
  std::uint32_t shown_percent(const PodGpu& gpu);

  std::string path_;
  MappedFile file_;
  std::vector<PodGpu> gpus_;
  std::uint32_t shown_[pod_file::kMaxDevices] = {};
  bool was_limited_[pod_file::kMaxDevices] = {};
  bool was_there_ = false;
};

}  // namespace vgpu::hypervisor
