// SPDX-License-Identifier: Apache-2.0
#include "limits.h"

#include <algorithm>

namespace vgpu::hypervisor::http {
namespace {
// Accounts of peers that hold nothing are kept for their tokens only; above so many the full ones
// are dropped, which changes nothing for whoever comes back.
constexpr std::size_t kRemembered = 1024;
}  // namespace

PeerLimits::Account& PeerLimits::account(const std::string& peer) {
  auto [found, fresh] = accounts_.try_emplace(peer);
  if (fresh) found->second.tokens = limits_.burst;
  return found->second;
}

double PeerLimits::tokens_at(const Account& account, Time now) const {
  const std::chrono::duration<double> passed = now - account.filled;
  return std::min(limits_.burst,
                  account.tokens + std::max(0.0, passed.count()) * limits_.requests_per_second);
}

void PeerLimits::forget_idle(Time now) {
  std::erase_if(accounts_, [&](const auto& entry) {
    const Account& known = entry.second;
    return known.connections == 0 && known.streams == 0 && known.waits == 0 &&
           tokens_at(known, now) >= limits_.burst;
  });
}

bool PeerLimits::enter_connection(const std::string& peer, bool by_unix_socket, Time now) {
  const std::lock_guard lock(mutex_);
  if (accounts_.size() > kRemembered) forget_idle(now);
  std::size_t& of_kind = by_unix_socket ? unix_ : tcp_;
  Account& known = account(peer);
  if (of_kind >= limits_.connections || known.connections >= limits_.connections_of_peer)
    return false;
  ++of_kind;
  ++known.connections;
  return true;
}

void PeerLimits::leave_connection(const std::string& peer, bool by_unix_socket) {
  const std::lock_guard lock(mutex_);
  --(by_unix_socket ? unix_ : tcp_);
  --account(peer).connections;
}

bool PeerLimits::enter_stream(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  Account& known = account(peer);
  if (streams_ >= limits_.streams || known.streams >= limits_.streams_of_peer) return false;
  ++streams_;
  ++known.streams;
  return true;
}

void PeerLimits::leave_stream(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  --streams_;
  --account(peer).streams;
}

bool PeerLimits::enter_wait(const std::string& peer, bool by_unix_socket) {
  const std::lock_guard lock(mutex_);
  Account& known = account(peer);
  if (waits_ >= limits_.waits || known.waits >= limits_.waits_of_peer) return false;
  ++waits_;
  ++known.waits;
  --(by_unix_socket ? unix_ : tcp_);
  --known.connections;
  return true;
}

void PeerLimits::leave_wait(const std::string& peer, bool by_unix_socket) {
  const std::lock_guard lock(mutex_);
  Account& known = account(peer);
  --waits_;
  --known.waits;
  ++(by_unix_socket ? unix_ : tcp_);
  ++known.connections;
}

bool PeerLimits::admit_request(const std::string& peer, Time now) {
  const std::lock_guard lock(mutex_);
  if (accounts_.size() > kRemembered) forget_idle(now);
  Account& known = account(peer);
  known.tokens = tokens_at(known, now);
  known.filled = now;
  if (known.tokens < 1) return false;
  known.tokens -= 1;
  return true;
}

std::size_t PeerLimits::connections() const {
  const std::lock_guard lock(mutex_);
  return tcp_ + unix_;
}

std::size_t PeerLimits::streams() const {
  const std::lock_guard lock(mutex_);
  return streams_;
}

std::size_t PeerLimits::waits() const {
  const std::lock_guard lock(mutex_);
  return waits_;
}

std::size_t PeerLimits::known_peers() const {
  const std::lock_guard lock(mutex_);
  return accounts_.size();
}

}  // namespace vgpu::hypervisor::http
