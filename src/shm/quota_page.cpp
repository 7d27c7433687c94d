// SPDX-License-Identifier: Apache-2.0
#include "vgpu/shm/quota_page.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "quota_layout.h"
#include "vgpu/shm/node.h"

namespace vgpu::shm {
namespace {

constexpr std::size_t kBytes = sizeof(QuotaPageRecord);

bool is_of(const QuotaPageRecord& page, const platform::FileIdentity& segment,
           std::string_view id) {
  return page.magic == kQuotaMagic && page.major == kQuotaMajor &&
         page.segment_device == segment.device && page.segment_inode == segment.inode &&
         page.gpu_count <= kMaxGpus &&
         std::string_view(page.id, ::strnlen(page.id, kMaxName)) == id;
}

// A plain file that nobody but its owner writes, and whose.
bool has_trusted_mode(int fd, std::uint32_t& owner) {
  struct stat facts {};
  if (::fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode) ||
      facts.st_size != static_cast<off_t>(kBytes) || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return false;
  owner = facts.st_uid;
  return true;
}

void describe(QuotaPageRecord& page, const platform::FileIdentity& segment, std::uint64_t made_ns,
              const TenantSpec& spec) {
  page.magic = kQuotaMagic;
  page.major = kQuotaMajor;
  page.minor = kQuotaMinor;
  page.segment_device = segment.device;
  page.segment_inode = segment.inode;
  page.segment_made_ns = made_ns;
  page.gpu_count = static_cast<std::uint32_t>(spec.gpus.size());
  std::memcpy(page.id, spec.id.view().data(), std::min(spec.id.view().size(), kMaxName));
  for (std::uint32_t i = 0; i < page.gpu_count; ++i) {
    const TenantGpu& gpu = spec.gpus[i];
    QuotaRow& row = page.rows[i];
    std::memcpy(row.uuid, gpu.uuid.bytes.data(), sizeof row.uuid);
    row.memory_limit_bytes.store(gpu.quota.memory_limit_bytes, std::memory_order_relaxed);
    row.terms.store(pack_terms(gpu.quota), std::memory_order_relaxed);
  }
}

}  // namespace

SegmentPath quota_page_path(std::string_view folder, const platform::FileIdentity& segment) {
  SegmentPath path(folder);
  return path.append("/").append(QuotaPage::name(segment).view());
}

FixedString<63> QuotaPage::name(const platform::FileIdentity& segment) {
  FixedString<63> name;
  name.append_number(segment.device).append("-").append_number(segment.inode);
  return name.append(".quota");
}

const QuotaPageRecord* map_quota_page(std::string_view folder,
                                      const platform::FileIdentity& segment, std::string_view id,
                                      const Segment& gpus) {
  if (folder.empty()) return nullptr;
  const SegmentPath path = quota_page_path(folder, segment);
  if (path.truncated()) return nullptr;
  const platform::File file(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  std::uint32_t owner = 0;
  if (!file.is_open() || !has_trusted_mode(file.fd(), owner)) return nullptr;
  if (owner != 0 && owner != ::geteuid()) return nullptr;
  void* const base = platform::map_shared_readonly(file.fd(), kBytes);
  if (base == nullptr) return nullptr;
  const auto* const page = static_cast<const QuotaPageRecord*>(base);
  bool fits = is_of(*page, segment, id) && page->gpu_count == gpus.gpu_count();
  for (std::uint32_t i = 0; fits && i < gpus.gpu_count(); ++i)
    fits = std::memcmp(page->rows[i].uuid, gpus.gpu(i).uuid, sizeof page->rows[i].uuid) == 0;
  if (fits) return page;
  platform::unmap(base, kBytes);
  return nullptr;
}

QuotaPage::QuotaPage(QuotaPage&& other) noexcept
    : page_(std::exchange(other.page_, nullptr)), file_(other.file_), was_made_(other.was_made_) {}

QuotaPage& QuotaPage::operator=(QuotaPage&& other) noexcept {
  std::swap(page_, other.page_);
  std::swap(file_, other.file_);
  std::swap(was_made_, other.was_made_);
  return *this;
}

QuotaPage::~QuotaPage() { platform::unmap(page_, kBytes); }

Status QuotaPage::take(std::string_view folder, const platform::FileIdentity& segment,
                       const TenantSpec& spec, QuotaPage& out) {
  const SegmentPath path = quota_page_path(folder, segment);
  if (path.truncated()) return Status::unavailable;
  const platform::File file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.is_open()) return errno == ENOENT ? Status::not_found : Status::unavailable;
  std::uint32_t owner = 0;
  if (!has_trusted_mode(file.fd(), owner) || owner != ::geteuid()) return Status::unavailable;
  QuotaPage page;
  page.page_ = static_cast<QuotaPageRecord*>(platform::map_shared(file.fd(), kBytes));
  page.file_ = platform::identity_of(file.fd());
  if (page.page_ == nullptr) return Status::unavailable;
  if (!is_of(*page.page_, segment, spec.id.view()) || page.page_->gpu_count != spec.gpus.size())
    return Status::corrupt;
  out = std::move(page);
  return Status::ok;
}

Status QuotaPage::open(std::string_view folder, const platform::FileIdentity& segment,
                       std::uint64_t made_ns, const TenantSpec& spec, QuotaPage& out) {
  const SegmentPath path = quota_page_path(folder, segment);
  if (path.truncated()) return Status::unavailable;
  QuotaPage there;
  const Status taken = take(folder, segment, spec, there);
  if (taken == Status::ok && there.page_->segment_made_ns == made_ns) {
    out = std::move(there);
    return Status::ok;
  }
  if (taken != Status::not_found) ::unlink(path.c_str());
  StateDir place;
  place.path.append(folder);
  SegmentPath temporary;
  const platform::File fresh = new_file(place, temporary);
  QuotaPage made;
  Status status = Status::unavailable;
  if (fresh.is_open() && ::ftruncate(fresh.fd(), static_cast<off_t>(kBytes)) == 0 &&
      ::fchmod(fresh.fd(), 0644) == 0)
    made.page_ = static_cast<QuotaPageRecord*>(platform::map_shared(fresh.fd(), kBytes));
  if (made.page_ != nullptr) {
    made.file_ = platform::identity_of(fresh.fd());
    made.was_made_ = true;
    describe(*made.page_, segment, made_ns, spec);
    if (link_name(fresh, temporary, path) == 0) status = Status::ok;
  }
  if (!temporary.empty()) ::unlink(temporary.c_str());
  if (status == Status::ok) out = std::move(made);
  return status;
}

Quota QuotaPage::quota(std::uint32_t gpu) const {
  Quota quota;
  if (gpu >= kMaxGpus) return quota;
  // Relaxed, here and below: each word stands alone, as in the segment.
  unpack_terms(page_->rows[gpu].terms.load(std::memory_order_relaxed), quota);
  quota.memory_limit_bytes = page_->rows[gpu].memory_limit_bytes.load(std::memory_order_relaxed);
  return quota;
}

void QuotaPage::set_quota(std::uint32_t gpu, const Quota& quota) {
  if (gpu >= kMaxGpus) return;
  page_->rows[gpu].memory_limit_bytes.store(quota.memory_limit_bytes, std::memory_order_relaxed);
  page_->rows[gpu].terms.store(pack_terms(quota), std::memory_order_relaxed);
}

void QuotaPage::remove(std::string_view folder, const platform::FileIdentity& segment) {
  const SegmentPath path = quota_page_path(folder, segment);
  if (!path.truncated()) ::unlink(path.c_str());
}

}  // namespace vgpu::shm
