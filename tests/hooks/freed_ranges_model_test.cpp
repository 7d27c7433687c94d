// SPDX-License-Identifier: Apache-2.0
// Random programs of allocations, frees, streams, synchronisations and trims, with up to six calls
// in the driver at once, against a reference pool that places wherever what was measured lets it. A
// request without a reservation never makes the reference grow, and the charge is never below what
// it reserves. A failure prints its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "ledger/pool_account.h"
#include "sizes.h"

namespace vgpu::limiter {
namespace {

constexpr std::uint64_t kStep = driver_model::kPoolGrowthBytes;
constexpr std::uint64_t kAlign = driver_model::kPoolAlignBytes;
constexpr std::uint64_t kStreams = 3;

using Random = std::mt19937_64;

std::uint64_t rounded(std::uint64_t bytes) { return driver_model::round_up(bytes, kAlign); }

// A pool as it was measured, and otherwise as unhelpful as can be. What is free lies in units, each
// freed as one (or left over by an allocation in one). A unit serves what fits into it, in its
// stream; several in a row may serve as one, or not. When none serves, the pool may grow, and empty
// steps may lend their memory to that; where one does, they may lend it nevertheless.
class ReferencePool {
 public:
  explicit ReferencePool(Random& random) : random_(random) {}

  std::uint64_t reserved() const { return steps_.size() * kStep; }
  bool serves(std::uint64_t bytes, std::uint64_t stream) const {
    return std::any_of(units_.begin(), units_.end(), [&](const auto& unit) {
      return unit.second.bytes >= rounded(bytes) && is_usable(unit.second, stream);
    });
  }

  std::uint64_t take(std::uint64_t wanted, std::uint64_t stream) {
    const std::uint64_t bytes = rounded(wanted);
    std::vector<Place> places = usable_places(bytes, stream, serves(wanted, stream));
    const bool lends = random_() % 4 == 0 && empty_steps().size() * kStep >= bytes + kStep;
    if (places.empty() || lends) places = {grow(bytes, !places.empty())};
    const Place place = places[random_() % places.size()];
    const std::uint64_t slack = (place.bytes - bytes) / kAlign;
    std::uint64_t offset = 0;
    if (random_() % 4 == 0) offset = slack;
    if (random_() % 4 == 0) offset = random_() % (slack + 1);
    const std::uint64_t address = place.address + offset * kAlign;
    cut(address, bytes);
    live_[address] = bytes;
    return address;
  }
  void free(std::uint64_t address, std::uint64_t stream) {
    units_[address] = {live_.at(address), stream};
    live_.erase(address);
  }
  // What `stream` freed is everybody's; 0: what all did.
  void order(std::uint64_t stream) {
    for (auto& [address, unit] : units_) {
      if (stream == 0 || unit.stream == stream) unit.stream = 0;
    }
  }
  // Empty steps go back to the device, as many as the pool likes.
  void trim() {
    for (const std::uint64_t step : empty_steps()) {
      if (random_() % 2 == 0) unmap(step);
    }
  }

 private:
  struct Unit {
    std::uint64_t bytes;
    std::uint64_t stream;
  };
  struct Place {
    std::uint64_t address;
    std::uint64_t bytes;
  };
  static bool is_usable(const Unit& unit, std::uint64_t stream) {
    return unit.stream == 0 || unit.stream == stream;
  }

  // Units that serve alone and, at times, rows of units. Where one serves, the pool doesn't grow.
  std::vector<Place> usable_places(std::uint64_t bytes, std::uint64_t stream, bool must_serve) {
    std::vector<Place> places;
    const bool joins = random_() % 2 == 0;
    Place row{0, 0};
    for (const auto& [address, unit] : units_) {
      if (!is_usable(unit, stream)) continue;
      if (must_serve && unit.bytes >= bytes) places.push_back({address, unit.bytes});
      row = row.address + row.bytes == address ? Place{row.address, row.bytes + unit.bytes}
                                               : Place{address, unit.bytes};
      if (joins && row.bytes >= bytes) places.push_back(row);
    }
    return places;
  }

