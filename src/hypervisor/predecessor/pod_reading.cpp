// SPDX-License-Identifier: Apache-2.0
// Copy first, word by word, then look only at the copy.
#include "pod_reading.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "mapped_file.h"
#include "vgpu/pod/file_layout.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::int32_t kMaxPid = 1 << 22;  // PID_MAX_LIMIT
constexpr double kLatestSecond = 1e11;     // the year 5138: more is no time

std::optional<double> finite(double value, std::string_view what, std::uint32_t device,
                             std::vector<std::string>& faults) {
  if (std::isfinite(value)) return value;
  faults.push_back(fmt::format("device {}: {} is no number", device, what));
  return std::nullopt;
}

std::string uuid_of(const char (&text)[pod_file::kUuidSize], std::uint32_t device,
                    std::vector<std::string>& faults) {
  const std::size_t size = ::strnlen(text, sizeof text);
  if (size == sizeof text) {
    faults.push_back(fmt::format("device {}: its UUID has no end", device));
    return "";
  }
  const std::string_view uuid(text, size);
  const bool printable =
      std::all_of(uuid.begin(), uuid.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (!printable) {
    faults.push_back(fmt::format("device {}: its UUID has characters that no UUID has", device));
    return "";
  }
  return std::string(uuid);
}

PodTokens compute_of(const pod_file::V2Device& device, std::uint32_t index, std::uint64_t now_s,
                     std::vector<std::string>& faults) {
  PodTokens tokens;
  tokens.refill_rate = finite(device.refill_rate, "the refill rate", index, faults);
  tokens.capacity = finite(device.capacity, "the capacity", index, faults);
  tokens.tokens = finite(device.tokens, "the number of tokens", index, faults);
  tokens.last_update_s = finite(device.last_update_s, "the time of its update", index, faults);
  if (tokens.last_update_s && (*tokens.last_update_s < 0 || *tokens.last_update_s > kLatestSecond ||
                               *tokens.last_update_s > static_cast<double>(now_s) + 1)) {
    faults.push_back(fmt::format("device {}: its update lies in the future or before 1970", index));
    tokens.last_update_s.reset();
  }
  return tokens;
}
PodCores compute_of(const pod_file::V1Device& device, std::uint32_t, std::uint64_t,
                    std::vector<std::string>&) {
  return {device.available_cores};
}

std::vector<std::int32_t> pids_of(const pod_file::PidSet& set, std::vector<std::string>& faults) {
  std::vector<std::int32_t> pids;
  std::size_t impossible = 0;
  for (std::uint32_t i = 0; i < pod_file::kMaxPids; ++i) {
    if ((set.bitmap[i / 64] >> (63 - i % 64) & 1) == 0) continue;
    if (set.value[i] == 0 || set.value[i] > static_cast<std::uint64_t>(kMaxPid)) {
      ++impossible;
    } else {
      pids.push_back(static_cast<std::int32_t>(set.value[i]));
    }
  }
  if (impossible > 0)
    faults.push_back(fmt::format("{} entries of the PID set are no PIDs", impossible));
  if (set.size != pids.size() + impossible) {
    faults.push_back(
        fmt::format("the PID set says {} and holds {}", set.size, pids.size() + impossible));
  }
  std::sort(pids.begin(), pids.end());
  const auto last = std::unique(pids.begin(), pids.end());
  if (last != pids.end()) faults.emplace_back("the PID set holds a PID twice");
  pids.erase(last, pids.end());
  return pids;
}

PodHealth health_of(std::uint64_t heartbeat_s, std::uint64_t now_s) {
  if (heartbeat_s == 0) return PodHealth::never;
  if (heartbeat_s > now_s) return PodHealth::in_the_future;
  return now_s - heartbeat_s <= pod_file::kHealthySeconds ? PodHealth::healthy : PodHealth::stale;
}

template <class Layout>
PodReading reading_of(std::span<const std::byte> bytes, std::uint64_t now_s) {
  const auto copy = std::make_unique<Layout>();
  std::memcpy(copy.get(), bytes.data(), sizeof(Layout));
  PodReading reading;
  reading.version = static_cast<int>(Layout::kVersion) + 1;
  reading.device_count = copy->device_count;
  for (std::uint32_t i = 0; i < pod_file::kMaxDevices; ++i) {
    const auto& from = copy->devices[i];
    if (from.is_active == 0 && from.uuid[0] == '\0') continue;
    PodDevice device;
    device.index = i;
    device.uuid = uuid_of(from.uuid, i, reading.faults);
    if (from.up_limit <= 100) {
      device.up_limit_percent = from.up_limit;
    } else {
      reading.faults.push_back(fmt::format("device {}: a limit of {} percent", i, from.up_limit));
    }
    device.memory_limit_bytes = from.mem_limit;
    device.memory_used_bytes = from.pod_memory_used;
    device.total_cuda_cores = from.total_cuda_cores;
    device.is_active = from.is_active != 0;
    device.compute = compute_of(from, i, now_s, reading.faults);
    reading.devices.push_back(std::move(device));
  }
  const auto active =
      static_cast<std::size_t>(std::count_if(reading.devices.begin(), reading.devices.end(),
                                             [](const PodDevice& d) { return d.is_active; }));
  if (copy->device_count != active) {
    reading.faults.push_back(
        fmt::format("the file says {} devices, {} are active", copy->device_count, active));
  }
  reading.last_heartbeat_s = copy->last_heartbeat;
  reading.health = health_of(copy->last_heartbeat, now_s);
  reading.pids = pids_of(copy->pids, reading.faults);
  return reading;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() <= 253 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

}  // namespace

std::optional<PodReading> parse_pod_file(std::span<const std::byte> bytes, std::uint64_t now_s,
                                         std::string& why) {
  // V1's own structure is shorter; whether its files were padded to V2's size isn't known, so both
  // sizes pass for it.
  std::uint32_t discriminant = 0;
  if (bytes.size() >= sizeof discriminant)
    std::memcpy(&discriminant, bytes.data(), sizeof discriminant);
  const bool known_size = bytes.size() == pod_file::kFileSize ||
                          (bytes.size() == sizeof(pod_file::V1) && discriminant == 0);
  if (!known_size) {
    why = fmt::format("it has {} bytes; such files have {}", bytes.size(), pod_file::kFileSize);
    return std::nullopt;
  }
  if (discriminant == static_cast<std::uint32_t>(pod_file::Version::v1)) {
    return reading_of<pod_file::V1>(bytes, now_s);
  }
  if (discriminant == static_cast<std::uint32_t>(pod_file::Version::v2)) {
    return reading_of<pod_file::V2>(bytes, now_s);
  }
  why = fmt::format("its version word is {}; 0 (V1) and 1 (V2) are known", discriminant);
  return std::nullopt;
}

std::optional<PodReading> read_pod_file(const std::string& path, std::uint64_t now_s,
                                        std::string& why, bool& missing) {
  missing = false;
  // Not blocking: whoever put a pipe there would hold us forever.
  const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    missing = errno == ENOENT || errno == ENOTDIR;
    why = errno == ELOOP ? "it is a symbolic link" : std::strerror(errno);
    return std::nullopt;
  }
  struct stat facts {};
  if (::fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    ::close(fd);
    why = "it isn't a plain file";
    return std::nullopt;
  }
  const auto size = static_cast<std::size_t>(facts.st_size);
  if (size != pod_file::kFileSize && size != sizeof(pod_file::V1)) {
    ::close(fd);
    why = fmt::format("it has {} bytes; such files have {}", size, pod_file::kFileSize);
    return std::nullopt;
  }
  const MappedFile file(fd, size, MappedFile::Access::read);
  if (!file.is_open()) {
    why = std::strerror(errno);
    return std::nullopt;
  }
  static_assert(pod_file::kFileSize % 8 == 0 && sizeof(pod_file::V1) % 8 == 0);
  std::vector<std::uint64_t> copy(size / 8);
  const bool whole = file.touch([&copy](std::byte* base) {
    auto* words = reinterpret_cast<std::uint64_t*>(base);
    for (std::size_t i = copy.size(); i-- > 0;) {
      // Backwards and acquire: a PID's bit lies behind the PID and is stored after it (release, in
      // pod_file.cpp), so whoever sees the bit first sees the PID too. No word is ever torn.
      copy[i] = std::atomic_ref(words[i]).load(std::memory_order_acquire);
    }
  });
  if (!whole) {
    why = "it became shorter while it was read";
    return std::nullopt;
  }
  return parse_pod_file(std::as_bytes(std::span(copy)), now_s, why);
}

std::string pod_file_path(const std::string& base, const std::string& pod_namespace,
                          const std::string& pod) {
  for (const auto& [what, name] : {std::pair{"namespace", &pod_namespace}, {"pod", &pod}}) {
    if (!is_plain_name(*name)) {
      throw std::invalid_argument(fmt::format(
          "{} \"{}\": names have letters, digits, '-', '_' and '.', and begin with none "
          "of the last",
          what, name->substr(0, 80)));
    }
  }
  return base + "/" + pod_namespace + "/" + pod + "/shm";
}

}  // namespace vgpu::hypervisor
