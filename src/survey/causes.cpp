// SPDX-License-Identifier: Apache-2.0
// The rules behind causes.h: each looks at the last seconds of the tenant's seats and its
// neighbours', and adds a sentence if it held the tenant back noticeably.
#include "vgpu/survey/causes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "vgpu/core/arbiter.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/text.h"

namespace vgpu::survey {
namespace {

constexpr double kNoticeablePercent = 1;
constexpr double kIdlePercent = 20;  // below, a gap between two launches is nothing to speak of
// Within a cycle of turns everybody is now ahead, now behind, by less than a quarter of it.
constexpr std::uint64_t kNoticeableDebtNs = core::kCycleNs / 2;
// Work that was launched so long ago and still runs is called endless.
constexpr std::uint64_t kEndlessNs = 1'000'000'000;

std::string percent_text(double percent) {
  return percent < 10 ? fmt::format("{:.1f} %", percent) : fmt::format("{:.0f} %", percent);
}

class Judge {
 public:
  Judge(const Snapshot& before, const Snapshot& now, const ListedTenant& tenant, std::size_t place)
      : before_(before),
        now_(now),
        tenant_(tenant),
        place_(place),
        gpu_(tenant.spec.gpus[place]),
        quota_(gpu_.quota),
        name_(tenant.spec.name.view()),
        seats_(seats_of(now, tenant.spec.id.view(), gpu_.uuid)),
        shares_(shares_on(now, gpu_.uuid)) {
    for (std::size_t i = 0; i < kLongAverage; ++i) {
      if (std::any_of(seats_.begin(), seats_.end(),
                      [&](const auto* seat) { return is_active(seat->seconds[i]); }))
        seconds_ = i + 1;
    }
    busy_ = percent(&shm::SeatSecond::work_ns);
    limit_ = wait_percent(&shm::SeatSecond::waited_limit_ns);
    turn_ = std::max(wait_percent(&shm::SeatSecond::waited_turn_ns), waiting_now_percent());
  }

  Explanation explain() {
    if (seats_.empty()) {
      judge_not_started();
    } else {
      judge_limit();
      judge_turn();
      judge_debt();
      judge_endless();
      judge_in_flight();
      judge_idle();
    }
    judge_memory();
    judge_shares();
    std::stable_sort(causes_.begin(), causes_.end(),
                     [](const Cause& a, const Cause& b) { return a.weight > b.weight; });
    return {gpu_.nvml_index, gpu_.uuid, static_cast<unsigned>(seconds_),
            busy_,           summary(), std::move(causes_)};
  }

 private:
  static bool is_active(const shm::SeatSecond& second) {
    return second.work_ns != 0 || second.launches != 0 || second.waited_limit_ns != 0 ||
           second.waited_turn_ns != 0 || second.waited_in_flight_ns != 0;
  }

  // Over the seconds that are judged; of several seats the sum.
  double percent(std::uint64_t shm::SeatSecond::*figure) const {
    if (seconds_ == 0) return 0;
    double sum = 0;
    for (const auto* seat : seats_) {
      for (std::size_t i = 0; i < seconds_; ++i)
        sum += static_cast<double>(seat->seconds[i].*figure);
    }
    return sum / (1e7 * static_cast<double>(seconds_));
  }
  // Of several seats the mean: each waits for itself.
  double wait_percent(std::uint64_t shm::SeatSecond::*figure) const {
    return seats_.empty() ? 0
                          : std::min(percent(figure) / static_cast<double>(seats_.size()), 100.0);
  }

  std::uint64_t waiting_now_ns() const {
    std::uint64_t longest = 0;
    for (const auto* seat : seats_) {
      if (seat->waits && seat->waits_since_ns < now_.now_ns)
        longest = std::max(longest, now_.now_ns - seat->waits_since_ns);
    }
    return longest;
  }
  // A wait that lasts is booked only once it ends.
  double waiting_now_percent() const {
    const std::uint64_t waiting = waiting_now_ns();
    if (waiting < kEndlessNs) return 0;
    const double window = 1e9 * static_cast<double>(std::max<std::size_t>(seconds_, 1));
    return std::min(100.0, 100.0 * static_cast<double>(waiting) / window);
  }

  const shm::SeatFacts* find_seat(std::uint32_t seat) const {
    for (const auto& facts : now_.seats) {
      if (facts.seat == seat && facts.gpu == gpu_.uuid) return &facts;
    }
    return nullptr;
  }