  // New steps in a row, where none are: far away, where some were before, or behind what there is.
  // `all_lent`: with memory of empty steps only.
  Place grow(std::uint64_t bytes, bool all_lent) {
    std::uint64_t address = next_;
    std::uint64_t in_front = 0;
    if (!all_lent && random_() % 3 == 0) {
      const auto last = units_.empty() ? units_.end() : std::prev(units_.end());
      if (last != units_.end() && last->first + last->second.bytes == next_ &&
          last->second.stream == 0)
        in_front = std::min(last->second.bytes, bytes);
    } else if (random_() % 2 == 0) {
      next_ = address += 4 * kStep;
    }
    const std::uint64_t fresh = driver_model::round_up(bytes - in_front, kStep);
    if (in_front == 0 && random_() % 2 == 0) address = hole_of(fresh).value_or(address);
    std::vector<std::uint64_t> lenders = empty_steps();
    for (std::uint64_t at = address; at < address + fresh; at += kStep) steps_[at] = true;
    next_ = std::max(next_, address + fresh);
    for (std::uint64_t lent = 0;
         lent < fresh && !lenders.empty() && (all_lent || random_() % 3 != 0); lent += kStep) {
      const bool is_in_front =
          lenders.back() + kStep > address - in_front && lenders.back() < address;
      if (!is_in_front) unmap(lenders.back());
      lenders.pop_back();
    }
    units_[address] = {fresh, 0};
    return {address - in_front, in_front + fresh};
  }

  std::optional<std::uint64_t> hole_of(std::uint64_t bytes) {
    for (auto at = steps_.begin(); at != steps_.end() && std::next(at) != steps_.end(); ++at) {
      if (std::next(at)->first - at->first - kStep >= bytes) return at->first + kStep;
    }
    return std::nullopt;
  }

  std::vector<std::uint64_t> empty_steps() const {
    std::vector<std::uint64_t> empty;
    for (const auto& [step, mapped] : steps_) {
      const auto behind = live_.lower_bound(step + kStep);
      const bool has_any =
          behind != live_.begin() && std::prev(behind)->first + std::prev(behind)->second > step;
      if (!has_any) empty.push_back(step);
    }
    return empty;
  }
  void unmap(std::uint64_t step) {
    cut(step, kStep);
    steps_.erase(step);
  }
  void cut(std::uint64_t address, std::uint64_t bytes) {
    const std::uint64_t end = address + bytes;
    auto at = units_.upper_bound(address);
    if (at != units_.begin()) --at;
    while (at != units_.end() && at->first < end) {
      const std::uint64_t start = at->first;
      const Unit unit = at->second;
      if (start + unit.bytes <= address) {
        ++at;
        continue;
      }
      at = units_.erase(at);
      if (start < address) units_[start] = {address - start, unit.stream};
      if (start + unit.bytes > end) units_[end] = {start + unit.bytes - end, unit.stream};
    }
  }

  Random& random_;
  std::map<std::uint64_t, std::uint64_t> live_;
  std::map<std::uint64_t, Unit> units_;  // all that is free
  std::map<std::uint64_t, bool> steps_;
  std::uint64_t next_ = 0x7f0000600000;  // no multiple of a step
};

// The hooks of one process, a call at a time or several interleaved.
class Program {
 public:
  Program(unsigned seed, bool keeps) : random_(seed), pool_(random_), keeps_(keeps) {
    account_.lend(&storage_);
    account_.set_threshold(keeps ? UINT64_MAX : 0);
  }

  void step() {
    if (calls_.size() < most_calls_ && random_() % 2 == 0) {
      begin_any();
    } else if (!calls_.empty()) {
      go_on(random_() % calls_.size());
    }
    ASSERT_GE(charged_, pool_.reserved());
    ASSERT_EQ(charged_, account_.charged_bytes());
  }
  long unreserved_count() const { return unreserved_; }

 private:
  enum class What : std::uint8_t {
    allocation,
    attempt,  // to serve one without a reservation
    free,
    synchronisation,
    settlement,
    resolution,
    trim
  };
  struct Call {
    What what;
    int phase = 0;
    std::uint64_t bytes = 0;
    std::uint64_t stream = 0;
    std::uint64_t address = 0;
    std::uint64_t ticket = 0;  // of a free; the epoch of a synchronisation
    std::uint64_t born = 0;
    std::uint64_t reading = 0;
    bool has_company = false;  // another request began meanwhile, which was charged for both
    PoolAccount::Request request{};
    PoolAccount::Settlement settlement{};
  };
  struct Live {
    std::uint64_t address;
    std::uint64_t bytes;
    std::uint64_t born;
  };

