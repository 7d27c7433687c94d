// SPDX-License-Identifier: Apache-2.0
#include "auth.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <jwt.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "jwks.h"

namespace vgpu::hypervisor::http {
namespace {

constexpr std::size_t kTokenBytesMax = 8 * 1024;
constexpr std::size_t kKeyFileBytesMax = 256 * 1024;
constexpr std::string_view kReadScope = "vgpu:read", kWriteScope = "vgpu:write";

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(fmt::format("{}: {}", path, std::strerror(errno)));
  std::string text(kKeyFileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kKeyFileBytesMax)
    throw std::runtime_error(fmt::format("{}: larger than any key", path));
  return text;
}

// Whoever can read a secret can sign with it.
void refuse_readable_secret(const std::string& path, const VerificationKey& key) {
  struct stat file {};
  if (key.algorithm == "HS256" && stat(path.c_str(), &file) == 0 && (file.st_mode & 0077) != 0)
    throw std::runtime_error(
        fmt::format("{}: others than its owner can use this secret; chmod 600 it", path));
}

std::optional<std::string> text_at(const nlohmann::json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::optional<std::int64_t> time_at(const nlohmann::json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  constexpr double kLast = 1e15;  // far above every date, and exact in an integer
  if (!(value >= 0 && value <= kLast)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

bool audience_holds(const nlohmann::json& claims, const std::string& wanted) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (found->is_array()) return std::find(found->begin(), found->end(), wanted) != found->end();
  return *found == wanted;
}

// What a claims set must say about itself; empty: it does.
std::string fault_in(const nlohmann::json& claims, const TokenSettings& settings,
                     std::int64_t now) {
  const auto expiry = time_at(claims, "exp");
  if (!expiry) return "it has no expiry (exp)";
  if (now >= *expiry + settings.leeway_seconds) return "it has expired";
  if (claims.contains("nbf")) {
    const auto from = time_at(claims, "nbf");
    if (!from) return "its nbf is no time";
    if (now + settings.leeway_seconds < *from) return "it isn't valid yet";
  }
  if (!audience_holds(claims, settings.audience))
    return fmt::format("its audience (aud) isn't {}", settings.audience);
  if (!settings.issuer.empty() && text_at(claims, "iss") != settings.issuer)
    return fmt::format("its issuer (iss) isn't {}", settings.issuer);
  return "";
}

bool is_label(const std::string& text) {
  constexpr std::size_t kLongest = 253;
  return !text.empty() && text.size() <= kLongest &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
         });
}

// Of a pod: a UUID, or the hash of a file's.
bool is_uid(const std::string& text) {
  constexpr std::size_t kLongest = 64;
  return text.size() <= kLongest && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

std::optional<PodIdentity> pod_in(const nlohmann::json& claims) {
  const auto found = claims.find("kubernetes.io");
  if (found == claims.end() || !found->is_object()) return std::nullopt;
  const auto pod = found->find("pod");
  if (pod == found->end() || !pod->is_object()) return std::nullopt;
  const auto name_space = text_at(*found, "namespace"), name = text_at(*pod, "name");
  if (!name_space || !name || !is_label(*name_space) || !is_label(*name)) return std::nullopt;
  std::string uid = text_at(*pod, "uid").value_or("");
  if (!is_uid(uid)) uid.clear();
  return PodIdentity{*name_space, *name, std::move(uid)};
}

Claims claims_of(const nlohmann::json& json) {
  Claims claims;
  claims.subject = text_at(json, "sub").value_or("");
  std::istringstream scopes(text_at(json, "scope").value_or(""));
  claims.scopes.assign(std::istream_iterator<std::string>(scopes), {});
  claims.pod = pod_in(json);
  return claims;
}

bool signature_holds(const std::string& token, const VerificationKey& key) {
  jwt_t* decoded = nullptr;
  const int failed = jwt_decode(&decoded, token.c_str(),
                                reinterpret_cast<const unsigned char*>(key.material.data()),
                                static_cast<int>(key.material.size()));
  const bool holds = failed == 0 && decoded != nullptr &&
                     jwt_get_alg(decoded) == jwt_str_alg(key.algorithm.c_str());
  jwt_free(decoded);
  return holds;
}

std::optional<nlohmann::json> object_in(std::string_view part) {
  std::string text;
  if (!decode_base64url(part, text)) return std::nullopt;
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

std::string_view bearer_in(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    if ((authorization[i] | 0x20) != kScheme[i]) return {};
  }
  return authorization.substr(kScheme.size());
}

Caller by_token(std::string_view authorization, const TokenVerifier* verifier, std::int64_t now) {
  Caller caller;
  const std::string_view token = bearer_in(authorization);
  if (token.empty()) {
    caller.refused = "the Authorization header holds no bearer token";
  } else if (verifier == nullptr) {
    caller.refused = "no key is configured by which a token could be verified";
  } else {
    const Verified verified = verifier->verify(token, now);
    if (!verified.claims) {
      caller.refused = "the token isn't accepted: " + verified.why;
      return caller;
    }
    const auto has = [&](std::string_view scope) {
      const auto& scopes = verified.claims->scopes;
      return std::find(scopes.begin(), scopes.end(), scope) != scopes.end();
    };
    caller.role = has(kWriteScope) ? Role::operate : has(kReadScope) ? Role::reader : Role::nobody;
    caller.by_token = true;
    caller.pod = verified.claims->pod;
    caller.name = verified.claims->subject;
  }
  return caller;
}

}  // namespace

struct TokenVerifier::Key : VerificationKey {
  explicit Key(VerificationKey key) : VerificationKey(std::move(key)) {}
};

TokenVerifier::TokenVerifier(const TokenSettings& settings) : settings_(settings) {
  if (!settings.key_file.empty()) read_key_file(settings.key_file);
  if (!settings.jwks_file.empty()) read_jwks_file(settings.jwks_file);
}

TokenVerifier::~TokenVerifier() = default;

void TokenVerifier::read_key_file(const std::string& path) {
  const std::string text = read_file(path);
  try {
    keys_.emplace_back(key_of_file(text));
  } catch (const std::exception& reason) {
    throw std::runtime_error(fmt::format("{}: {}", path, reason.what()));
  }
  refuse_readable_secret(path, keys_.back());
}

void TokenVerifier::read_jwks_file(const std::string& path) {
  const std::string text = read_file(path);
  try {
    for (auto& key : keys_of_set(text)) keys_.emplace_back(std::move(key));
  } catch (const std::exception& reason) {
    throw std::runtime_error(fmt::format("{}: {}", path, reason.what()));
  }
  for (const auto& key : keys_) refuse_readable_secret(path, key);
}

const TokenVerifier::Key* TokenVerifier::key_for(const std::string& algorithm,
                                                 const std::string& id) const {
  const Key* any = nullptr;
  for (const auto& key : keys_) {
    if (key.algorithm != algorithm) continue;
    if (!id.empty() && key.id == id) return &key;
    // A key without a name serves all tokens; one with a name those that name none.
    if (any == nullptr && (key.id.empty() || id.empty())) any = &key;
  }
  return any;
}

Verified TokenVerifier::verify(std::string_view token, std::int64_t now_seconds) const {
  if (token.size() > kTokenBytesMax) return {std::nullopt, "it is too long"};
  const auto first = token.find('.');
  const auto second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos)
    return {std::nullopt, "it isn't of three parts"};
  const auto header = object_in(token.substr(0, first));
  const auto claims = object_in(token.substr(first + 1, second - first - 1));
  std::string signature;
  if (!header || !claims || !decode_base64url(token.substr(second + 1), signature))
    return {std::nullopt, "it can't be read"};
  if (header->contains("crit")) return {std::nullopt, "it needs an extension (crit)"};
  // The key decides by what it is which algorithm it takes; "none" has no key.
  const Key* key =
      key_for(text_at(*header, "alg").value_or(""), text_at(*header, "kid").value_or(""));
  if (key == nullptr) return {std::nullopt, "there is no key for its algorithm and key id"};
  if (!signature_holds(std::string(token), *key)) return {std::nullopt, "its signature is wrong"};
  std::string fault = fault_in(*claims, settings_, now_seconds);
  if (!fault.empty()) return {std::nullopt, std::move(fault)};
  return {claims_of(*claims), ""};
}

