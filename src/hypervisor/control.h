// SPDX-License-Identifier: Apache-2.0
// What can be asked of the daemon: what there is, what happened, and to change it. Implemented by
// the daemon, used by everything that serves. Any thread; whoever asks waits for nothing but the
// answer, and for room where a request says so. Nothing throws.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "node_state.h"
#include "peer_process.h"
#include "tflops_quota.h"
#include "vgpu/survey/causes.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {

// Who asks, as the transport has verified it.
struct Asker {
  uid_t uid = 0;
  std::optional<pid_t> pid;
  std::string origin;           // for the log: "socket", "rest"
  std::vector<gid_t> groups{};  // all that it is in
  std::shared_ptr<const PeerProcess> process{};
  // It asks from a container: which (containment.h). Its user is nobody of this machine then.
  std::optional<std::string> container{};
};

enum class RefusalKind : unsigned char {
  bad_request,  // it can't be understood
  forbidden,    // not this asker
  not_found,    // no such tenant
  conflict,     // a name that is taken, a tenant with processes
  no_room,      // more than there is
  unavailable,  // no driver, no state directory, not now
};
std::string_view refusal_name(RefusalKind kind);  // "no_room"

// What would fit on a GPU instead.
struct Room {
  GpuUuid gpu;
  std::uint32_t index = 0;
  std::optional<std::uint64_t> memory_bytes;
  std::optional<unsigned> share_percent;
};

struct Refusal {
  RefusalKind kind = RefusalKind::bad_request;
  std::string code;  // "VG1014", as `vgpu` says it
  std::string rule;  // the rule's name: "share_room", "memory_in_use", "owner", "name_taken", ...
  std::string what;  // one line
  std::string next;  // what helps; may be empty
  std::vector<Room> room;
  bool waiting_helps = false;  // an emptier node would grant it
};

template <class Value>
class Outcome {
 public:
  Outcome(Value value) : held_(std::move(value)) {}        // NOLINT(google-explicit-constructor)
  Outcome(Refusal refusal) : held_(std::move(refusal)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return std::holds_alternative<Value>(held_); }
  const Value& value() const { return std::get<Value>(held_); }
  const Refusal& refusal() const { return std::get<Refusal>(held_); }

 private:
  std::variant<Value, Refusal> held_;
};

// How long somebody waits for room.
struct Patience {
  std::optional<std::chrono::steady_clock::time_point> until;  // none: for ever
  // Asked now and then. False: whoever asked has gone.
  std::function<bool()> is_there;
  // True: what carries the answer is about to stop, so the wait ends as if the daemon did.
  std::function<bool()> is_ending;
};

enum class Lifetime : unsigned char {
  kept,    // until it is ended
  run,     // for a program that the asker starts: until the asker has gone without taken(), and
           // after that as any tenant of `vgpu run`
  joined,  // for processes that belong to it (Control::join): until the last of them has gone
};

struct WantedQuota {
  GpuUuid gpu;
  Quota quota;
};

// As `vgpu run` takes it: quantities as typed, for all GPUs or "GPU=VALUE,...". A tenant made here
// has no processes yet; `vgpu exec NAME` starts them. What is left open, a rule of the settings may
// give.
struct CreateRequest : survey::TenantRequest {
  TflopsQuota tflops;
  bool oversubscribe = false;
  // Where the asker's processes look for it; empty: the first that the daemon knows of that user.
  std::string state_directory;
  std::size_t gpu_count = 0;  // so many GPUs, where they fit; 0: those that `gpus` names
  // In place of what is typed, and of rules: its GPUs with a quota each, or, where `gpu_count` is
  // given, one for each of them.
  std::vector<WantedQuota> exact;
  std::optional<Quota> exact_each;
  Lifetime lifetime = Lifetime::kept;
  std::optional<Patience> wait;
};

struct ChangeRequest : survey::QuotaFlags {
  TflopsQuota tflops;
  std::string gpus;  // as typed; empty: all of the tenant's
  bool oversubscribe = false;
  // A lower memory limit comes down with what is held: as far as it does now. Ask again for more.
  bool when_free = false;
  Source by = Source::daemon;
};

