// SPDX-License-Identifier: Apache-2.0
#include "vgpu/shm/tenant_view.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "atomic_memory.h"
#include "liveness.h"
#include "node_layout.h"
#include "quota_layout.h"
#include "segment.h"
#include "state.h"
#include "vgpu/platform/file.h"

namespace vgpu::shm {
namespace {

// A file's bytes as they were, more or less at once.
class FileCopy {
 public:
  FileCopy() = default;
  FileCopy(const FileCopy&) = delete;
  FileCopy& operator=(const FileCopy&) = delete;
  ~FileCopy() {
    if (base_ != nullptr) platform::unmap(base_, size_);
  }

  Status read(const StateDir& dir, const SegmentPath& path, std::size_t least, std::size_t most) {
    Status status = Status::ok;
    std::size_t size = 0;
    file_ = open_own_regular_file(dir, path, size, status, O_RDONLY);
    if (status != Status::ok) return status;
    if (size < least || size > most) return Status::corrupt;
    base_ = platform::map_private_zeroed(size);
    if (base_ == nullptr) return Status::unavailable;
    size_ = size;
    for (std::size_t at = 0; at < size;) {
      const ssize_t part =
          ::pread(file_.fd(), static_cast<char*>(base_) + at, size - at, static_cast<off_t>(at));
      if (part < 0 && errno == EINTR) continue;
      if (part < 0) return Status::unavailable;
      if (part == 0) return Status::corrupt;  // it was cut
      at += static_cast<std::size_t>(part);
    }
    return Status::ok;
  }
  void* base() const { return base_; }
  std::size_t size() const { return size_; }
  int fd() const { return file_.fd(); }

