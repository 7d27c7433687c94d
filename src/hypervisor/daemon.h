// SPDX-License-Identifier: Apache-2.0
// The daemon's heart: every 100 ms (pace.h) it puts together what the sampler, the segments and
// /proc say, tells what has changed since, lets the guard act, and publishes the new moment.
// Control's members are for any thread; the beat has its own.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "control.h"
#include "counters.h"
#include "daemon_options.h"
#include "events.h"
#include "guard.h"
#include "history.h"
#include "hosting.h"
#include "pod_processes.h"
#include "process_facts.h"
#include "quota_rules.h"
#include "sampler.h"
#include "segments.h"
#include "state_directories.h"
#include "tenant_book.h"
#include "throttle_episode.h"
#include "vgpu/admission/queue.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/snapshot.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::hypervisor {

class Daemon final : public Control {
 public:
  // Throws survey::Problem: no state directory, or another daemon is there.
  explicit Daemon(DaemonOptions options);
  ~Daemon() override;
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Nobody waits any more; threads end, the arbiter is left to the tenants.
  void stop();
  // Takes what may change while it runs: the guard, names.
  void reload(const DaemonOptions& options);
  // Did the beat move within that time? For a watchdog.
  bool is_alive(std::chrono::milliseconds within) const;

  StatePointer state() const override;
  StatePointer state_with_changes() const override;
  StatePointer state_after(std::uint64_t sequence, std::chrono::milliseconds wait) const override;
  EventBatch events_after(std::uint64_t sequence, std::size_t most,
                          std::chrono::milliseconds wait) const override;
  std::vector<HistoryPoint> history(const GpuUuid& gpu, std::string_view tenant,
                                    Resolution resolution) const override;
  std::vector<survey::Explanation> explain(std::string_view tenant_id) const override;
  Outcome<CreatedTenant> create(const Asker& asker, const CreateRequest& request) override;
  Outcome<TakenTenant> taken(const Asker& asker, std::string_view tenant) override;
  Outcome<JoinedTenant> join(const Asker& asker, const JoinRequest& request) override;
  Outcome<ChangedTenant> change(const Asker& asker, std::string_view tenant,
                                const ChangeRequest& request) override;
  Outcome<EndedTenant> end(const Asker& asker, std::string_view tenant,
                           const EndRequest& request) override;
  Outcome<RenamedTenant> rename(const Asker& asker, std::string_view tenant,
                                const std::string& name) override;
  Outcome<FoundProcess> found_in_pod(const PodProcessRequest& request) override;

 private:
  using Place = std::pair<std::string, GpuUuid>;  // a tenant on a GPU
  // A process of a tenant: tenant, pid and PID namespace of its own, start time.
  using Member = std::tuple<std::string, std::int32_t, std::uint64_t, std::uint64_t>;
  struct Use {
    survey::UseFigures figures;
    std::optional<double> owed_percent;
    std::map<std::pair<std::int32_t, std::uint64_t>, double> got_by_process;
  };
  // Where a tenant's segment is, and under which id.
  struct Whereabouts {
    DirectoryPointer directory;
    std::string own_id;
    const shm::StateDir& dir() const { return directory->dir; }
    std::string public_id() const { return directory->public_id(own_id); }
    std::uint64_t inode() const;  // 0: it isn't there
  };
  // Who was told that it belongs to a tenant: it may be on its way there.
  struct Told {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;
    std::uint64_t told_ns = 0;
    bool is_on_its_way(std::uint64_t now_ns) const;
  };
  // A tenant that was made here.
  struct Made {
    admission::User owner;
    Whereabouts place;
    std::uint64_t inode = 0;
    Lifetime lifetime = Lifetime::kept;
    std::optional<survey::TenantHold> hold;  // none: of Lifetime::run, and taken
    pid_t asker = 0;                         // of Lifetime::run, until it is taken
    std::uint64_t asker_start_ticks = 0;
    std::uint64_t unused_since_ns = 0;  // of Lifetime::joined
    std::vector<Told> told{};           // likewise
  };
  // What somebody asks for, ready to be made where admission says.
  struct Wanted {
    DirectoryPointer directory;
    shm::TenantSpec spec;
    std::vector<std::string> notices;
    std::string rule;
    Asker asker;
    admission::Wish wish;
    Quota each;                            // of a wish by number
    Priority priority = Priority::normal;  // in the queue
    Lifetime lifetime = Lifetime::kept;
    std::uint64_t asker_start_ticks = 0;
  };
  struct Waiter {
    Wanted wanted;
    std::optional<Outcome<CreatedTenant>> outcome;
  };
  struct Ending {
    std::uint64_t kill_at_ns = 0;
    bool killed = false;
  };

