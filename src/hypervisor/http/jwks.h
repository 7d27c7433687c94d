// SPDX-License-Identifier: Apache-2.0
// Keys as verification wants them, from the forms in which they are written down.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vgpu::hypervisor::http {

struct VerificationKey {
  std::string id;         // "kid"; empty: for tokens that name none too
  std::string algorithm;  // "HS256", "RS256", "ES256": the only one that it is good for
  std::string material;   // PEM of a public key, or the secret's bytes
};

// The text of a key file. Throws std::runtime_error that says what is wrong with it.
VerificationKey key_of_file(std::string_view text);

// The keys of a JSON web key set (RFC 7517) that can verify: RSA of 2048 bits and more, P-256,
// octets of 32 bytes and more. Others are left out. Throws std::runtime_error when none remains.
std::vector<VerificationKey> keys_of_set(std::string_view json);

// Base64url without padding, strictly. False: it isn't.
bool decode_base64url(std::string_view text, std::string& out);
std::string encode_base64url(std::string_view bytes);

}  // namespace vgpu::hypervisor::http