bool names_this_machine(std::string_view host) {
  if (!host.empty() && host.front() == '[') {
    const auto end = host.find(']');
    return end != std::string_view::npos && host.substr(1, end - 1) == "::1";
  }
  const std::string name(host.substr(0, host.find(':')));
  in_addr address{};
  if (inet_pton(AF_INET, name.c_str(), &address) == 1) return (ntohl(address.s_addr) >> 24) == 127;
  return name == "localhost";
}

Caller identify(const Peer& peer, const Credentials& credentials, const AccessSettings& settings,
                const TokenVerifier* verifier, std::int64_t now_seconds) {
  Caller caller;
  if (peer.by_unix_socket) {
    Caller token;
    if (!credentials.authorization.empty())
      token = by_token(credentials.authorization, verifier, now_seconds);
    if (peer.container && !settings.containers_are_users) {
      if (token.role == Role::nobody && token.refused.empty()) {
        token.refused =
            "from a container a process may join its tenant; more needs a token with the scope "
            "vgpu:read or vgpu:write, or the daemon's setting authority.containers";
      }
      return token;
    }
    caller.name = fmt::format("uid {}", peer.uid);
    caller.role = Role::operate;
    caller.pod = token.pod;  // a token that holds adds that, and takes nothing away
    return caller;
  }
  if (!credentials.authorization.empty())
    return by_token(credentials.authorization, verifier, now_seconds);
  caller.refused = "a bearer token is needed";
  if (!peer.loopback || !names_this_machine(credentials.host)) return caller;
  if (settings.open_reads) {
    caller.role = Role::reader;
    caller.name = "local";
    return caller;
  }
  const auto owner = owner_of_loopback(peer);
  if (owner && (*owner == 0 || *owner == settings.own_uid)) {
    caller.role = Role::reader;
    caller.name = fmt::format("uid {}", *owner);
  }
  return caller;
}

}  // namespace vgpu::hypervisor::http