  bool has(What what) const {
    return std::any_of(calls_.begin(), calls_.end(),
                       [&](const Call& call) { return call.what == what; });
  }
  // Somebody has the turn, and keeps synchronisations out.
  bool has_unreserved() const {
    return std::any_of(calls_.begin(), calls_.end(), [](const Call& call) {
      return call.what == What::attempt ||
             (call.what == What::allocation && !call.request.is_reserved);
    });
  }

  void begin_any() {
    if (live_.size() > most_live_) return begin_free();
    switch (random_() % 9) {
      case 0:
      case 1:
      case 2:
        return begin_allocation();
      case 3:
      case 4:
      case 5:
        return begin_free();
      case 6:
        if (has_unreserved() || has(What::trim) || random_() % 3 > trims_) return;  // the turn
        settle();
        account_.begin_trim();
        calls_.push_back({.what = What::trim});
        return;
      case 7:
        if (random_() % 2 == 0) {
          calls_.push_back({.what = What::settlement, .settlement = account_.begin_settlement()});
        } else if (!has(What::resolution) && !has_unreserved()) {
          list_doubtful();
          calls_.push_back({.what = What::resolution});
        }
        return;
      default:
        if (!keeps_ && has_unreserved()) return;  // the gate
        calls_.push_back({.what = What::synchronisation,
                          .stream = random_() % (kStreams + 1),
                          .ticket = epoch_++});
    }
  }

  std::uint64_t any_size() {
    switch (random_() % 4) {
      case 0:
        return 1 + random_() % (100 * kMiB);
      case 1:
        return 1 + random_() % (64 * 1024);
      default:
        return 1 + random_() % (24 * kMiB);
    }
  }

  void begin_allocation() {
    Call call{.what = What::allocation, .bytes = any_size(), .stream = 1 + random_() % kStreams};
    // Often all of what the account remembers, or did lately, of one range.
    const FreedRanges::Range& range = storage_.ranges[random_() % 16];
    if (random_() % 4 != 0 && range.bytes != 0) {
      call.bytes = range.bytes;
      if (range.stream - 1 < kStreams) call.stream = range.stream;
    }
    const bool may_be_trimmed = !keeps_ && has(What::synchronisation);
    const bool has_turn = !has_unreserved() && !has(What::resolution) && !has(What::trim);
    if (random_() % 2 == 0 && has_turn && !may_be_trimmed) {
      call.what = What::attempt;
      call.settlement = account_.begin_settlement();
      calls_.push_back(call);
      return;
    }
    for (Call& other : calls_) other.has_company = true;
    ASSERT_TRUE(account_.begin(call.bytes, call.request,
                               [&](std::uint64_t extra) { return charged_ += extra, true; }));
    calls_.push_back(call);
  }

  void begin_free() {
    if (live_.empty()) return;
    std::swap(live_[random_() % live_.size()], live_.back());
    const Live taken = live_.back();
    live_.pop_back();
    if (account_.wants_reading()) settle();
    calls_.push_back({.what = What::free,
                      .bytes = taken.bytes,
                      .stream = random_() % 8 == 0 ? 0 : 1 + random_() % kStreams,
                      .address = taken.address,
                      .ticket = account_.begin_free(taken.address, taken.bytes)});
  }

