// SPDX-License-Identifier: Apache-2.0
// Who asks, and what that one may do. Over the Unix socket the kernel says who it is, and who can
// connect may read and ask for changes (control.h judges each by its user), except from a
// container, where one may have any user's number; over TCP a bearer token does, a JWT whose
// signature is checked with a configured key. What a token claims counts only once its signature,
// expiry, audience and issuer hold.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "peer.h"

namespace vgpu::hypervisor::http {

enum class Role : unsigned char { nobody, reader, operate };

struct PodIdentity {
  std::string name_space;
  std::string name;
  std::string uid{};  // empty: its token doesn't say
  std::string tenant_name() const { return name_space + "/" + name; }
};

struct Caller {
  Role role = Role::nobody;
  std::optional<PodIdentity> pod;
  std::string name;     // for logs and events: "uid 0", "system:serviceaccount:a:b"
  std::string refused;  // why it is nobody, where it tried to be somebody; for the 401
  // What it may do it may by a token, in the name of the daemon's own user.
  bool by_token = false;
};

struct TokenSettings {
  std::string key_file;   // PEM of an RSA or P-256 key or certificate, or an HS256 secret
  std::string jwks_file;  // a JSON web key set
  std::string audience = "vgpu";
  std::string issuer;                // empty: any
  std::int64_t leeway_seconds = 30;  // between the issuer's clock and ours
  bool has_key() const { return !key_file.empty() || !jwks_file.empty(); }
};

struct Claims {
  std::string subject;
  std::vector<std::string> scopes;
  std::optional<PodIdentity> pod;  // of `kubernetes.io`, as service account tokens have it
};

struct Verified {
  std::optional<Claims> claims;
  std::string why;  // none: the reason, in words that tell an attacker nothing new
};

// Thread-safe after construction.
class TokenVerifier {
 public:
  // Reads the keys. Throws std::runtime_error that names the file and what is wrong with it.
  explicit TokenVerifier(const TokenSettings& settings);
  ~TokenVerifier();
  Verified verify(std::string_view token, std::int64_t now_seconds) const;

 private:
  struct Key;
  const Key* key_for(const std::string& algorithm, const std::string& id) const;
  void read_key_file(const std::string& path);
  void read_jwks_file(const std::string& path);
  TokenSettings settings_;
  std::vector<Key> keys_;
};

struct AccessSettings {
  uid_t own_uid = 0;        // the daemon's
  bool open_reads = false;  // anybody on this machine may read over loopback
  // Who asks from a container is taken for the user whose number it has, though never for root.
  bool containers_are_users = false;
};

struct Credentials {
  std::string authorization;  // the header, as it came
  std::string host;           // likewise
};

// `verifier`: null where no key is configured.
Caller identify(const Peer& peer, const Credentials& credentials, const AccessSettings& settings,
                const TokenVerifier* verifier, std::int64_t now_seconds);

// "localhost:8001", "127.0.0.1", "[::1]:80": a page of another site, led here by its DNS, has
// another name in it.
bool names_this_machine(std::string_view host_header);

}  // namespace vgpu::hypervisor::http