  void run();
  void beat();
  void share_gpus(const std::vector<DirectoryPointer>& directories);
  void read_gpus(const Readings& readings, NodeState& state);
  void read_use(const Readings& readings, std::uint64_t now_ns);
  void read_tenants(const Readings& readings, NodeState& state, std::uint64_t now_ns);
  void read_pod_processes(const Readings& readings, NodeState& state, std::uint64_t now_ns);
  void read_outsiders(const Readings& readings, NodeState& state, std::uint64_t now_ns);
  survey::Snapshot snapshot_of(const NodeState& state) const;
  std::uint64_t since_seen_apart(pid_t pid, std::uint64_t start_ticks, std::uint64_t now_ns);
  void judge_shares(NodeState& state);
  void keep_look(const NodeState& state);
  void tell(const NodeState& before, NodeState& state);
  void tell_gpus(const NodeState& before, NodeState& state);
  void tell_tenants(const NodeState& before, NodeState& state);
  void tell_processes(const NodeState& before, NodeState& state);
  void guard(NodeState& state, std::uint64_t now_ns);
  void finish_endings(std::uint64_t now_ns);
  std::size_t pod_processes_in(std::string_view tenant) const;
  void remember(const NodeState& state);
  void publish(std::shared_ptr<NodeState> state);
  void judge_uninvited(const NodeState& before);
  void say(NodeState& state, EventKind kind, std::string subject, std::string text);
  void beat_soon();

  void adopt_made_tenants();
  void write_made_tenants() const;
  DaemonOptions options() const;

  // With change_mutex_ held. Throw survey::Problem.
  const std::vector<DirectoryPointer>& directories();
  DirectoryPointer directory_for(const Asker& asker, const std::string& wanted);
  DirectoryPointer directory_to_join(const Asker& asker, const std::string& own_id);
  Outcome<JoinedTenant> join_by_rule(const Asker& asker, const AskingProcess& who);
  Outcome<JoinedTenant> join_pods(const Asker& asker, const std::string& tenant);
  Whereabouts place_of_pods(const std::string& tenant);
  Whereabouts put_into_cell(const Asker& asker, const Whereabouts& place,
                            const shm::Tenant& tenant);
  // What a tenant that was made without asking here may have, as a request for each GPU whose quota
  // is to be another.
  struct Judged {
    std::vector<ChangeRequest> changes;
    std::string why;
    std::string refused;  // why its rule can't be applied; empty: it can
  };
  Judged judge(const TenantState& tenant);
  // A quota with what it leaves open filled from the rule (null: none), on the GPU of that UUID;
  // "": on whichever.
  Quota with_rule_on(const QuotaRule* rule, const std::string& gpu, const Quota& own) const;
  // Of what is asked for in TFLOPS, the percent of the GPUs that are meant.
  void put_percent_in(const CreateRequest& request, TflopsFor form, const TflopsQuota& tflops,
                      const TflopsPlace& place, survey::QuotaFlags& flags) const;
  void put_percent_in(ChangeRequest& request, const Whereabouts& place) const;
  // The directory of a tenant that is meant, and what is to be looked for there.
  Whereabouts find_place(std::string_view typed);
  static void refuse_decoy(const Whereabouts& place);
  void set_exactly(shm::TenantSpec& spec, const CreateRequest& request,
                   const QuotaRule* rule) const;
  admission::User user_of(const Asker& asker) const;
  admission::User owner_of(std::string_view tenant) const;
  BookedTenants booked(bool without_left_behind);
  admission::Node node_of(const BookedTenants& tenants);
  Wanted wanted_of(const Asker& asker, const CreateRequest& request);
  std::size_t admission_place(const GpuUuid& gpu);
  CreatedTenant make(const Wanted& wanted, const std::vector<admission::Part>& parts,
                     const BookedTenants& tenants);
  void unmake(const std::string& id);
  void unmake_abandoned();
  void unmake_deserted(std::string_view spared = {});
  void tell_where(const std::string& id, const Asker& asker);
  bool is_name_taken(const std::string& name, const DirectoryPointer& directory,
                     const BookedTenants& tenants);
  void forget_untaken_of(const Wanted& wanted);
  Outcome<CreatedTenant> wait_for_room(std::unique_lock<std::mutex>& lock, Wanted wanted,
                                       const Patience& patience, const Refusal& refusal);
  void serve_waiting();
  void look_after_made();
  Refusal refusal_of_room(const admission::Refusal& refusal, const admission::Node& node,
                          const BookedTenants& tenants, const admission::User& user,
                          std::string_view changing = {});
  std::optional<Refusal> refuse_stranger(const Asker& asker, std::string_view id,
                                         std::string_view name) const;
  std::optional<Refusal> refuse_change(const Asker& asker, const ChangeRequest& request,
                                       const std::string& id, const survey::TenantChange& change);