 private:
  platform::File file_;
  void* base_ = nullptr;
  std::size_t size_ = 0;
};

constexpr std::size_t kLargestSegment = std::size_t{1} << 30;

bool is_odd(std::uint64_t terms) {
  const auto byte = [terms](unsigned index) { return (terms >> (8 * index)) & 0xff; };
  return byte(0) > 100 || byte(1) > 100 || byte(2) > static_cast<unsigned>(Policy::fixed) ||
         byte(3) > static_cast<unsigned>(Priority::high) ||
         byte(4) > static_cast<unsigned>(Source::vgpu_manager) ||
         byte(5) > static_cast<unsigned>(Source::vgpu_manager);
}

void copy_gpus(const Segment& segment, const QuotaPageRecord* page, TenantView& out) {
  for (std::uint32_t i = 0; i < segment.gpu_count(); ++i) {
    const GpuRecord& from = segment.gpu(i);
    const Word& terms = page != nullptr ? page->rows[i].terms : from.terms;
    const Word& memory =
        page != nullptr ? page->rows[i].memory_limit_bytes : from.memory_limit_bytes;
    TenantGpu to;
    std::memcpy(to.uuid.bytes.data(), from.uuid, sizeof from.uuid);
    to.nvml_index = from.nvml_index;
    to.total_bytes = from.total_bytes;
    to.in_set = from.in_set != 0;
    // Relaxed, here and below: in a copy nothing changes, and of a page each word stands alone.
    const std::uint64_t word = terms.load(std::memory_order_relaxed);
    unpack_terms(word, to.quota);
    to.quota.memory_limit_bytes = memory.load(std::memory_order_relaxed);
    out.has_odd_quota[i] = is_odd(word) || from.in_set > 1;
    out.denied[i] = from.denied.load(std::memory_order_relaxed);
    AtomicMemory ledger(segment, i);
    const core::Totals totals = core::add_up(ledger);
    out.charged_bytes[i] = core::add_saturating(totals.charged, totals.granted);
    out.spec.gpus.push_back(to);
  }
}

void copy_processes(const Segment& segment, int fd, TenantView& out,
                    std::span<ProcessView> processes) {
  const std::uint64_t own_namespace = platform::pid_namespace();
  for (std::uint32_t slot = 0; slot < segment.slots(); ++slot) {
    const Owner owner = Owner::unpack(segment.owner(slot).load(std::memory_order_relaxed));
    if (owner.state == SlotState::free) continue;
    if (slot_is_dead(segment, slot, owner, fd, own_namespace)) {
      ++out.gone;
    } else if (owner.state == SlotState::live) {
      if (out.processes < processes.size())
        view_slot(segment, slot, owner, processes[out.processes]);
      ++out.processes;
    }
  }
}

}  // namespace

Status view_tenant(const StateDir& dir, std::string_view id, TenantView& out,
                   std::span<ProcessView> processes) {
  out = TenantView();
  if (dir.error != 0) return Status::unavailable;
  const SegmentPath path = segment_path(dir, id);
  if (!is_valid_id(id) || path.truncated()) return Status::not_found;
  FileCopy copy;
  Status status = copy.read(dir, path, sizeof(Header), kLargestSegment);
  std::uint32_t gpu_count = 0;
  if (status == Status::ok) status = check_segment(copy.base(), copy.size(), id, gpu_count);
  if (status != Status::ok) return status;
  const Segment segment(copy.base(), gpu_count);
  const Header& header = segment.header();
  if (header.removed.load(std::memory_order_relaxed) != 0) return Status::not_found;
  out.spec.id = FixedString<kMaxName>(id);
  out.spec.name = FixedString<kMaxName>(std::string_view(header.name));
  out.spec.made_by_run = header.made_by_run != 0;
  out.anomalies = header.anomalies.load(std::memory_order_relaxed);

  const QuotaPageRecord* page = nullptr;
  if (header.quota_pages.load(std::memory_order_relaxed) != 0) {
    SegmentPath own_quotas(dir.path.view());
    own_quotas.append("/quotas");
    const platform::FileIdentity file = platform::identity_of(copy.fd());
    page = map_quota_page(dir.quotas.view(), file, id, segment);
    if (page == nullptr) page = map_quota_page(own_quotas.view(), file, id, segment);
  }
  copy_gpus(segment, page, out);
  if (page != nullptr) platform::unmap(const_cast<QuotaPageRecord*>(page), sizeof(QuotaPageRecord));
  copy_processes(segment, copy.fd(), out, processes);
  return Status::ok;
}

Status view_host(const StateDir& dir, std::string_view tenant, std::uint64_t now_ns,
                 HostView& out) {
  out = HostView();
  if (dir.error != 0) return Status::unavailable;
  FileCopy copy;
  const SegmentPath path = node_path(dir);
  if (path.truncated()) return Status::unavailable;
  Status status = copy.read(dir, path, kNodeBytes, kLargestSegment);
  if (status == Status::ok) status = check_node(copy.base(), copy.size());
  if (status != Status::ok) return status;
  const auto* const header = static_cast<const NodeHeader*>(copy.base());
  const auto* const seats = reinterpret_cast<const SeatRecord*>(header + 1);
  const auto host = core::Hosting::unpack(header->host.load(std::memory_order_relaxed));
  if (host.deadline_ns != 0)
    out.late_ns = now_ns > host.deadline_ns ? now_ns - host.deadline_ns : 0;
  const std::uint64_t own_namespace = platform::pid_namespace();
  const std::uint64_t number = tenant_number(tenant);
  const std::uint32_t count =
      std::min(header->seat_high_water.load(std::memory_order_relaxed), kSeats);
  for (std::uint32_t i = 0; i < count; ++i) {
    const SeatRecord& seat = seats[i];
    const Owner owner = Owner::unpack(seat.owner.load(std::memory_order_relaxed));
    const std::uint64_t since = seat.want_since_ns.load(std::memory_order_relaxed);
    if (owner.state != SlotState::live || since == 0 || since >= now_ns ||
        tenant_number(seat) != number || seat_is_dead(seat, i, owner, copy.fd(), own_namespace))
      continue;
    out.waited_ns = std::max(out.waited_ns, now_ns - since);
  }
  return Status::ok;
}

}  // namespace vgpu::shm
