// SPDX-License-Identifier: Apache-2.0
#include "jwks.h"

#include <fmt/format.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace vgpu::hypervisor::http {
namespace {

constexpr std::size_t kSecretBytesMin = 32;  // RFC 7518, 3.2: as long as the hash
constexpr int kRsaBitsMin = 2048;
constexpr std::size_t kCoordinateBytes = 32;

template <auto Function>
struct Free {
  template <class T>
  void operator()(T* object) const {
    Function(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Number = std::unique_ptr<BIGNUM, Free<BN_free>>;
using Memory = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Free<OSSL_PARAM_BLD_free>>;
using Parameters = std::unique_ptr<OSSL_PARAM, Free<OSSL_PARAM_free>>;
using Context = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string pem_of(EVP_PKEY* key) {
  const Memory memory(BIO_new(BIO_s_mem()));
  if (!memory || PEM_write_bio_PUBKEY(memory.get(), key) != 1)
    throw std::runtime_error("OpenSSL can't write the key");
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}

// What the key verifies, by its kind alone: a token doesn't choose.
std::string algorithm_of(EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "RSA") == 1) {
    if (EVP_PKEY_get_bits(key) < kRsaBitsMin)
      throw std::runtime_error(fmt::format("an RSA key of {} bits is too short, {} are the least",
                                           EVP_PKEY_get_bits(key), kRsaBitsMin));
    return "RS256";
  }
  std::array<char, 64> curve{};
  if (EVP_PKEY_is_a(key, "EC") == 1 &&
      EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, curve.data(), curve.size(),
                                     nullptr) == 1 &&
      std::string_view(curve.data()) == "prime256v1")
    return "ES256";
  throw std::runtime_error("neither an RSA key nor one of the curve P-256");
}

Key read_pem(std::string_view text) {
  const auto open = [&] {
    return Memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  };
  ERR_clear_error();
  Key key(PEM_read_bio_PUBKEY(open().get(), nullptr, nullptr, nullptr));
  if (key) return key;
  const Certificate certificate(PEM_read_bio_X509(open().get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  return certificate ? Key(X509_get_pubkey(certificate.get())) : nullptr;
}

bool is_der_key(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const Key key(d2i_PUBKEY(nullptr, &bytes, static_cast<long>(text.size())));
  ERR_clear_error();
  return key != nullptr;
}

Key build(const char* kind, OSSL_PARAM_BLD* builder) {
  const Parameters parameters(OSSL_PARAM_BLD_to_param(builder));
  const Context context(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* key = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    ERR_clear_error();
    return nullptr;
  }
  return Key(key);
}

std::string bytes_of(const nlohmann::json& entry, const char* field) {
  std::string bytes;
  const auto found = entry.find(field);
  if (found == entry.end() || !found->is_string() ||
      !decode_base64url(found->get_ref<const std::string&>(), bytes))
    throw std::runtime_error(fmt::format("\"{}\" is no base64url text", field));
  return bytes;
}

Key rsa_key(const nlohmann::json& entry) {
  const auto number = [](const std::string& bytes) {
    return Number(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                            static_cast<int>(bytes.size()), nullptr));
  };
  const Number n = number(bytes_of(entry, "n")), e = number(bytes_of(entry, "e"));
  const Builder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  return build("RSA", builder.get());
}

Key curve_key(const nlohmann::json& entry) {
  const std::string x = bytes_of(entry, "x"), y = bytes_of(entry, "y");
  if (entry.value("crv", "") != "P-256" || x.size() != kCoordinateBytes ||
      y.size() != kCoordinateBytes)
    throw std::runtime_error("no point of P-256");
  const std::string point = "\x04" + x + y;  // uncompressed
  const Builder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return build("EC", builder.get());
}

VerificationKey key_of_entry(const nlohmann::json& entry) {
  VerificationKey out;
  out.id = entry.value("kid", "");
  const std::string kind = entry.value("kty", "");
  if (entry.value("use", "sig") != "sig") throw std::runtime_error("not for signatures");
  if (kind == "oct") {
    out.algorithm = "HS256";
    out.material = bytes_of(entry, "k");
    if (out.material.size() < kSecretBytesMin) throw std::runtime_error("the secret is too short");
  } else {
    const Key key = kind == "RSA"  ? rsa_key(entry)
                    : kind == "EC" ? curve_key(entry)
                                   : throw std::runtime_error("of a kind that isn't understood");
    if (!key) throw std::runtime_error("no valid key");
    out.algorithm = algorithm_of(key.get());
    out.material = pem_of(key.get());
  }
  if (entry.value("alg", out.algorithm) != out.algorithm)
    throw std::runtime_error("for an algorithm that isn't understood");
  return out;
}

}  // namespace

bool decode_base64url(std::string_view text, std::string& out) {
  out.clear();
  if (text.size() % 4 == 1) return false;
  unsigned bits = 0, held = 0;
  for (const char letter : text) {
    const auto value = kAlphabet.find(letter);
    if (value == std::string_view::npos) return false;
    held = (held << 6 | static_cast<unsigned>(value)) & 0xFFFFU;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out.push_back(static_cast<char>(held >> bits & 0xFFU));
    }
  }
  return (held & ((1U << bits) - 1)) == 0;  // two texts for the same bytes: one of them is refused
}

std::string encode_base64url(std::string_view bytes) {
  std::string out;
  unsigned bits = 0, held = 0;
  for (const char byte : bytes) {
    held = held << 8 | static_cast<unsigned char>(byte);
    bits += 8;
    for (; bits >= 6; bits -= 6) out.push_back(kAlphabet[held >> (bits - 6) & 0x3FU]);
    held &= 0xFFU;
  }
  if (bits > 0) out.push_back(kAlphabet[held << (6 - bits) & 0x3FU]);
  return out;
}

VerificationKey key_of_file(std::string_view text) {
  if (text.find("-----BEGIN") != std::string_view::npos) {
    // Never a secret, whatever is wrong with it: a public key as a secret lets anybody sign.
    const Key key = read_pem(text);
    if (!key)
      throw std::runtime_error(
          "no public key and no certificate in PEM form could be read from it");
    return {"", algorithm_of(key.get()), pem_of(key.get())};
  }
  if (is_der_key(text)) throw std::runtime_error("a key in DER form; PEM is wanted");
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  if (text.size() < kSecretBytesMin)
    throw std::runtime_error(fmt::format("a secret of {} bytes is too short, {} are the least",
                                         text.size(), kSecretBytesMin));
  return {"", "HS256", std::string(text)};
}

std::vector<VerificationKey> keys_of_set(std::string_view json) {
  const auto set = nlohmann::json::parse(json, nullptr, false);
  if (!set.is_object() || !set.contains("keys") || !set["keys"].is_array())
    throw std::runtime_error("no JSON object with an array \"keys\"");
  std::vector<VerificationKey> keys;
  std::string left_out;
  for (const auto& entry : set["keys"]) {
    try {
      keys.push_back(key_of_entry(entry));
    } catch (const std::exception& reason) {
      left_out = reason.what();
    }
  }
  if (keys.empty())
    throw std::runtime_error("no key in it can verify a token" +
                             (left_out.empty() ? "" : "; the last one: " + left_out));
  return keys;
}

}  // namespace vgpu::hypervisor::http