  shm::StateDir dir_;
  int lock_ = -1;
  bool simulated_ = false;
  std::string boot_id_;
  std::uint64_t started_ns_ = 0;

  mutable std::mutex options_mutex_;
  DaemonOptions options_;

  Sampler sampler_;
  Hosting hosting_;
  StateDirectories directories_;
  Segments segments_;
  Counters counters_;
  ProcessBook processes_;
  std::unique_ptr<PodProcesses> pod_processes_;  // null: no pod's file is kept
  Guard guard_;
  EventLog events_;
  std::map<Place, Use> use_;
  std::map<const UserDirectory*, std::shared_ptr<const TermsTable>> terms_;
  std::uint64_t use_read_ns_ = 0;
  std::map<GpuUuid, std::pair<unsigned, std::vector<std::string>>> judged_;  // promised, notes
  std::uint64_t judged_ns_ = 0;
  std::map<Place, OverMemory> over_memory_;
  std::map<Place, std::uint64_t> refusals_told_;  // as of the last event
  std::map<Place, std::uint64_t> refusals_told_ns_;
  std::map<std::pair<std::uint64_t, std::int32_t>, pid_t> foreign_pids_;
  std::uint64_t foreign_read_ns_ = 0;
  struct Apart {
    std::uint64_t since_ns = 0;
    std::uint64_t seen_ns = 0;
  };
  std::map<std::pair<pid_t, std::uint64_t>, Apart> apart_;  // on a GPU, in no tenant
  std::map<GpuUuid, std::uint64_t> unhealthy_since_;
  std::map<GpuUuid, ThrottleEpisode> throttling_;
  std::map<GpuUuid, std::map<std::uint64_t, std::uint64_t>> xids_;
  std::map<GpuUuid, std::pair<std::uint64_t, std::uint64_t>> last_xid_;  // which, when
  std::uint64_t remembered_second_ = 0;
  std::uint64_t told_takings_ = 0;
  bool told_hosting_ = false;

  mutable std::mutex history_mutex_;
  History history_;
  // As of the last second that is remembered and of the one before, for explain().
  std::shared_ptr<const survey::Snapshot> earlier_look_, latest_look_;

  // Changes come one at a time; what follows is guarded by it.
  mutable std::mutex change_mutex_;
  std::map<std::string, Made, std::less<>> made_;
  std::map<std::string, Ending> endings_;
  TenantBook book_;
  std::vector<GpuUuid> admission_gpus_;  // their numbering for admission; only grows
  admission::Queue queue_;
  std::map<admission::Ticket, Waiter*> waiters_;
  std::condition_variable waiting_changed_;
  bool nobody_waits_any_more_ = false;

  mutable std::mutex state_mutex_;
  mutable std::condition_variable published_;
  StatePointer state_;
  bool stopping_ = false;
  std::uint64_t changed_ns_ = 0;  // what a moment that began earlier may not know of
  std::thread thread_;
};

}  // namespace vgpu::hypervisor
