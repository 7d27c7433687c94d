// SPDX-License-Identifier: Apache-2.0
// Tenant's life in this process: open, close, what it says about itself, and finding out after a
// fork that this is another process.
#include "vgpu/shm/tenant.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <utility>

#include "segment.h"
#include "state.h"
#include "vgpu/core/pace.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/fork_page.h"
#include "vgpu/platform/process.h"
#include "vgpu/shm/node.h"
#include "vgpu/shm/quota_page.h"

namespace vgpu::shm {
namespace {

platform::File anonymous_file() {
  constexpr unsigned kCloseOnExec =
      1;  // MFD_CLOEXEC; by number, the wrapper needs a newer C library
  return platform::File(static_cast<int>(::syscall(SYS_memfd_create, "vgpu-tenant", kCloseOnExec)));
}

void free_state(Tenant::State* state) {
  platform::unmap(const_cast<QuotaPageRecord*>(state->quota_page.load(std::memory_order_relaxed)),
                  sizeof(QuotaPageRecord));
  platform::unmap(state->base, state->byte_size);
  platform::unmap(state->process, platform::kForkPageSize);
  platform::unmap(state, sizeof(Tenant::State));
}

Status make_state(Mapped&& mapped, const SegmentPath& path, const StateDir& dir,
                  Tenant::State*& out) {
  void* const memory = platform::map_private_zeroed(sizeof(Tenant::State));
  const platform::ForkPage page = platform::map_fork_page();
  if (memory == nullptr || page.address == nullptr) {
    platform::unmap(memory, sizeof(Tenant::State));
    platform::unmap(page.address, platform::kForkPageSize);
    platform::unmap(mapped.base, mapped.byte_size);
    return Status::unavailable;
  }
  auto* const state = new (memory) Tenant::State;
  state->segment = mapped.segment;
  state->base = mapped.base;
  state->byte_size = mapped.byte_size;
  state->process = new (page.address) ProcessPart{};
  state->process_part_is_wiped = page.wiped_by_fork;
  state->process->pid.store(platform::self_pid(), std::memory_order_relaxed);
  state->process->has_own_file.store(1, std::memory_order_relaxed);
  state->file = platform::identity_of(mapped.file.fd());
  state->path = path;
  if (!path.empty()) {
    state->quota_folders[0] = dir.quotas;
    state->quota_folders[1].append(dir.path.view()).append("/quotas");
  }
  state->fd.store(mapped.file.take(), std::memory_order_relaxed);
  out = state;
  return Status::ok;
}

}  // namespace

bool Tenant::State::is_own_process() const {
  return process->pid.load(std::memory_order_relaxed) == platform::self_pid();
}

// A page that has gone leaves its mapping: what it said last holds until there is another.
const QuotaPageRecord* Tenant::State::quotas() {
  const QuotaPageRecord* page = quota_page.load(std::memory_order_acquire);
  const std::uint32_t told = segment.header().quota_pages.load(std::memory_order_relaxed);
  if (page != nullptr || told == quota_pages_seen.load(std::memory_order_relaxed)) return page;
  quota_pages_seen.store(told, std::memory_order_relaxed);
  const char* const id = segment.header().id;
  for (const auto& folder : quota_folders) {
    page =
        map_quota_page(folder.view(), file, std::string_view(id, ::strnlen(id, kMaxName)), segment);
    if (page != nullptr) break;
  }
  const QuotaPageRecord* before = nullptr;
  if (page != nullptr && !quota_page.compare_exchange_strong(before, page)) {
    platform::unmap(const_cast<QuotaPageRecord*>(page), sizeof(QuotaPageRecord));
    page = before;
  }
  return page;
}

int Tenant::State::own_file() {
  const int current = fd.load(std::memory_order_relaxed);
  const bool current_is_ours = platform::identity_of(current) == file;
  if (process->has_own_file.load(std::memory_order_relaxed) != 0 && current_is_ours) return current;
  platform::File fresh;
  if (current_is_ours) fresh = platform::reopen(current);
  if (!fresh.is_open() && !path.empty()) {
    fresh = platform::File(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  }
  if (!fresh.is_open() || platform::identity_of(fresh.fd()) != file) return -1;
  // Never unmapped: it keeps the description, and with it the lock on our slot, through a
  // closefrom() of the program. The mapping that was inherited stays for the same reason: while we
  // hold the parent's files, its memory may live.
  if (platform::map_shared(fresh.fd(), platform::kForkPageSize) == nullptr) return -1;
  if (current_is_ours) ::close(current);
  fd.store(fresh.take(), std::memory_order_relaxed);
  process->has_own_file.store(1, std::memory_order_relaxed);
  return fd.load(std::memory_order_relaxed);
}

ProcessLock::ProcessLock(Tenant::State& state) : process_(*state.process) {
  if (!state.process_part_is_wiped && !state.is_own_process()) {
    // A forked child, which has one thread here: nobody else is in this page.
    process_.mutex.store(0, std::memory_order_relaxed);
    process_.slot_plus_one.store(0, std::memory_order_relaxed);
    process_.has_own_file.store(0, std::memory_order_relaxed);
    process_.pid.store(platform::self_pid(), std::memory_order_release);
  }
  while (process_.mutex.exchange(1, std::memory_order_acquire) != 0) ::sched_yield();
}

ProcessLock::~ProcessLock() { process_.mutex.store(0, std::memory_order_release); }

Tenant::Tenant(Tenant&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Tenant& Tenant::operator=(Tenant&& other) noexcept {
  if (this != &other) {
    Tenant old;
    old.state_ = std::exchange(state_, std::exchange(other.state_, nullptr));
  }
  return *this;
}

Tenant::~Tenant() {
  if (state_ == nullptr) return;
  // Kept mapped, and so alive, are: what still counts for this process, and what a parent's slot
  // hangs on.
  if (!state_->is_own_process() &&
      state_->process->has_own_file.load(std::memory_order_relaxed) == 0)
    return;
  if (joined()) {
    for (std::uint32_t gpu = 0; gpu < gpu_count(); ++gpu) {
      if (own_charged_bytes(gpu) != 0) return;
    }
    const HeldObjects& held = state_->segment.held(state_->slot());
    for (const Word& word : held.bits) {
      if (word.load(std::memory_order_relaxed) != 0) return;
    }
    leave();
  }
  const int fd = state_->fd.load(std::memory_order_relaxed);
  if (platform::identity_of(fd) == state_->file) ::close(fd);
  free_state(state_);
}

Status Tenant::create(const StateDir& dir, const TenantSpec& spec, Tenant& out) {
  Mapped mapped;
  const Status published = publish_segment(dir, spec, mapped);
  if (published != Status::ok) return published;
  Tenant tenant;
  const Status status =
      make_state(std::move(mapped), segment_path(dir, spec.id.view()), dir, tenant.state_);
  if (status == Status::ok) out = std::move(tenant);
  return status;
}

Status Tenant::create_private(const TenantSpec& spec, Tenant& out) {
  Mapped mapped;
  const Status built = build_segment(anonymous_file(), spec, mapped);
  if (built != Status::ok) return built;
  Tenant tenant;
  const Status status = make_state(std::move(mapped), SegmentPath(), StateDir(), tenant.state_);
  if (status == Status::ok) out = std::move(tenant);
  return status;
}

Status Tenant::open(const StateDir& dir, std::string_view id, Tenant& out) {
  if (dir.error != 0) return Status::unavailable;
  Mapped mapped;
  const Status opened = open_segment(dir, id, mapped);
  if (opened != Status::ok) return opened;
  Tenant tenant;
  const Status status = make_state(std::move(mapped), segment_path(dir, id), dir, tenant.state_);
  if (status == Status::ok) out = std::move(tenant);
  return status;
}

Status Tenant::remove(const StateDir& dir, std::string_view id) {
  {
    Tenant tenant;
    const Status opened = open(dir, id, tenant);
    if (opened != Status::ok) return opened;
    tenant.reap();
  }
  return remove_segment(dir, id);
}

bool Tenant::is_open() const { return state_ != nullptr; }

TenantSpec Tenant::spec() const {
  TenantSpec spec;
  if (state_ == nullptr) return spec;
  const Header& header = state_->segment.header();
  // Bounded again: what was terminated when we opened it may have been overwritten since.
  spec.id = FixedString<kMaxName>(std::string_view(header.id, ::strnlen(header.id, kMaxName)));
  spec.name =
      FixedString<kMaxName>(std::string_view(header.name, ::strnlen(header.name, kMaxName)));
  spec.made_by_run = header.made_by_run != 0;
  for (std::uint32_t i = 0; i < gpu_count(); ++i) {
    const GpuRecord& from = state_->segment.gpu(i);
    TenantGpu to;
    std::memcpy(to.uuid.bytes.data(), from.uuid, sizeof from.uuid);
    to.nvml_index = from.nvml_index;
    to.total_bytes = from.total_bytes;
    to.in_set = from.in_set != 0;
    to.quota = quota(i);
    spec.gpus.push_back(to);
  }
  return spec;
}

std::uint32_t Tenant::gpu_count() const {
  return state_ == nullptr ? 0 : state_->segment.gpu_count();
}

int Tenant::gpu_position(const GpuUuid& uuid) const {
  for (std::uint32_t i = 0; i < gpu_count(); ++i) {
    if (std::memcmp(state_->segment.gpu(i).uuid, uuid.bytes.data(), uuid.bytes.size()) == 0) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

std::uint64_t Tenant::memory_limit_bytes(std::uint32_t gpu) const {
  if (gpu >= gpu_count()) return kNoLimit;
  // Relaxed: a limit stands alone; nothing else is published with it.
  if (const QuotaPageRecord* const page = state_->quotas())
    return page->rows[gpu].memory_limit_bytes.load(std::memory_order_relaxed);
  return state_->segment.memory_limit_bytes(gpu);
}

Quota Tenant::quota(std::uint32_t gpu) const {
  Quota quota;
  if (gpu >= gpu_count()) return quota;
  // Relaxed: each word stands alone; a change of both shows one after the other.
  unpack_terms(terms(gpu), quota);
  quota.memory_limit_bytes = memory_limit_bytes(gpu);
  return quota;
}

std::uint64_t Tenant::terms(std::uint32_t gpu) const {
  if (const QuotaPageRecord* const page = state_->quotas())
    return page->rows[gpu].terms.load(std::memory_order_relaxed);
  return state_->segment.gpu(gpu).terms.load(std::memory_order_relaxed);
}

bool Tenant::is_governed() const { return state_ != nullptr && state_->quotas() != nullptr; }

void Tenant::announce_quota_page() {
  if (state_ != nullptr) state_->segment.header().quota_pages.fetch_add(1);
}

bool Tenant::take_question(std::uint64_t now_ns, std::uint64_t every_ns) {
  if (state_ == nullptr) return false;
  Word& asked = state_->segment.header().asked_ns;
  std::uint64_t last = asked.load(std::memory_order_relaxed);
  // A time to come is somebody else's clock, or nobody's.
  if (last != 0 && last <= now_ns && now_ns - last < every_ns) return false;
  // Relaxed: the word is all there is.
  return asked.compare_exchange_strong(last, now_ns, std::memory_order_relaxed);
}

void Tenant::rename(std::string_view name) {
  if (state_ == nullptr) return;
  char text[kMaxName + 1] = {};
  std::memcpy(text, name.data(), std::min(name.size(), kMaxName));
  Header& header = state_->segment.header();
  // Relaxed, in bytes as they are read: whoever reads half of each reads again.
  for (std::size_t i = 0; i < sizeof text; ++i)
    std::atomic_ref<char>(header.name[i]).store(text[i], std::memory_order_relaxed);
}

std::uint32_t Tenant::compute_limit_percent(std::uint32_t gpu) const {
  if (gpu >= gpu_count()) return 0;
  return limit_percent_of(terms(gpu));
}

ComputeWords Tenant::compute_words(std::uint32_t gpu) const {
  GpuRecord& record = state_->segment.gpu(gpu);
  const QuotaPageRecord* const page = state_->quotas();
  return {page != nullptr ? &page->rows[gpu].terms : &record.terms, &record.paid_until_ns};
}

// Relaxed: sums, of which differences are looked at.
void Tenant::note_held(std::uint32_t gpu, std::uint64_t ns) {
  if (gpu < gpu_count()) state_->segment.gpu(gpu).held_ns.fetch_add(ns, std::memory_order_relaxed);
}

std::uint64_t Tenant::held_elsewhere_ns(std::uint32_t gpu) const {
  std::uint64_t sum = 0;
  for (std::uint32_t other = 0; other < gpu_count(); ++other) {
    if (other != gpu) sum += state_->segment.gpu(other).held_ns.load(std::memory_order_relaxed);
  }
  return sum;
}

Status Tenant::set_quota(std::uint32_t gpu, const Quota& quota) {
  if (gpu >= gpu_count()) return Status::not_found;
  // Where there is a page that this process doesn't find, the daemon would put it right again.
  if (is_governed() || state_->segment.header().quota_pages.load() != 0) {
    QuotaPage page;
    const TenantSpec known = spec();
    for (const auto& folder : state_->quota_folders) {
      if (QuotaPage::take(folder.view(), state_->file, known, page) == Status::ok) break;
    }
    if (!page.is_open()) return Status::unavailable;
    page.set_quota(gpu, quota);
  }
  copy_quota(gpu, quota);
  return Status::ok;
}

Quota Tenant::copied_quota(std::uint32_t gpu) const {
  Quota quota;
  if (gpu >= gpu_count()) return quota;
  const GpuRecord& record = state_->segment.gpu(gpu);
  unpack_terms(record.terms.load(std::memory_order_relaxed), quota);
  quota.memory_limit_bytes = record.memory_limit_bytes.load(std::memory_order_relaxed);
  return quota;
}

void Tenant::copy_quota(std::uint32_t gpu, const Quota& quota) {
  if (gpu >= gpu_count()) return;
  GpuRecord& record = state_->segment.gpu(gpu);
  record.memory_limit_bytes.store(quota.memory_limit_bytes, std::memory_order_relaxed);
  Quota before;
  unpack_terms(record.terms.exchange(pack_terms(quota), std::memory_order_relaxed), before);
  const auto rescaled = [&](std::uint64_t paid) {
    return core::pace_rescaled(paid, platform::monotonic_ns(), before.compute_limit_percent,
                               quota.compute_limit_percent);
  };
  std::uint64_t paid = record.paid_until_ns.load(std::memory_order_relaxed);
  while (!record.paid_until_ns.compare_exchange_weak(paid, rescaled(paid),
                                                     std::memory_order_relaxed)) {
  }
}

}  // namespace vgpu::shm