  void go_on(std::size_t index) {
    Call& call = calls_[index];
    const What what = call.what;
    const bool is_done = advance(call);
    call.phase = call.what == what ? call.phase + 1 : 0;
    if (is_done) calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  bool advance(Call& call) {
    switch (call.what) {
      case What::allocation:
        return advance_allocation(call);
      case What::attempt:
        return advance_attempt(call);
      case What::free:
        if (call.phase == 0) return pool_.free(call.address, call.stream), false;
        account_.end_free(call.address, call.bytes, call.ticket, call.stream, epoch_);
        return true;
      case What::synchronisation:
        if (call.phase == 0) {
          if (!keeps_ && random_() % 2 == 0) pool_.trim();
          return pool_.order(call.stream), false;
        }
        account_.order(call.stream == 0 ? FreedRanges::kEveryStream : call.stream, call.ticket);
        return true;
      case What::settlement:
        if (call.phase == 0) return call.reading = pool_.reserved(), false;
        end_settlement(call.settlement, call.reading);
        return true;
      case What::resolution:
        account_.resolve(*doubtful_);
        return true;
      case What::trim:
        return advance_trim(call);
    }
    __builtin_unreachable();
  }

  bool advance_trim(Call& call) {
    switch (call.phase) {
      case 0:
        return pool_.trim(), false;
      case 1:
        account_.end_trim();
        call.settlement = account_.begin_settlement();
        return false;
      case 2:
        return call.reading = pool_.reserved(), false;
      default:
        end_settlement(call.settlement, call.reading);
        return true;
    }
  }

  // An attempt whose settlement was out of date promises nothing.
  bool advance_attempt(Call& call) {
    switch (call.phase) {
      case 0:
        return call.reading = pool_.reserved(), false;
      case 1:
        return !end_settlement(call.settlement, call.reading);
      case 2:
        return list_doubtful(), false;
      case 3:
        return account_.resolve(*doubtful_), false;
      default:
        if (!account_.begin_unreserved(call.bytes, call.stream, call.request)) return true;
        ++unreserved_;
        EXPECT_TRUE(pool_.serves(call.bytes, call.stream));
        call.what = What::allocation;
        return false;
    }
  }

  bool advance_allocation(Call& call) {
    if (call.phase == 0) {
      if (random_() % 32 == 0 && call.request.is_reserved) {
        charged_ -= account_.cancel(call.request);
        return true;
      }
      const std::uint64_t before = pool_.reserved();
      call.address = pool_.take(call.bytes, call.stream);
      if (!call.request.is_reserved && !call.has_company) {
        EXPECT_EQ(pool_.reserved(), before) << "grew for a request without a reservation";
      }
      return false;
    }
    if (call.phase == 1) {
      (void)account_.end(call.request, call.address, call.born);
    }
    live_.push_back({call.address, call.bytes, call.born});
    if (!call.request.is_reserved) settle();
    return true;
  }
  void settle() {
    const auto settlement = account_.begin_settlement();
    end_settlement(settlement, pool_.reserved());
  }
  // False: it was out of date.
  bool end_settlement(const PoolAccount::Settlement& settlement, std::uint64_t reading) {
    const PoolAccount::Settled settled = account_.end_settlement(settlement, reading);
    EXPECT_EQ(settled.missing_bytes, 0U);
    charged_ += settled.missing_bytes;
    charged_ -= settled.released_bytes;
    return settled.is_done;
  }
  void list_doubtful() {
    account_.list_doubtful(*doubtful_);
    for (const Live& each : live_) doubtful_->note_live(each.address, each.bytes, each.born);
  }

  Random random_;
  ReferencePool pool_;
  bool keeps_;
  FreedRanges::Storage storage_{};
  PoolAccount account_;
  const std::unique_ptr<FreedRanges::Doubtful> doubtful_ =
      std::make_unique<FreedRanges::Doubtful>();
  const std::size_t most_live_ = 4 + random_() % 24;
  const std::size_t most_calls_ = 1 + random_() % 6;
  const std::uint64_t trims_ = random_() % 3;  // how often
  std::vector<Call> calls_;
  std::vector<Live> live_;
  std::uint64_t charged_ = 0;
  std::uint64_t epoch_ = 0;
  long unreserved_ = 0;
};

void run_programs(bool keeps) {
  long unreserved = 0;
  for (unsigned seed = 1; seed <= 500; ++seed) {
    Program program(seed, keeps);
    for (int step = 0; step < 6000; ++step) {
      program.step();
      ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed << " step " << step;
    }
    unreserved += program.unreserved_count();
  }
  EXPECT_GT(unreserved, 3000) << "an account that promises nothing is no use";
}

TEST(FreedRangesModel, NeverPromisesWhatAPoolThatKeepsItsMemoryCannotGive) { run_programs(true); }

TEST(FreedRangesModel, NeverPromisesWhatAPoolThatGivesBackCannotGive) { run_programs(false); }

}  // namespace
}  // namespace vgpu::limiter
