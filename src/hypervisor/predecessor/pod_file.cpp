// SPDX-License-Identifier: Apache-2.0
// Stores are release and loads acquire, as the predecessor's limiters have them; what has an order
// beyond its own word says so.
#include "pod_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace vgpu::hypervisor {
namespace {

using pod_file::kMaxDevices;
using pod_file::V2;

[[noreturn]] void fail(const std::string& path, const std::string& why) {
  throw std::runtime_error(fmt::format("{}: {}", path, why));
}
[[noreturn]] void fail_with_errno(const std::string& path, const char* what) {
  fail(path, fmt::format("{}: {}", what, std::strerror(errno)));
}

template <class T>
void put(T& field, T value) {
  std::atomic_ref(field).store(value, std::memory_order_release);
}
template <class T>
T get(T& field) {
  return std::atomic_ref(field).load(std::memory_order_acquire);
}
// Doubles are exchanged by their bits, as limiters do.
std::uint64_t& bits_of(double& field) { return reinterpret_cast<std::uint64_t&>(field); }
void put(double& field, double value) { put(bits_of(field), std::bit_cast<std::uint64_t>(value)); }
double get(double& field) { return std::bit_cast<double>(get(bits_of(field))); }

V2& layout_at(std::byte* base) { return *reinterpret_cast<V2*>(base); }

// Into eight bytes at a time, so that nobody sees half of an old and half of a new UUID's word.
void put_uuid(char (&field)[pod_file::kUuidSize], const std::string& uuid) {
  std::uint64_t words[pod_file::kUuidSize / 8] = {};
  std::memcpy(words, uuid.data(), std::min(uuid.size(), sizeof words - 1));
  auto* to = reinterpret_cast<std::uint64_t*>(field);
  for (std::size_t i = 0; i < std::size(words); ++i) put(to[i], words[i]);
}

bool has_uuid(char (&field)[pod_file::kUuidSize], const std::string& uuid) {
  std::uint64_t words[pod_file::kUuidSize / 8] = {};
  std::memcpy(words, uuid.data(), std::min(uuid.size(), sizeof words - 1));
  auto* at = reinterpret_cast<std::uint64_t*>(field);
  for (std::size_t i = 0; i < std::size(words); ++i) {
    if (get(at[i]) != words[i]) return false;
  }
  return true;
}

// Every folder that is missing, as its maker's alone to write and for everybody to pass, whatever
// the umask is: limiters need the file, not the folder. Those that are there keep their modes.
void make_folders(const std::string& path) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    const std::string folder = path.substr(0, at);
    if (::mkdir(folder.c_str(), 0755) == 0 ? ::chmod(folder.c_str(), 0755) != 0 : errno != EEXIST) {
      fail_with_errno(folder, "can't be made");
    }
  }
}

// The mode while it is ours: of another's file only who has CAP_FOWNER changes it.
bool hand_over(int fd, const PodFileAccess& access) {
  constexpr auto kAsIs = static_cast<uid_t>(-1);
  if (access.owner && ::fchown(fd, ::geteuid(), kAsIs) != 0) return false;
  if (::fchmod(fd, access.mode) != 0) return false;
  return (!access.owner && !access.group) ||
         ::fchown(fd, access.owner.value_or(kAsIs), access.group.value_or(kAsIs)) == 0;
}

// Of one that is there: the predecessor's are for everybody to write.
bool is_handed_over(const struct stat& facts, const PodFileAccess& access) {
  return (facts.st_mode & 07777) == access.mode &&
         facts.st_uid == access.owner.value_or(::geteuid()) &&
         (!access.group || facts.st_gid == *access.group);
}

}  // namespace

PodFile::PodFile(const std::string& path, const PodFileAccess& access, std::span<const PodGpu> gpus,
                 std::uint64_t now_s)
    : path_(path) {
  for (const auto& gpu : gpus) {
    if (gpu.index >= kMaxDevices) {
      fail(path, fmt::format("GPU {} has no place in it: there are {}", gpu.index, kMaxDevices));
    }
  }
  make_folders(path);
  gpus_.assign(gpus.begin(), gpus.end());
  if (!take_over(access)) {
    make(access, now_s);
    // Somebody else's that came up meanwhile is taken over like any other.
    if (!file_.is_open() && !take_over(access)) fail(path_, "it comes and goes");
  }
  if (!set_gpus(gpus)) restore(now_s);
}