struct EndRequest {
  bool with_processes = false;  // ends them too: SIGTERM, and after `grace` SIGKILL
  std::chrono::milliseconds grace{10'000};
};

// Both before and after, for each GPU that was meant.
struct ChangedQuota {
  GpuUuid gpu;
  std::uint32_t index = 0;
  Quota before;
  Quota after;
  std::uint64_t held_bytes = 0;           // what the ledger charges
  std::uint64_t wanted_memory_bytes = 0;  // less than after's limit: it isn't free yet
};

struct PlacedQuota {
  GpuUuid gpu;
  std::uint32_t index = 0;
  Quota quota;
};
struct CreatedTenant {
  std::string id;
  std::string own_id;  // by which its user's processes join it (VGPU_TENANT)
  std::string name;
  std::vector<PlacedQuota> gpus;     // of its set
  std::vector<std::string> notices;  // what was understood and isn't kept
  std::string rule;                  // of the settings, that gave it its quota; may be empty
};
struct TakenTenant {
  std::string id;
};
// A process with the limiter and without a tenant of its own asks where it belongs.
struct JoinRequest {
  std::string tenant;  // of the pod that it has proved to be in; empty: it said nothing
};
struct JoinedTenant {
  std::string id;
  std::string own_id;  // empty: it belongs nowhere, or, with a rule, its user has no directory yet
  std::string name;
  std::string rule;
  std::string state_directory;
  std::string quota_directory;
  // Both are this tenant's alone, and reached by what is handed over with the answer, not by name.
  bool in_container = false;
};
struct ChangedTenant {
  std::string id;
  std::string name;
  std::vector<ChangedQuota> gpus;
};
struct EndedTenant {
  std::string id;
  std::size_t processes_signalled = 0;  // 0: it is gone already; else it ends with them
};
struct RenamedTenant {
  std::string id;
  std::string before;
  std::string after;
};

// A process under the predecessor's limiter, as its pod's verified token names it.
struct PodProcessRequest {
  std::string name_space;
  std::string name;
  std::string uid;    // the pod's
  pid_t own_pid = 0;  // in its container
};
struct FoundProcess {
  pid_t host_pid = 0;
};

struct EventBatch {
  std::vector<Event> events;  // in order
  std::uint64_t next = 0;     // ask with this the next time
  bool missed = false;        // older ones are forgotten already
};

enum class Resolution : unsigned char { seconds, ten_seconds };

class Control {
 public:
  virtual ~Control() = default;

  // The latest moment. Never null, never waits.
  virtual StatePointer state() const = 0;
  // One that knows of every change that was made before this call; the latest one where that takes
  // longer than a quarter of a second.
  virtual StatePointer state_with_changes() const { return state(); }
  // The first moment after `sequence`; the latest one when `wait` has passed.
  virtual StatePointer state_after(std::uint64_t sequence,
                                   std::chrono::milliseconds wait) const = 0;

  // Events after that sequence (0: all that are remembered), at most `most`. Where there is none,
  // waits for one, but no longer than `wait`.
  virtual EventBatch events_after(std::uint64_t sequence, std::size_t most,
                                  std::chrono::milliseconds wait) const = 0;

  // The last ten minutes by seconds, or the last day by ten seconds; oldest first. `tenant` empty:
  // of the whole GPU. Nothing where nothing is known.
  virtual std::vector<HistoryPoint> history(const GpuUuid& gpu, std::string_view tenant,
                                            Resolution resolution) const = 0;

  // What held a tenant back, by two looks a second or so apart: of each GPU that it uses; where it
  // uses none, of the first of its set. Nothing: there is no tenant with that id.
  virtual std::vector<survey::Explanation> explain(std::string_view tenant_id) const = 0;

  // Tenants are found by id, name, or the unique beginning of one.
  virtual Outcome<CreatedTenant> create(const Asker& asker, const CreateRequest& request) = 0;
  // The asker holds the tenant of Lifetime::run itself from now on.
  virtual Outcome<TakenTenant> taken(const Asker& asker, std::string_view tenant) = 0;
  // The asker's tenant: its pod's, or that of the first rule that matches it, which is made where
  // it isn't there yet. By the asker's process, which has to live still when it is answered.
  virtual Outcome<JoinedTenant> join(const Asker& asker, const JoinRequest& request) = 0;
  virtual Outcome<ChangedTenant> change(const Asker& asker, std::string_view tenant,
                                        const ChangeRequest& request) = 0;
  virtual Outcome<EndedTenant> end(const Asker& asker, std::string_view tenant,
                                   const EndRequest& request) = 0;
  virtual Outcome<RenamedTenant> rename(const Asker& asker, std::string_view tenant,
                                        const std::string& name) = 0;
  // Its work and memory count as its pod's from now on. Only of pods whose files are kept.
  virtual Outcome<FoundProcess> found_in_pod(const PodProcessRequest& request) = 0;
};

}  // namespace vgpu::hypervisor
