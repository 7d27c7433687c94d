// SPDX-License-Identifier: Apache-2.0
// A tenant's state, shared by its processes: identity, quotas, one slot a process, what each slot
// is charged. This header is what limiter and CLI use; layout.h is the wire format behind it.
//
// Ledger, in three sentences. A process adds what it asks for to its own slot first and then adds
// up all slots, so of two processes that race for the last bytes at least one sees the other and
// the limit is never passed. The tenant's total is nothing but that sum, so a death needs no
// repair: its slot stops counting. No lock, no wait: whoever is stopped or killed at any
// instruction holds nothing that another needs.
//
// Thread-safe: every member may be called from any thread unless it says otherwise. Nothing throws
// or allocates.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vgpu/base/fixed_string.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/base/quota.h"

namespace vgpu::shm {

inline constexpr std::uint32_t kMaxGpus = 32;
inline constexpr std::uint32_t kMaxSlots = 1024;
inline constexpr std::size_t kMaxName = 63;
// Ids of tenants that a daemon makes for processes that ask where they belong.
inline constexpr std::string_view kJoinedPrefix = "rule-";

enum class [[nodiscard]] Status : std::uint8_t{
    ok = 0,
    over_quota,   // the reservation would pass the limit
    ledger_full,  // every slot is held by a live process: what can't be recorded isn't allowed
    not_found,    // no such tenant
    exists,       // create: a tenant of that id is there (open it instead)
    bad_version,  // another major format version
    corrupt,      // size, magic or bounds are wrong
    unavailable,  // the state directory can't be used (errno in `error`)
};

// VGPU_STATE_DIR, else $XDG_RUNTIME_DIR/vgpu, else /dev/shm/vgpu-UID; created 0700 where missing.
// Segments of tenants lie in it as <id>.tenant.
struct StateDir {
  FixedString<255> path;
  // Where a daemon keeps quotas (quota_page.h): beside its socket (VGPU_SOCKET, else
  // /run/vgpu/hypervisor.sock), as `quotas`. One that looks after its own user's tenants only keeps
  // them in <path>/quotas.
  FixedString<255> quotas;
  int error = 0;            // errno when it can't be used
  std::int64_t owner = -1;  // the user whose the files in it must be; -1: the calling one
};
StateDir state_dir(const char* (*get_variable)(const char* name));
// The same without making it: `error` where it isn't there.
StateDir existing_state_dir(const char* (*get_variable)(const char* name));

struct TenantGpu {
  GpuUuid uuid;
  std::uint32_t nvml_index = 0;
  std::uint64_t total_bytes = 0;
  Quota quota;
  bool in_set = true;  // one of the tenant's GPUs (the others are not shown to it)
};

struct TenantSpec {
  FixedString<kMaxName> id;    // [A-Za-z0-9._-], unique in the state directory
  FixedString<kMaxName> name;  // what people type; the id unless given
  bool made_by_run = false;  // processes must acknowledge before main; hooks can't be switched off
  FixedVector<TenantGpu, kMaxGpus> gpus;  // by NVML index
};

struct ProcessView {  // one live slot, as `ls` shows it
  std::uint32_t slot = 0;
  std::int32_t pid = 0;                // in the PID namespace of the process itself
  std::uint64_t pid_namespace = 0;     // inode of that namespace
  std::uint64_t start_time_ticks = 0;  // field 22 of /proc/PID/stat
  FixedString<kMaxName> program;
  std::uint64_t charged_bytes[kMaxGpus] = {};
};

// Where a launch finds its tenant's compute limit on a GPU, and the one word by which all processes
// of the tenant keep it (core/pace.h). Good as long as the tenant is open; where a daemon comes to
// own the quota the first is another, so look now and then.
struct ComputeWords {
  const std::atomic<std::uint64_t>* terms = nullptr;  // limit_percent_of() it
  std::atomic<std::uint64_t>* paid_until_ns = nullptr;
};

class Tenant {
 public:
  Tenant() = default;
  Tenant(Tenant&&) noexcept;
  Tenant& operator=(Tenant&&) noexcept;
  ~Tenant();

  // Publishes a new segment under spec.id; atomically, so nobody ever sees half of one.
  static Status create(const StateDir& dir, const TenantSpec& spec, Tenant& out);
  static Status open(const StateDir& dir, std::string_view id, Tenant& out);
  // A segment of this process and its forked children, where there is no usable state directory.
  static Status create_private(const TenantSpec& spec, Tenant& out);
  // Takes the segment's name away; `exists` while a live process is in it (nothing changes then).
  static Status remove(const StateDir& dir, std::string_view id);

  bool is_open() const;
  // Takes a slot for the calling process; again after fork. Idempotent per process,
  // async-signal-safe from an atfork child handler. not_found: the tenant was removed meanwhile
  // (create or open it again). A forked child has no slot until it joins; reserve, charge and share
  // do that by themselves.
  Status join();
  bool joined() const;
  // Gives the slot back. Everything charged to it counts no more, so call it only when the driver
  // holds nothing for this process any more and no thread is in another member; a process that
  // simply ends leaves by dying, which keeps its memory charged until the kernel has closed its
  // files. ~Tenant leaves only if nothing is charged.
  void leave();