void PodFile::make(const PodFileAccess& access, std::uint64_t now_s) {
  const std::string temporary = fmt::format("{}.{}.new", path_, ::getpid());
  ::unlink(temporary.c_str());  // of an earlier daemon with this pid
  const int fd =
      ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) fail_with_errno(temporary, "can't be made");
  const bool has_size = ::ftruncate(fd, pod_file::kFileSize) == 0;
  MappedFile file(fd, pod_file::kFileSize, MappedFile::Access::write);
  if (!has_size || !file.is_open()) {
    ::unlink(temporary.c_str());
    fail_with_errno(temporary, "can't be made");
  }
  // Nobody else has it yet: plain stores do.
  V2& layout = layout_at(file.base());
  layout.discriminant = static_cast<std::uint32_t>(V2::kVersion);
  layout.last_heartbeat = now_s;
  layout.pids.creator_pid = static_cast<std::uint64_t>(::getpid());
  std::swap(file_, file);
  const bool written = set_gpus(gpus_);
  std::swap(file_, file);
  // By its descriptor, after all is in it, and whatever the umask is.
  const bool handed_over = written && hand_over(fd, access);
  const int failure = handed_over && ::link(temporary.c_str(), path_.c_str()) == 0 ? 0 : errno;
  ::unlink(temporary.c_str());
  if (failure == 0) {
    file_ = std::move(file);
  } else if (failure != EEXIST) {
    errno = failure;
    fail_with_errno(path_, "can't be made");
  }
}

bool PodFile::take_over(const PodFileAccess& access) {
  const int fd = ::open(path_.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return false;
    fail_with_errno(path_, errno == ELOOP ? "is a symbolic link" : "can't be opened");
  }
  struct stat facts {};
  const bool plain = ::fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
  if (!plain || facts.st_size != static_cast<off_t>(pod_file::kFileSize)) {
    ::close(fd);
    fail(path_, "is no V2 file, and isn't replaced while somebody may use it");
  }
  MappedFile file(fd, pod_file::kFileSize, MappedFile::Access::write);
  if (!file.is_open()) fail_with_errno(path_, "can't be mapped");
  std::uint32_t discriminant = 0;
  bool limited[kMaxDevices] = {};
  const bool whole = file.touch([&](std::byte* base) {
    V2& layout = layout_at(base);
    discriminant = get(layout.discriminant);
    for (std::uint32_t i = 0; i < kMaxDevices; ++i) {
      limited[i] = get(layout.devices[i].is_active) != 0 && get(layout.devices[i].up_limit) < 100;
    }
  });
  if (!whole || discriminant != static_cast<std::uint32_t>(V2::kVersion)) {
    fail(path_, "is no V2 file, and isn't replaced while somebody may use it");
  }
  if (!is_handed_over(facts, access)) {
    // By another name it may be a file of somebody else's.
    if (facts.st_nlink != 1) fail(path_, "has another name, and isn't given to its pod's user");
    const bool is_others = !access.owner && facts.st_uid != ::geteuid();
    if (is_others || !hand_over(file.fd(), access))
      fail(path_, is_others ? "belongs to another user" : "can't be given to its pod's user");
  }
  std::copy(std::begin(limited), std::end(limited), was_limited_);
  file_ = std::move(file);
  was_there_ = true;
  return true;
}

// A limiter that has once seen 100 doesn't look again for a minute. One that was limited before is
// shown 99 instead, with a bucket that is always full, so that the next change reaches it at once.
std::uint32_t PodFile::shown_percent(const PodGpu& gpu) {
  if (gpu.limit_percent < 100) was_limited_[gpu.index] = true;
  return was_limited_[gpu.index] ? std::min(gpu.limit_percent, 99U) : 100;
}

bool PodFile::set_gpus(std::span<const PodGpu> gpus) {
  if (gpus.data() != gpus_.data()) gpus_.assign(gpus.begin(), gpus.end());
  for (const auto& gpu : gpus_) shown_[gpu.index] = shown_percent(gpu);
  return file_.touch([this](std::byte* base) {
    V2& layout = layout_at(base);
    for (const auto& gpu : gpus_) {
      pod_file::V2Device& device = layout.devices[gpu.index];
      put(device.up_limit, shown_[gpu.index]);
      put(device.mem_limit, gpu.memory_limit_bytes);
      put(device.total_cuda_cores, gpu.total_cuda_cores);
      put_uuid(device.uuid, gpu.uuid);
      // Last (release): whoever sees it active sees its limits.
      put(device.is_active, 1U);
    }
    for (std::uint32_t i = 0; i < kMaxDevices; ++i) {
      const bool is_ours = std::any_of(gpus_.begin(), gpus_.end(),
                                       [i](const PodGpu& gpu) { return gpu.index == i; });
      if (!is_ours) put(layout.devices[i].is_active, 0U);
    }
    put(layout.device_count, static_cast<std::uint32_t>(gpus_.size()));
  });
}

bool PodFile::has_our_limits() const {
  bool same = true;
  const bool whole = file_.touch([&](std::byte* base) {
    V2& layout = layout_at(base);
    same = get(layout.discriminant) == static_cast<std::uint32_t>(V2::kVersion) &&
           get(layout.device_count) == gpus_.size();
    bool is_ours[kMaxDevices] = {};
    for (const auto& gpu : gpus_) {
      pod_file::V2Device& device = layout.devices[gpu.index];
      is_ours[gpu.index] = true;
      same = same && get(device.up_limit) == shown_[gpu.index] &&
             get(device.mem_limit) == gpu.memory_limit_bytes && get(device.is_active) == 1 &&
             has_uuid(device.uuid, gpu.uuid);
    }
    for (std::uint32_t i = 0; i < kMaxDevices; ++i)
      same = same && (is_ours[i] || get(layout.devices[i].is_active) == 0);
  });
  return whole && same;
}

