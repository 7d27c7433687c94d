// SPDX-License-Identifier: Apache-2.0
// How many tokens the bucket of a pod on a GPU should hold so that a predecessor's limiter stays
// within its percent of GPU time. Pure: time is passed in, one thread.
//
// What the limiter does: a launch costs 0.1 to 10 tokens by its number of threads alone, goes in
// when the bucket holds as much, and otherwise tries again every 10 ms. It knows nothing of how
// long a kernel runs, and it never refills.
//
// So the account is kept here, in seconds of GPU time, and tokens are only how it is paid out:
//   credit  += target x time, at most one burst;  -= what was measured. Below zero it is debt.
//   price    = seconds of GPU time that one token has bought lately (measured / taken).
//   ahead    = what was taken and isn't measured yet, at that price.
//   level    = (credit - ahead) / price
// Refill goes by time, not by measurements: where they fail, what was taken counts at its price.
// Nothing has a floor, so a kernel of any length can be held to any percent in the mean; a burst is
// bounded in GPU time, so nothing winds up while a pod is idle.
//
// Where one token buys more than a burst (long kernels of few threads), the level above would be
// too low for any launch. There one launch goes in whenever nothing is owed: the level begins low
// and rises until something is taken, because a launch's cost shows only by what it takes.
#pragma once

#include <cstdint>
#include <optional>

namespace vgpu::hypervisor {

struct SupplyTerms {
  double target = 1;            // of the GPU's time, above 0, to 1
  double burst_window_s = 0.5;  // a burst is as much GPU time as is owed in this window
  double smoothing = 0.3;       // weight of the newest measurement in the price, above 0, to 1
  double rate_max = 1e9;        // tokens a second
  double capacity_max = 1e9;    // tokens
};

// The pod was busy for `fraction` of the time between two moments, by the driver's count.
struct BusyTime {
  std::uint64_t from_ns = 0;
  std::uint64_t until_ns = 0;
  double fraction = 0;
  double gpu_fraction = 0;  // the same for everybody on the GPU together; 0 where that isn't known
};

class TokenSupply {
 public:
  // `tokens`, `rate`: as they stand in the file. A new file has rate 0; in one that was kept before
  // they are what an earlier daemon had come to, and go on from there without a burst.
  TokenSupply(const SupplyTerms& terms, std::uint64_t now_ns, double tokens, double rate);

  void set_terms(const SupplyTerms& terms);
  const SupplyTerms& terms() const { return terms_; }

  // From any source, late or not. What can't be true or was counted before is left out; false then.
  bool measured(const BusyTime& busy, std::uint64_t now_ns);

  // To be called every 10 ms or so with what the bucket holds; returns what it should hold. The
  // caller exchanges one for the other and says so by filled(); where a limiter was faster, it asks
  // again with what the bucket holds then. `crowded`: more than one process takes tokens.
  double level(std::uint64_t now_ns, double tokens, bool crowded);
  void filled(double tokens) { in_bucket_ = tokens; }
  // No more can be in it, unless somebody else writes there.
  double in_bucket() const { return in_bucket_; }

  double rate() const;      // tokens a second, for the file
  double capacity() const;  // most tokens that the bucket may hold now, for the file

  double credit_s() const { return credit_; }
  double price_s() const;
  // How long nothing has been measured.
  std::uint64_t blind_ns(std::uint64_t now_ns) const {
    return now_ns > last_measured_ns_ ? now_ns - last_measured_ns_ : 0;
  }

 private:
  double offer();
  void learn_cost(double taken);
  void pass_gap(std::uint64_t now_ns);
  void charge(double seconds);
  void learn_price(double seconds, double window_s, bool ran_empty);
  void settle_price(double window_s);

  SupplyTerms terms_;
  double burst_s_;
  std::uint64_t now_ns_;
  std::uint64_t measured_until_ns_;  // or taken for measured
  std::uint64_t last_measured_ns_;
  double credit_ = 0;
  double ahead_s_ = 0;
  // A price is the quotient of two sums that fade together. The higher one counts: one that is too
  // high corrects itself, because the GPU then runs empty; one too low piles up work.
  struct Memory {
    double bought_s;
    double taken;
    double price_s() const { return bought_s / taken; }
    void add(double seconds, double tokens, double weight);
  };
  Memory short_memory_, long_memory_;
  // What was taken, and what was measured since, while the GPU never ran empty: it says nothing of
  // how much is still queued.
  double waiting_bought_s_ = 0;
  double waiting_taken_ = 0;
  double taken_since_measured_ = 0;
  double in_bucket_;
  // The offer to a launch whose cost isn't known.
  double offer_;
  double resting_offer_;
  std::uint64_t offer_since_ns_ = 0;
  bool is_resting_ = false;
};

}  // namespace vgpu::hypervisor