  std::string tenant_name(const shm::SeatFacts& seat) const {
    for (const auto& tenant : now_.tenants) {
      if (tenant.spec.id.view() == seat.tenant.view()) return std::string(tenant.spec.name.view());
    }
    return visible(seat.tenant.view());
  }

  bool is_own(const shm::SeatFacts& seat) const {
    return seat.tenant.view() == tenant_.spec.id.view();
  }

  std::string seat_name(std::uint32_t seat) const {
    const shm::SeatFacts* facts = find_seat(seat);
    if (facts == nullptr) return "a process that is gone";
    return is_own(*facts) ? "other processes of its own" : tenant_name(*facts);
  }

  void add(CauseKind kind, double weight, std::optional<double> percent, std::string text,
           std::string next = "") {
    causes_.push_back({kind, weight, percent, std::move(text), std::move(next)});
  }

  void judge_not_started() {
    const std::uint64_t held = tenant_.charged_bytes[place_];
    add(CauseKind::not_started, 100, std::nullopt,
        held == 0 ? "none of its processes uses this GPU"
                  : fmt::format("none of its processes has launched anything there; they hold {}",
                                size_text(held)));
  }

  void judge_limit() {
    if (limit_ < kNoticeablePercent) return;
    const bool fixed = quota_.policy == Policy::fixed;
    add(CauseKind::compute_limit, limit_, limit_,
        fmt::format("its compute limit of {} % ({}) held launches back {} of the time",
                    quota_.compute_limit_percent, policy_name(quota_.policy), percent_text(limit_)),
        fixed ? fmt::format("vgpu set {} --policy elastic", name_)
              : fmt::format("vgpu set {} --compute-limit PERCENT", name_));
  }

