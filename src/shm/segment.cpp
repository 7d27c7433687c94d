// SPDX-License-Identifier: Apache-2.0
// Segment files: built under no name, published whole, checked when opened, unnamed when their
// tenant is gone. Any process may do each of these at any time, and die in the middle.
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "vgpu/shm/node.h"
#include "vgpu/shm/step.h"

namespace vgpu::shm {
namespace {

void copy_text(char (&to)[kMaxName + 1], std::string_view from) {
  const std::size_t size = std::min(from.size(), kMaxName);
  std::memset(to, 0, sizeof to);
  std::memcpy(to, from.data(), size);
}

bool is_terminated(const char (&text)[kMaxName + 1]) { return text[kMaxName] == '\0'; }

}  // namespace

// Removes the name if it still leads to this file. The lock makes that one step: whoever unlinks a
// segment holds its lock, so between our look and our unlink nobody else can have removed it, and a
// newer one can't take a name in use.
void unlink_if_same(const platform::File& file, const SegmentPath& path) {
  if (platform::try_lock_byte(file.fd(), kRemovalByte) == platform::ByteLock::held_elsewhere)
    return;
  if (platform::identity_of(file.fd()) == platform::identity_of(path.c_str())) {
    ::unlink(path.c_str());
  }
  platform::unlock_byte(file.fd(), kRemovalByte);
}

platform::File open_own_regular_file(const StateDir& dir, const SegmentPath& path,
                                     std::size_t& size, Status& status, int access) {
  status = Status::unavailable;
  platform::File file(
      ::open(path.c_str(), access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!file.is_open()) {
    if (errno == ENOENT) status = Status::not_found;
    if (errno == ELOOP || errno == ENXIO || errno == EISDIR) status = Status::corrupt;
    return file;
  }
  struct stat facts {};
  if (::fstat(file.fd(), &facts) != 0) return {};
  const std::int64_t owner = dir.owner < 0 ? std::int64_t{::geteuid()} : dir.owner;
  if (!S_ISREG(facts.st_mode) || std::int64_t{facts.st_uid} != owner || facts.st_size < 0) {
    status = Status::corrupt;
    return {};
  }
  size = static_cast<std::size_t>(facts.st_size);
  status = Status::ok;
  return file;
}

// What root makes in a user's directory is the user's.
static platform::File given_to_owner(const StateDir& dir, platform::File file) {
  if (dir.owner >= 0 && dir.owner != std::int64_t{::geteuid()} && file.is_open() &&
      ::fchown(file.fd(), static_cast<uid_t>(dir.owner), static_cast<gid_t>(-1)) != 0)
    file.close();
  return file;
}

// Not every file system has files without a name; there the file gets one that list_tenants()
// doesn't show.
platform::File new_file(const StateDir& dir, SegmentPath& temporary) {
  temporary.clear();
  platform::File file(::open(dir.path.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.is_open()) return given_to_owner(dir, std::move(file));
  for (std::uint64_t attempt = 0; attempt < 100; ++attempt) {
    temporary = SegmentPath(dir.path.view());
    temporary.append("/.new-").append_number(static_cast<std::uint64_t>(::getpid()));
    temporary.append("-").append_number(attempt);
    file = platform::File(
        ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.is_open() || errno != EEXIST) return given_to_owner(dir, std::move(file));
    // A pid that was used before us died in here, or another namespace's is at work: the lock
    // tells.
    std::size_t size = 0;
    Status status = Status::ok;
    const platform::File old = open_own_regular_file(dir, temporary, size, status);
    if (status == Status::ok) unlink_if_same(old, temporary);
  }
  return {};
}

int link_name(const platform::File& file, const SegmentPath& temporary, const SegmentPath& path) {
  if (!temporary.empty()) return ::link(temporary.c_str(), path.c_str());
  FixedString<63> descriptor("/proc/self/fd/");
  descriptor.append_number(static_cast<std::uint64_t>(file.fd()));
  return ::linkat(AT_FDCWD, descriptor.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
}

bool is_valid_id(std::string_view id) {
  if (id.empty() || id.size() > kMaxName || id.front() == '.') return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

SegmentPath segment_path(const StateDir& dir, std::string_view id) {
  SegmentPath path(dir.path.view());
  return path.append("/").append(id).append(".tenant");
}

std::uint64_t pack_terms(const Quota& quota) {
  return static_cast<std::uint64_t>(quota.compute_share_percent) |
         (static_cast<std::uint64_t>(quota.compute_limit_percent) << 8) |
         (static_cast<std::uint64_t>(quota.policy) << 16) |
         (static_cast<std::uint64_t>(quota.priority) << 24) |
         (static_cast<std::uint64_t>(quota.memory_source) << 32) |
         (static_cast<std::uint64_t>(quota.compute_source) << 40);
}

std::uint32_t limit_percent_of(std::uint64_t terms) {
  return std::min<std::uint32_t>((terms >> 8) & 0xff, 100);
}

void unpack_terms(std::uint64_t terms, Quota& quota) {
  const auto byte = [terms](unsigned index) {
    return static_cast<std::uint8_t>(terms >> (8 * index));
  };
  const auto source = [](std::uint8_t value) {
    return value <= static_cast<std::uint8_t>(Source::vgpu_manager) ? static_cast<Source>(value)
                                                                    : Source::none;
  };
  quota.compute_share_percent = std::min<std::uint8_t>(byte(0), 100);
  quota.compute_limit_percent = std::min<std::uint8_t>(byte(1), 100);
  quota.policy =
      byte(2) == static_cast<std::uint8_t>(Policy::fixed) ? Policy::fixed : Policy::elastic;
  quota.priority = byte(3) <= static_cast<std::uint8_t>(Priority::high)
                       ? static_cast<Priority>(byte(3))
                       : Priority::normal;
  quota.memory_source = source(byte(4));
  quota.compute_source = source(byte(5));
}

Status build_segment(platform::File file, const TenantSpec& spec, Mapped& out) {
  const auto gpu_count = static_cast<std::uint32_t>(spec.gpus.size());
  const std::size_t size = Segment::byte_size(gpu_count);
  if (!file.is_open() || ::ftruncate(file.fd(), static_cast<off_t>(size)) != 0)
    return Status::unavailable;
  void* const base = platform::map_shared(file.fd(), size);
  if (base == nullptr) return Status::unavailable;
  const Segment segment(base, gpu_count);
  Header& header = segment.header();
  header.magic = kMagic;
  header.major = kMajor;
  header.minor = kMinor;
  header.byte_size = size;
  header.gpu_count = gpu_count;
  header.slot_count = kMaxSlots;
  header.object_count = kMaxObjects;
  header.made_by_run = spec.made_by_run ? 1 : 0;
  copy_text(header.id, spec.id.view());
  copy_text(header.name, spec.name.empty() ? spec.id.view() : spec.name.view());
  for (std::uint32_t i = 0; i < gpu_count; ++i) {
    const TenantGpu& from = spec.gpus[i];
    GpuRecord& to = segment.gpu(i);
    std::memcpy(to.uuid, from.uuid.bytes.data(), sizeof to.uuid);
    to.total_bytes = from.total_bytes;
    to.nvml_index = from.nvml_index;
    to.in_set = from.in_set ? 1 : 0;
    to.memory_limit_bytes.store(from.quota.memory_limit_bytes, std::memory_order_relaxed);
    to.terms.store(pack_terms(from.quota), std::memory_order_relaxed);
  }
  step(core::Step::create_built);
  // Release: whoever reads 1 sees everything above.
  header.ready.store(1, std::memory_order_release);
  step(core::Step::create_ready);
  out = Mapped{segment, base, size, std::move(file)};
  return Status::ok;
}

Status publish_segment(const StateDir& dir, const TenantSpec& spec, Mapped& out) {
  if (dir.error != 0 || !is_valid_id(spec.id.view())) return Status::unavailable;
  const SegmentPath path = segment_path(dir, spec.id.view());
  if (path.truncated()) return Status::unavailable;
  SegmentPath temporary;
  platform::File file = new_file(dir, temporary);
  if (!file.is_open()) return Status::unavailable;
  // Says to new_file() elsewhere that somebody is at work here.
  if (!temporary.empty()) (void)platform::try_lock_byte(file.fd(), kRemovalByte);
  const Status built = build_segment(std::move(file), spec, out);
  Status status = built;
  for (int tries = 0; built == Status::ok && tries < 2; ++tries) {
    if (link_name(out.file, temporary, path) == 0) {
      step(core::Step::create_linked);
      status = Status::ok;
      break;
    }
    status = errno == EEXIST ? Status::exists : Status::unavailable;
    if (status != Status::exists) break;
    // Opening finishes a removal whose process died: then the name is free.
    Mapped other;
    const Status opened = open_segment(dir, spec.id.view(), other);
    platform::unmap(other.base, other.byte_size);
    if (opened != Status::not_found) break;
  }
  if (!temporary.empty()) {
    ::unlink(temporary.c_str());
    if (out.file.is_open()) platform::unlock_byte(out.file.fd(), kRemovalByte);
  }
  if (status != Status::ok) {
    platform::unmap(out.base, out.byte_size);
    out = Mapped{};
  }
  return status;
}

Status check_segment(const void* base, std::size_t size, std::string_view id,
                     std::uint32_t& gpu_count) {
  if (size < sizeof(Header)) return Status::corrupt;
  const Header& header = *static_cast<const Header*>(base);
  if (header.magic != kMagic) return Status::corrupt;
  if (header.major != kMajor) return Status::bad_version;
  if (header.ready.load(std::memory_order_acquire) != 1) return Status::corrupt;
  gpu_count = header.gpu_count;
  if (gpu_count > kMaxGpus || header.slot_count != kMaxSlots ||
      header.object_count != kMaxObjects) {
    return Status::corrupt;
  }
  // A newer minor version may be longer.
  if (header.byte_size != size || size < Segment::byte_size(gpu_count)) return Status::corrupt;
  if (!is_terminated(header.id) || !is_terminated(header.name)) return Status::corrupt;
  if (std::string_view(header.id) != id) return Status::corrupt;
  return Status::ok;
}

Status open_segment(const StateDir& dir, std::string_view id, Mapped& out) {
  const SegmentPath path = segment_path(dir, id);
  if (!is_valid_id(id) || path.truncated()) return Status::not_found;
  std::size_t size = 0;
  Status status = Status::ok;
  platform::File file = open_own_regular_file(dir, path, size, status);
  if (status != Status::ok) return status;
  constexpr std::size_t kLargest = std::size_t{1} << 30;
  if (size < sizeof(Header) || size > kLargest) return Status::corrupt;
  void* const base = platform::map_shared(file.fd(), size);
  if (base == nullptr) return Status::unavailable;
  std::uint32_t gpu_count = 0;
  status = check_segment(base, size, id, gpu_count);
  if (status == Status::ok && static_cast<Header*>(base)->removed.load() != 0) {
    unlink_if_same(file, path);  // its remover may have died before this
    status = Status::not_found;
  }
  if (status != Status::ok) {
    platform::unmap(base, size);
    return status;
  }
  out = Mapped{Segment(base, gpu_count), base, size, std::move(file)};
  return Status::ok;
}

Status remove_segment(const StateDir& dir, std::string_view id) {
  if (dir.error != 0) return Status::unavailable;
  const SegmentPath path = segment_path(dir, id);
  Mapped mapped;
  const Status opened = open_segment(dir, id, mapped);
  if (opened != Status::ok) return opened;
  Header& header = mapped.segment.header();
  // A process that joins takes its slot and then looks at `removed`; we set it and then look at the
  // slots. One of us sees the other.
  header.removed.store(1);
  step(core::Step::remove_announced);
  bool in_use = false;
  for (std::uint32_t slot = 0; slot < mapped.segment.slots(); ++slot) {
    in_use = in_use || Owner::unpack(mapped.segment.owner(slot).load()).state != SlotState::free;
  }
  if (in_use) {
    header.removed.store(0);
  } else {
    unlink_if_same(mapped.file, path);
    step(core::Step::remove_unlinked);
  }
  platform::unmap(mapped.base, mapped.byte_size);
  return in_use ? Status::exists : Status::ok;
}

}  // namespace vgpu::shm
