// SPDX-License-Identifier: Apache-2.0
// The account behind token_supply.h.
#include "token_supply.h"

#include <algorithm>
#include <cmath>

namespace vgpu::hypervisor {
namespace {

constexpr double kLeastCost = 0.11;     // a little above what the smallest launches cost
constexpr double kGreatestCost = 10.0;  // no launch costs more
constexpr double kMostOffered = 1.01 * kGreatestCost;
// Before anything was measured, a token is taken for dear, but that opinion weighs little.
constexpr double kFirstPrice = 3.0;
constexpr double kDearest = 60.0;
constexpr double kSaturated = 0.95;
constexpr double kLongMemory = 5;  // times as long as the short one
constexpr double kFirstWeight = 0.001;
// The driver counts in percent: less than half of one looks like nothing.
constexpr double kResolution = 0.005;
constexpr double kCheapest = 1e-9;
// A burst that buys as much takes any mix of launches. A crowded pod may save up for it, and a
// little more so that nothing is lost while the limiters sleep, but for no more GPU time than that.
constexpr double kFineTokens = 12;
constexpr double kCrowdedTokens = 18;
constexpr double kCrowdedBurst = 0.2;
// A limiter that was refused looks again after 10 ms: two looks and a little.
constexpr std::uint64_t kOfferNs = 25'000'000;
constexpr std::uint64_t kRestNs = 1'000'000'000;
constexpr double kLongestStop = 60;  // seconds: no debt stops a pod for longer

}  // namespace

TokenSupply::TokenSupply(const SupplyTerms& terms, std::uint64_t now_ns, double tokens, double rate)
    : terms_(terms),
      burst_s_(terms.target * terms.burst_window_s),
      now_ns_(now_ns),
      measured_until_ns_(now_ns),
      last_measured_ns_(now_ns),
      short_memory_{kFirstPrice * kFirstWeight, kFirstWeight},
      long_memory_(short_memory_),
      in_bucket_(std::isfinite(tokens) ? std::max(tokens, 0.0) : 0),
      offer_(kLeastCost),
      resting_offer_(kLeastCost) {
  if (!std::isfinite(rate) || rate <= 0) return;
  short_memory_.bought_s = kFirstWeight * std::clamp(terms.target / rate, kCheapest, kFirstPrice);
  long_memory_ = short_memory_;
}

void TokenSupply::set_terms(const SupplyTerms& terms) {
  terms_ = terms;
  burst_s_ = terms.target * terms.burst_window_s;
  credit_ = std::min(credit_, burst_s_ + ahead_s_);
}

void TokenSupply::charge(double seconds) {
  credit_ = std::max(credit_ - seconds, -kLongestStop * terms_.target);
  ahead_s_ = std::max(ahead_s_ - seconds, 0.0);
}

bool TokenSupply::measured(const BusyTime& busy, std::uint64_t now_ns) {
  if (!std::isfinite(busy.fraction) || busy.fraction < 0 || busy.until_ns > now_ns) return false;
  const std::uint64_t from_ns = std::max(busy.from_ns, measured_until_ns_);
  if (from_ns >= busy.until_ns) return false;
  if (from_ns > measured_until_ns_) {  // a gap: as if what was taken had run
    const auto gap = static_cast<double>(from_ns - measured_until_ns_);
    taken_since_measured_ *= 1 - gap / (gap + static_cast<double>(busy.until_ns - from_ns));
    pass_gap(from_ns);
  }
  const double window_s = static_cast<double>(busy.until_ns - from_ns) * 1e-9;
  const double fraction = std::min(busy.fraction, 1.0);
  charge(fraction * window_s);
  measured_until_ns_ = last_measured_ns_ = busy.until_ns;
  const double whole =
      std::isfinite(busy.gpu_fraction) ? std::max(fraction, busy.gpu_fraction) : fraction;
  const bool ran_empty = whole < kSaturated;
  learn_price(fraction * window_s, window_s, ran_empty);
  // All that was taken before this window has run, and is measured.
  if (ran_empty) ahead_s_ = std::min(ahead_s_, taken_since_measured_ * price_s());
  taken_since_measured_ = 0;
  return true;
}

void TokenSupply::learn_price(double seconds, double window_s, bool ran_empty) {
  waiting_bought_s_ += seconds;
  if (!ran_empty) {
    // While the GPU is saturated, the price is only known to be at least this.
    waiting_taken_ += taken_since_measured_;
    if (waiting_bought_s_ > waiting_taken_ * price_s()) settle_price(window_s);
    return;
  }
  // What was taken before this window has run; of what was taken in it, nobody knows.
  settle_price(window_s);
  waiting_taken_ = taken_since_measured_;
}

void TokenSupply::settle_price(double window_s) {
  if (waiting_taken_ <= 0) return;
  const double seconds = std::max(waiting_bought_s_, kResolution * window_s);
  short_memory_.add(seconds, waiting_taken_, terms_.smoothing);
  long_memory_.add(seconds, waiting_taken_, terms_.smoothing / kLongMemory);
  waiting_bought_s_ = waiting_taken_ = 0;
}

void TokenSupply::Memory::add(double seconds, double tokens, double weight) {
  bought_s = bought_s * (1 - weight) + seconds;
  taken = taken * (1 - weight) + tokens;
  bought_s = std::max(bought_s, taken * kCheapest);
}

double TokenSupply::price_s() const {
  return std::max(short_memory_.price_s(), long_memory_.price_s());
}

void TokenSupply::pass_gap(std::uint64_t now_ns) {
  if (now_ns <= measured_until_ns_) return;
  charge(std::min(ahead_s_, static_cast<double>(now_ns - measured_until_ns_) * 1e-9));
  measured_until_ns_ = now_ns;
}

double TokenSupply::level(std::uint64_t now_ns, double tokens, bool crowded) {
  const double passed_s = now_ns > now_ns_ ? static_cast<double>(now_ns - now_ns_) * 1e-9 : 0;
  burst_s_ = terms_.target * terms_.burst_window_s;
  if (crowded) burst_s_ = std::max(burst_s_, std::min(kCrowdedTokens * price_s(), kCrowdedBurst));
  now_ns_ = std::max(now_ns, now_ns_);
  credit_ = std::min(credit_ + terms_.target * passed_s, burst_s_ + ahead_s_);
  // Never more than was there: what a tenant writes in by itself buys nothing.
  const double left = std::isfinite(tokens) ? std::clamp(tokens, 0.0, in_bucket_) : in_bucket_;
  const double taken = in_bucket_ - left;
  in_bucket_ = left;
  taken_since_measured_ += taken;
  ahead_s_ += taken * price_s();

  const double room_s = credit_ - ahead_s_;
  if (room_s < 0) {
    if (taken > 0) learn_cost(taken);
    offer_since_ns_ = now_ns_;
    return 0;
  }
  if (burst_s_ >= kFineTokens * price_s()) {
    const double wanted =
        std::min({room_s / price_s(), capacity(), left + terms_.rate_max * passed_s});
    // Among several processes, those with small launches would take each token as it comes, and a
    // large launch would never find enough.
    const double worth_it =
        std::min(left + kMostOffered, kMostOffered / kFineTokens * burst_s_ / price_s());
    return crowded && wanted < worth_it ? std::min(left, wanted) : wanted;
  }
  if (taken > 0) {
    learn_cost(taken);
    offer_since_ns_ = now_ns_;
  }
  return std::min(std::max(room_s / price_s(), offer()), capacity());
}

void TokenSupply::learn_cost(double taken) {
  // One launch or several: whether half of it would do shows the next time. What a pod finds when
  // it comes back after a pause is no more than a little above what was enough lately.
  taken = std::clamp(taken, kLeastCost, kMostOffered);
  resting_offer_ = std::min(taken, resting_offer_ * 1.2);
  offer_ = std::max(taken / 2, kLeastCost);
  is_resting_ = false;
}

double TokenSupply::offer() {
  const std::uint64_t since_ns = now_ns_ - offer_since_ns_;
  if (is_resting_) {
    if (since_ns < kRestNs) return offer_;
    is_resting_ = false;
    offer_since_ns_ = now_ns_;
  } else if (since_ns >= kOfferNs) {
    offer_since_ns_ = now_ns_;
    if (offer_ >= kMostOffered) {
      // Nobody is there, it seems, and a bucket left full would let a hundred small launches in.
      is_resting_ = true;
      offer_ = resting_offer_;
      return offer_;
    }
    offer_ = std::min(offer_ * 1.7, kMostOffered);
  }
  return offer_;
}

double TokenSupply::rate() const { return std::min(terms_.target / price_s(), terms_.rate_max); }

double TokenSupply::capacity() const {
  return std::min(std::max(burst_s_ / price_s(), kMostOffered), terms_.capacity_max);
}

}  // namespace vgpu::hypervisor