  // "chat (35 %), render (5 %)": who had the GPU meanwhile, by the time waited in those seconds.
  std::string behind_whom() const {
    std::map<std::string, double> by_name;
    for (const auto* seat : seats_) {
      for (std::size_t i = 0; i < seconds_; ++i) {
        const shm::SeatSecond& second = seat->seconds[i];
        if (second.waited_turn_ns != 0 && second.behind != shm::kNoSeat)
          by_name[seat_name(second.behind)] += static_cast<double>(second.waited_turn_ns);
      }
      if (seat->waits && seat->behind != shm::kNoSeat && seat->behind != seat->seat)
        by_name[seat_name(seat->behind)] += 1;
    }
    std::vector<std::pair<std::string, double>> order(by_name.begin(), by_name.end());
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    double whole = 0;
    for (const auto& [name, time] : order) whole += time;
    std::vector<std::string> parts;
    parts.reserve(order.size());
    for (const auto& [name, time] : order) {
      parts.push_back(order.size() == 1
                          ? name
                          : fmt::format("{} ({})", name, percent_text(turn_ * time / whole)));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
  }

  void judge_turn() {
    if (turn_ < kNoticeablePercent) return;
    if (now_.launches_are_stopped) {
      add(CauseKind::daemon_gone, 100, turn_,
          fmt::format("launches wait until a hypervisor daemon is there again, which is the policy "
                      "of the one that is gone (on-daemon-loss = stop): {} of the time",
                      percent_text(turn_)),
          "hypervisor daemon");
      return;
    }
    std::string text = fmt::format("it waited for its turn {} of the time", percent_text(turn_));
    if (const std::string whom = behind_whom(); !whom.empty()) text += ", behind " + whom;
    if (const std::uint64_t waiting = waiting_now_ns(); waiting >= kEndlessNs)
      text += fmt::format("; a launch has been waiting for {:.1f} s",
                          static_cast<double>(waiting) / 1e9);
    const double owed = shares_.scaled(quota_.compute_share_percent);
    std::string next = fmt::format("vgpu set {} --compute PERCENT", name_);
    if (quota_.compute_share_percent != 0 && busy_ + kNoticeablePercent >= owed) {
      text += fmt::format("; it had the {} that it is owed", percent_text(owed));
    } else if (quota_.priority != Priority::high) {
      next += fmt::format(", or --priority high");
    }
    add(CauseKind::turn, turn_, turn_, text, next);
  }

  void judge_debt() {
    std::uint64_t debt = 0;
    for (const auto* seat : seats_) {
      if (seat->lag_ns < 0) debt += static_cast<std::uint64_t>(-seat->lag_ns);
    }
    if (debt < kNoticeableDebtNs) return;
    const double ms = static_cast<double>(debt) / 1e6;
    add(CauseKind::debt, std::min(ms / 10, 50.0), std::nullopt,
        fmt::format("it is {:.0f} ms in debt: its work ran past its turns, and others go first "
                    "until that is repaid",
                    ms));
  }

  // Nothing was launched for a while, and still it occupies the GPU: what is in flight is predicted
  // to last, or the host keeps charging for it.
  std::uint64_t endless_ns(const shm::SeatFacts& seat) const {
    if (seat.last_launch_ns == 0 || now_.now_ns < seat.last_launch_ns + kEndlessNs) return 0;
    if (seat.seconds[0].launches != 0) return 0;
    bool occupies = seat.busy_until_ns > now_.now_ns;
    for (const auto& earlier : before_.seats) {
      if (earlier.seat != seat.seat || earlier.pid != seat.pid || earlier.gpu != seat.gpu) continue;
      const std::uint64_t passed = now_.now_ns - std::min(before_.now_ns, now_.now_ns);
      occupies = occupies || (passed != 0 && earlier.work_ns == seat.work_ns &&
                              seat.held_ns > earlier.held_ns + passed / 2);
    }
    return occupies ? now_.now_ns - seat.last_launch_ns : 0;
  }

  void judge_endless() {
    for (const auto& seat : now_.seats) {
      if (seat.gpu != gpu_.uuid) continue;
      const std::uint64_t since = endless_ns(seat);
      if (since == 0) continue;
      const double s = static_cast<double>(since) / 1e9;
      if (is_own(seat)) {
        add(CauseKind::endless_work, 90, std::nullopt,
            fmt::format("its own {} (pid {}) launched something {:.1f} s ago that still runs",
                        visible(seat.program.view()), seat.pid, s));
      } else {
        add(CauseKind::endless_neighbour, 80, std::nullopt,
            fmt::format("{} (pid {}, {}) launched something {:.1f} s ago that hasn't ended and "
                        "never yields: the others run beside it, in slices that the hardware gives",
                        tenant_name(seat), seat.pid, visible(seat.program.view()), s),
            "another GPU by --gpu, for one of the two");
      }
    }
  }

  void judge_in_flight() {
    const double waited = wait_percent(&shm::SeatSecond::waited_in_flight_ns);
    if (waited < kNoticeablePercent) return;
    add(CauseKind::in_flight, waited / 10, waited,
        fmt::format("launches waited {} of the time for its own work in flight, which is bounded "
                    "so that turns end on time; that costs it no GPU time",
                    percent_text(waited)));
  }

  void judge_idle() {
    const double idle = 100 - busy_ - limit_ - turn_;
    const bool runs_on = std::any_of(seats_.begin(), seats_.end(),
                                     [&](const auto* seat) { return endless_ns(*seat) != 0; });
    if (runs_on) return;
    if (seconds_ == 0) {
      if (waiting_now_ns() >= kEndlessNs) return;
      add(CauseKind::idle, 100, 100,
          fmt::format("its own idleness: it launched nothing in the last {} s", kLongAverage));
    } else if (idle >= kIdlePercent) {
      add(CauseKind::idle, idle, idle,
          fmt::format("its own idleness: {} of the time none of its launches waited and none of "
                      "its work ran (busy {})",
                      percent_text(idle), percent_text(busy_)));
    }
  }

  void judge_memory() {
    const std::uint64_t refused = tenant_.denied[place_];
    if (refused == 0) return;
    std::uint64_t earlier = refused;
    for (const auto& tenant : before_.tenants) {
      if (tenant.spec.id.view() == tenant_.spec.id.view() && place_ < tenant.denied.size())
        earlier = std::min(refused, tenant.denied[place_]);
    }
    const std::string held =
        fmt::format("it holds {} of {}", size_text(tenant_.charged_bytes[place_]),
                    quota_.limits_memory() ? size_text(quota_.memory_limit_bytes) : "no limit");
    const auto times = [](std::uint64_t count) {
      return count == 1 ? std::string("one allocation was")
                        : fmt::format("{} allocations were", count);
    };
    const std::string next = fmt::format("vgpu set {} --memory SIZE", name_);
    if (refused > earlier) {
      add(CauseKind::refused_memory, 95, std::nullopt,
          fmt::format("{} refused just now, {} since it began: {}", times(refused - earlier),
                      refused, held),
          next);
    } else {
      add(CauseKind::refused_memory, 1, std::nullopt,
          fmt::format("{} refused since it began, none just now: {}", times(refused), held), next);
    }
  }

  void judge_shares() {
    const bool waits = turn_ >= kNoticeablePercent;
    if (quota_.compute_share_percent == 0 && waits) {
      std::vector<std::string> named;
      named.reserve(shares_.promises.size());
      for (const auto& promise : shares_.promises)
        named.push_back(fmt::format("{} {} %", promise.tenant, promise.percent));
      add(CauseKind::no_share, turn_ / 2, std::nullopt,
          named.empty() ? "it has no share, so it splits the GPU evenly with the others"
                        : fmt::format("it has no share: it splits what those with one leave ({})",
                                      fmt::join(named, ", ")),
          fmt::format("vgpu set {} --compute PERCENT", name_));
    }
    if (quota_.compute_share_percent != 0 && shares_.oversubscribed()) {
      add(CauseKind::scaled_share, waits ? turn_ / 2 : 1, std::nullopt,
          fmt::format("shares add up to {} %, so its {} % come down to {} while all want the GPU",
                      shares_.sum_percent(), quota_.compute_share_percent,
                      percent_text(shares_.scaled(quota_.compute_share_percent))));
    }
    if (!shares_.best_effort.empty()) {
      add(CauseKind::best_effort, 40, std::nullopt,
          fmt::format("shares are best effort: {}", shares_.best_effort), "vgpu ls");
    }
  }

  std::string summary() const {
    const std::string terms = compute_text(quota_);
    const std::string quota = terms.empty() ? "no share and no limit" : terms;
    if (seconds_ == 0) return fmt::format("it did nothing lately ({})", quota);
    return fmt::format("it got {} of the GPU in the last {} ({})", percent_text(busy_),
                       seconds_ == 1 ? "second" : fmt::format("{} s", seconds_), quota);
  }

  const Snapshot& before_;
  const Snapshot& now_;
  const ListedTenant& tenant_;
  std::size_t place_;
  const shm::TenantGpu& gpu_;
  const Quota& quota_;
  std::string name_;
  std::vector<const shm::SeatFacts*> seats_;
  GpuShares shares_;
  std::size_t seconds_ = 0;
  double busy_ = 0, limit_ = 0, turn_ = 0;
  std::vector<Cause> causes_;
};

bool uses(const Snapshot& snapshot, const ListedTenant& tenant, std::size_t place) {
  return tenant.charged_bytes[place] != 0 || tenant.denied[place] != 0 ||
         !seats_of(snapshot, tenant.spec.id.view(), tenant.spec.gpus[place].uuid).empty();
}

}  // namespace

std::string_view cause_name(CauseKind kind) {
  switch (kind) {
    case CauseKind::compute_limit:
      return "compute_limit";
    case CauseKind::turn:
      return "turn";
    case CauseKind::daemon_gone:
      return "daemon_gone";
    case CauseKind::debt:
      return "debt";
    case CauseKind::refused_memory:
      return "refused_memory";
    case CauseKind::endless_neighbour:
      return "endless_neighbour";
    case CauseKind::endless_work:
      return "endless_work";
    case CauseKind::no_share:
      return "no_share";
    case CauseKind::scaled_share:
      return "scaled_share";
    case CauseKind::best_effort:
      return "best_effort";
    case CauseKind::in_flight:
      return "in_flight";
    case CauseKind::idle:
      return "idle";
    case CauseKind::not_started:
      return "not_started";
  }
  return "idle";
}

std::vector<Explanation> explain(const Snapshot& before, const Snapshot& now,
                                 std::string_view tenant_id) {
  std::vector<Explanation> explanations;
  for (const auto& tenant : now.tenants) {
    if (tenant.spec.id.view() != tenant_id) continue;
    std::optional<std::size_t> first;
    for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
      if (!tenant.spec.gpus[i].in_set) continue;
      if (!first) first = i;
      if (uses(now, tenant, i)) explanations.push_back(Judge(before, now, tenant, i).explain());
    }
    if (explanations.empty() && first)
      explanations.push_back(Judge(before, now, tenant, *first).explain());
  }
  return explanations;
}

}  // namespace vgpu::survey