  TenantSpec spec() const;  // identity and the quotas as they are now
  std::uint32_t gpu_count() const;
  int gpu_position(const GpuUuid& uuid) const;  // -1: not among the tenant's GPUs
  std::uint64_t memory_limit_bytes(std::uint32_t gpu) const;
  Quota quota(std::uint32_t gpu) const;
  // What is owed under a compute limit is owed under the new one too. The seats of the tenant have
  // to be told (shm/node.h: set_terms, ring). unavailable: the quota is in a daemon's page, which
  // the caller can't write or doesn't find; nothing changes then.
  Status set_quota(std::uint32_t gpu, const Quota& quota);
  // For the daemon, which has written its page: the segment's copy.
  void copy_quota(std::uint32_t gpu, const Quota& quota);
  Quota copied_quota(std::uint32_t gpu) const;
  // The same: there is a page now. Processes look for it at their next question.
  void announce_quota_page();
  // Whether the quota is a daemon's.
  bool is_governed() const;
  // Whether it is the caller, of all processes of the tenant, who asks for news of its quotas now;
  // nobody else does before `every_ns` is over.
  bool take_question(std::uint64_t now_ns, std::uint64_t every_ns);
  // What people type. Readers may see some of each for an instant.
  void rename(std::string_view name);
  std::uint32_t compute_limit_percent(std::uint32_t gpu) const;  // 0: none
  // `gpu` below gpu_count().
  ComputeWords compute_words(std::uint32_t gpu) const;
  // A launch of this tenant was held back for so long, by its limit or for its turn.
  void note_held(std::uint32_t gpu, std::uint64_t ns);
  // For how long that was so on the tenant's other GPUs, summed over all that ever were. A kernel
  // here that grew longer meanwhile may have waited for one there.
  std::uint64_t held_elsewhere_ns(std::uint32_t gpu) const;

  // Charges `bytes` to the calling process on `gpu` (a position in spec().gpus) if the tenant stays
  // within its limit. Never passes the limit, fails only if the others really leave no room (or
  // collide for more than a millisecond at the limit, against odds). Dead slots are reaped before a
  // refusal. `keep_free`: so much of the limit stays free beside it.
  Status reserve(std::uint32_t gpu, std::uint64_t bytes, std::uint64_t keep_free = 0);
  // The same without asking: memory that is already there (imports we learn of too late, growth by
  // measurement).
  void charge(std::uint32_t gpu, std::uint64_t bytes);
  // Cancel or release. More than is charged is clamped and counted as an anomaly, never wrapped.
  void release(std::uint32_t gpu, std::uint64_t bytes);

  std::uint64_t charged_bytes(
      std::uint32_t gpu) const;  // all live processes and shared objects; reaps now and then
  std::uint64_t unreaped_bytes(std::uint32_t gpu) const;     // the same, for who reaps by itself
  std::uint64_t own_charged_bytes(std::uint32_t gpu) const;  // the calling process
  std::uint64_t denied_count(std::uint32_t gpu) const;

  // Memory that several processes of the tenant hold: counted once while any live process holds it.
  // `key` is the 128-bit hash of the handle's bytes (or another identity). Moves `bytes` of the
  // exporter's own charge into it; a second time by the same process changes nothing. ledger_full:
  // the table is full and the charge stays where it is. A process is a holder or not, however often
  // it opened the handle: counting its own opens is the caller's part.
  Status share(std::uint64_t key_high, std::uint64_t key_low, std::uint32_t gpu,
               std::uint64_t bytes);
  // The calling process becomes a holder. not_found: it comes from outside the tenant (charge it in
  // full).
  Status hold_shared(std::uint64_t key_high, std::uint64_t key_low, std::uint64_t& bytes);
  void release_shared(std::uint64_t key_high, std::uint64_t key_low);
  // An object of the same GPU and size that another process shares (imports by descriptor carry no
  // identity).
  bool find_shared_by_size(std::uint32_t gpu, std::uint64_t bytes, std::uint64_t& key_high,
                           std::uint64_t& key_low) const;

  // Frees the slots of processes that are gone (closed their files and died); returns how many. Any
  // process may.
  std::uint32_t reap();
  std::size_t processes(std::span<ProcessView> out) const;

  // Acknowledgement: the library is in this process, said before its main (see `vgpu run`). An exec
  // of another program ends it; a forked child has to say it for itself (async-signal-safe). Who
  // has a slot has acknowledged too.
  void acknowledge();
  bool has_acknowledged(std::int32_t pid, std::uint64_t start_time_ticks) const;

  struct State;  // private to src/shm

 private:
  std::uint64_t terms(std::uint32_t gpu) const;
  State* state_ = nullptr;
};

// The tenants in a state directory, ids only; returns how many there are (may be more than fit).
std::size_t list_tenants(const StateDir& dir, std::span<FixedString<kMaxName>> ids);

}  // namespace vgpu::shm