bool PodFile::mend(std::uint64_t now_s) {
  const bool whole = file_.touch([=](std::byte* base) {
    V2& layout = layout_at(base);
    put(layout.discriminant, static_cast<std::uint32_t>(V2::kVersion));
    put(layout.last_heartbeat, now_s);
    put(layout.pids.lock, std::uint64_t{0});
    put(layout.pids.creator_pid, static_cast<std::uint64_t>(::getpid()));
    for (std::uint32_t i = pod_file::kBitmapWords; i < std::size(layout.pids.bitmap); ++i)
      put(layout.pids.bitmap[i], std::uint64_t{0});
    for (auto& device : layout.devices) {
      if (get(device.is_active) == 1) continue;
      put(device.up_limit, 0U);
      put(device.mem_limit, std::uint64_t{0});
      put(device.total_cuda_cores, 0U);
      put(device.pod_memory_used, std::uint64_t{0});
      put(device.refill_rate, 0.0);
      put(device.capacity, 0.0);
      put(device.tokens, 0.0);
      put(device.last_update_s, 0.0);
      put_uuid(device.uuid, "");
    }
  });
  return whole && set_gpus(gpus_);
}

bool PodFile::is_same(const struct stat& other) const {
  struct stat facts {};
  return ::fstat(file_.fd(), &facts) == 0 && facts.st_dev == other.st_dev &&
         facts.st_ino == other.st_ino;
}

bool PodFile::is_whole() const {
  struct stat facts {};
  return ::fstat(file_.fd(), &facts) == 0 &&
         facts.st_size == static_cast<off_t>(pod_file::kFileSize);
}

bool PodFile::set_memory_used(std::uint32_t index, std::uint64_t bytes) {
  return file_.touch(
      [=](std::byte* base) { put(layout_at(base).devices[index].pod_memory_used, bytes); });
}

bool PodFile::set_pids(std::span<const std::int32_t> pids) {
  const auto count =
      static_cast<std::uint32_t>(std::min<std::size_t>(pids.size(), pod_file::kMaxPids));
  return file_.touch([=](std::byte* base) {
    pod_file::PidSet& set = layout_at(base).pids;
    std::uint64_t bits = 0;
    for (std::uint32_t i = 0; i < pod_file::kMaxPids; ++i) {
      if (i < count) {
        put(set.value[i], static_cast<std::uint64_t>(pids[i]));
        bits |= std::uint64_t{1} << (63 - i % 64);
      }
      if (i % 64 == 63) {
        // After its values (release): whoever sees a bit sees the PID.
        put(set.bitmap[i / 64], bits);
        bits = 0;
      }
    }
    put(set.size, std::uint64_t{count});
  });
}

bool PodFile::beat(std::uint64_t now_s) {
  return file_.touch([=](std::byte* base) { put(layout_at(base).last_heartbeat, now_s); });
}

bool PodFile::set_supply(std::uint32_t index, double rate, double capacity, double now_s) {
  return file_.touch([=](std::byte* base) {
    pod_file::V2Device& device = layout_at(base).devices[index];
    put(device.refill_rate, rate);
    put(device.capacity, capacity);
    put(device.last_update_s, now_s);
  });
}

bool PodFile::read_supply(std::uint32_t index, double& tokens, double& rate) const {
  return file_.touch([&, index](std::byte* base) {
    pod_file::V2Device& device = layout_at(base).devices[index];
    tokens = get(device.tokens);
    rate = get(device.refill_rate);
  });
}

PodFile::Exchange PodFile::exchange_tokens(std::uint32_t index, double& tokens, double wanted) {
  bool done = false;
  auto expected = std::bit_cast<std::uint64_t>(tokens);
  const bool whole = file_.touch([&, index](std::byte* base) {
    std::atomic_ref word(bits_of(layout_at(base).devices[index].tokens));
    // Acquire and release on both sides: limiters take by the same word.
    done = word.compare_exchange_strong(expected, std::bit_cast<std::uint64_t>(wanted));
  });
  tokens = std::bit_cast<double>(expected);
  if (!whole) return Exchange::short_file;
  return done ? Exchange::done : Exchange::changed;
}

void PodFile::restore(std::uint64_t now_s) {
  if (::ftruncate(file_.fd(), pod_file::kFileSize) != 0)
    fail_with_errno(path_, "can't be restored");
  const bool whole = file_.touch([=](std::byte* base) {
    for (auto& device : layout_at(base).devices) put(device.tokens, 0.0);
  });
  // Cut again at this very moment: the next step tries again.
  if (whole) static_cast<void>(mend(now_s));
}

}  // namespace vgpu::hypervisor
