// SPDX-License-Identifier: Apache-2.0
// Who is believed: tokens that are forged, late, early, for others, or signed by what isn't a key.
#include "http/auth.h"

#include <gtest/gtest.h>
#include <jwt.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "http/jwks.h"

namespace vgpu::hypervisor::http {
namespace {

constexpr std::int64_t kNow = 1'764'000'000;
const std::string kSecret = "0123456789abcdef0123456789abcdef";

struct KeyPair {
  std::string secret_pem, public_pem;
  std::string n, e, x, y;
};

std::string pem(EVP_PKEY* key, bool secret) {
  BIO* memory = BIO_new(BIO_s_mem());
  if (secret)
    PEM_write_bio_PrivateKey(memory, key, nullptr, nullptr, 0, nullptr, nullptr);
  else
    PEM_write_bio_PUBKEY(memory, key);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  std::string text(bytes, static_cast<std::size_t>(size));
  BIO_free_all(memory);
  return text;
}

std::string number(EVP_PKEY* key, const char* name) {
  BIGNUM* value = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &value) != 1) return "";
  std::string bytes(static_cast<std::size_t>(BN_num_bytes(value)), '\0');
  BN_bn2bin(value, reinterpret_cast<unsigned char*>(bytes.data()));
  BN_free(value);
  return bytes;
}

KeyPair make_rsa(unsigned bits = 2048) {
  EVP_PKEY* key = EVP_RSA_gen(bits);
  KeyPair pair{pem(key, true), pem(key, false), number(key, "n"), number(key, "e"), "", ""};
  EVP_PKEY_free(key);
  return pair;
}

KeyPair make_curve(const char* curve = "P-256") {
  EVP_PKEY* key = EVP_EC_gen(curve);
  KeyPair pair{pem(key, true), pem(key, false), "", "", number(key, "qx"), number(key, "qy")};
  EVP_PKEY_free(key);
  for (auto* part : {&pair.x, &pair.y})
    part->insert(0, 32 - std::min<std::size_t>(32, part->size()), '\0');
  return pair;
}

nlohmann::json good_claims() {
  return {{"sub", "system:serviceaccount:ml:default"},
          {"aud", {"other", "vgpu"}},
          {"iss", "https://issuer"},
          {"exp", kNow + 600},
          {"nbf", kNow - 60},
          {"scope", "profile vgpu:read"},
          {"kubernetes.io", {{"namespace", "ml"}, {"pod", {{"name", "trainer"}, {"uid", "1"}}}}}};
}

std::string sign(const nlohmann::json& claims, jwt_alg_t algorithm, const std::string& key,
                 const char* id = nullptr) {
  jwt_t* token = nullptr;
  jwt_new(&token);
  jwt_add_grants_json(token, claims.dump().c_str());
  if (id != nullptr) jwt_add_header(token, "kid", id);
  jwt_set_alg(token, algorithm, reinterpret_cast<const unsigned char*>(key.data()),
              static_cast<int>(key.size()));
  char* text = jwt_encode_str(token);
  std::string out = text == nullptr ? "" : text;
  free(text);
  jwt_free(token);
  return out;
}

class Tokens : public testing::Test {
 protected:
  Tokens() {
    std::string pattern = testing::TempDir() + "vgpu-auth-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~Tokens() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string file(const std::string& text, unsigned mode = 0600) {
    const std::string path = folder_ + "/key" + std::to_string(files_++);
    std::ofstream(path, std::ios::binary) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  TokenVerifier by_key(const std::string& text) {
    TokenSettings settings;
    settings.key_file = file(text);
    settings.issuer = "https://issuer";
    return TokenVerifier(settings);
  }
  TokenVerifier by_set(const nlohmann::json& keys) {
    TokenSettings settings;
    settings.jwks_file = file(nlohmann::json{{"keys", keys}}.dump());
    return TokenVerifier(settings);
  }
  static std::string why(const TokenVerifier& verifier, const std::string& token,
                         std::int64_t now = kNow) {
    const Verified verified = verifier.verify(token, now);
    return verified.claims ? "accepted" : verified.why;
  }
  std::string why_not_a_key(const std::string& text, unsigned mode = 0600) {
    TokenSettings settings;
    settings.key_file = file(text, mode);
    try {
      TokenVerifier verifier(settings);
    } catch (const std::runtime_error& reason) {
      return reason.what();
    }
    return "";
  }

 private:
  std::string folder_;
  int files_ = 0;
};

TEST_F(Tokens, OfEachAlgorithmAreAcceptedAndSayWhoItIs) {
  const KeyPair rsa = make_rsa(), curve = make_curve();
  EXPECT_EQ(why(by_key(kSecret), sign(good_claims(), JWT_ALG_HS256, kSecret)), "accepted");
  EXPECT_EQ(why(by_key(rsa.public_pem), sign(good_claims(), JWT_ALG_RS256, rsa.secret_pem)),
            "accepted");
  const auto verified =
      by_key(curve.public_pem).verify(sign(good_claims(), JWT_ALG_ES256, curve.secret_pem), kNow);
  ASSERT_TRUE(verified.claims) << verified.why;
  EXPECT_EQ(verified.claims->pod->name_space, "ml");
  EXPECT_EQ(verified.claims->pod->name, "trainer");
  EXPECT_EQ(verified.claims->scopes, (std::vector<std::string>{"profile", "vgpu:read"}));
}

TEST_F(Tokens, SignedByAnotherKeyAreForged) {
  const KeyPair rsa = make_rsa(), other = make_rsa(), curve = make_curve();
  EXPECT_EQ(why(by_key(rsa.public_pem), sign(good_claims(), JWT_ALG_RS256, other.secret_pem)),
            "its signature is wrong");
  EXPECT_EQ(why(by_key(kSecret), sign(good_claims(), JWT_ALG_HS256, kSecret + "x")),
            "its signature is wrong");
  EXPECT_EQ(
      why(by_key(curve.public_pem), sign(good_claims(), JWT_ALG_ES256, make_curve().secret_pem)),
      "its signature is wrong");
}

TEST_F(Tokens, ChangedAfterSigningAreForged) {
  const std::string token = sign(good_claims(), JWT_ALG_HS256, kSecret);
  const auto first = token.find('.'), second = token.rfind('.');
  auto claims = good_claims();
  claims["scope"] = "vgpu:write";
  const std::string forged =
      token.substr(0, first + 1) + encode_base64url(claims.dump()) + token.substr(second);
  EXPECT_EQ(why(by_key(kSecret), forged), "its signature is wrong");
}

TEST_F(Tokens, OfNoAlgorithmHaveNoKey) {
  const std::string claims = encode_base64url(good_claims().dump());
  for (const char* none : {"none", "None", "NONE", "", "HS384", "hs256"}) {
    const std::string header =
        encode_base64url(nlohmann::json{{"alg", none}, {"typ", "JWT"}}.dump());
    const TokenVerifier verifier = by_key(kSecret);
    for (const char* signature : {"", "AAAA"})
      EXPECT_EQ(why(verifier, header + "." + claims + "." + signature),
                "there is no key for its algorithm and key id")
          << none;
  }
}

TEST_F(Tokens, SignedWithThePublicKeyAsSecretAreForged) {
  const KeyPair rsa = make_rsa();
  EXPECT_EQ(why(by_key(rsa.public_pem), sign(good_claims(), JWT_ALG_HS256, rsa.public_pem)),
            "there is no key for its algorithm and key id");
  EXPECT_EQ(
      why(by_set(
              {{{"kty", "RSA"}, {"n", encode_base64url(rsa.n)}, {"e", encode_base64url(rsa.e)}}}),
          sign(good_claims(), JWT_ALG_HS256, rsa.public_pem)),
      "there is no key for its algorithm and key id");
}

TEST_F(Tokens, CountOnlyInTheirTime) {
  const TokenVerifier verifier = by_key(kSecret);
  const std::string token = sign(good_claims(), JWT_ALG_HS256, kSecret);
  EXPECT_EQ(why(verifier, token, kNow + 629), "accepted");
  EXPECT_EQ(why(verifier, token, kNow + 630), "it has expired");
  EXPECT_EQ(why(verifier, token, kNow - 91), "it isn't valid yet");
  auto claims = good_claims();
  claims.erase("exp");
  EXPECT_EQ(why(verifier, sign(claims, JWT_ALG_HS256, kSecret)), "it has no expiry (exp)");
  claims["exp"] = "never";
  EXPECT_EQ(why(verifier, sign(claims, JWT_ALG_HS256, kSecret)), "it has no expiry (exp)");
}

TEST_F(Tokens, ForOthersAreRefused) {
  const TokenVerifier verifier = by_key(kSecret);
  auto claims = good_claims();
  claims["aud"] = "vgpu2";
  EXPECT_EQ(why(verifier, sign(claims, JWT_ALG_HS256, kSecret)), "its audience (aud) isn't vgpu");
  claims.erase("aud");
  EXPECT_EQ(why(verifier, sign(claims, JWT_ALG_HS256, kSecret)), "its audience (aud) isn't vgpu");
  claims = good_claims();
  claims["iss"] = "https://another";
  EXPECT_EQ(why(verifier, sign(claims, JWT_ALG_HS256, kSecret)),
            "its issuer (iss) isn't https://issuer");
}

TEST_F(Tokens, ThatAreNoTokensAreRefused) {
  const TokenVerifier verifier = by_key(kSecret);
  const std::string good = sign(good_claims(), JWT_ALG_HS256, kSecret);
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("a.b.c"), good + ".x",
        good + "=", "=" + good, good.substr(0, good.size() / 2), std::string(9000, 'a'),
        std::string("W10.W10."), good.substr(0, good.rfind('.'))})
    EXPECT_NE(why(verifier, text), "accepted") << text;
  auto header = encode_base64url(R"({"alg":"HS256","crit":["exp"]})");
  EXPECT_EQ(why(verifier, header + good.substr(good.find('.'))), "it needs an extension (crit)");
}

TEST_F(Tokens, NamePodsOnlyByProperNames) {
  const TokenVerifier verifier = by_key(kSecret);
  for (const char* name : {"", "../x", "A", "a/b", "a b"}) {
    auto claims = good_claims();
    claims["kubernetes.io"]["pod"]["name"] = name;
    const auto verified = verifier.verify(sign(claims, JWT_ALG_HS256, kSecret), kNow);
    ASSERT_TRUE(verified.claims);
    EXPECT_FALSE(verified.claims->pod) << name;
  }
}

TEST_F(Tokens, SayThePodsUidWhereItIsOne) {
  const TokenVerifier verifier = by_key(kSecret);
  const auto uid_of = [&](const char* uid) {
    auto claims = good_claims();
    claims["kubernetes.io"]["pod"]["uid"] = uid;
    const auto verified = verifier.verify(sign(claims, JWT_ALG_HS256, kSecret), kNow);
    return verified.claims && verified.claims->pod ? verified.claims->pod->uid : "no pod";
  };
  EXPECT_EQ(uid_of("0a1b2c3d-1111-2222-3333-444455556666"), "0a1b2c3d-1111-2222-3333-444455556666");
  for (const char* odd : {"", "../x", "A", "a b", "a/b", "a\nb"}) EXPECT_EQ(uid_of(odd), "") << odd;
  EXPECT_EQ(uid_of(std::string(65, 'a').c_str()), "");
}

TEST_F(Tokens, AreVerifiedByTheKeyOfASetThatTheyName) {
  const KeyPair one = make_rsa(), two = make_curve();
  const TokenVerifier verifier =
      by_set({{{"kty", "RSA"},
               {"kid", "one"},
               {"n", encode_base64url(one.n)},
               {"e", encode_base64url(one.e)}},
              {{"kty", "EC"},
               {"kid", "two"},
               {"crv", "P-256"},
               {"x", encode_base64url(two.x)},
               {"y", encode_base64url(two.y)}},
              {{"kty", "OKP"}, {"kid", "three"}, {"crv", "Ed25519"}, {"x", "AAAA"}}});
  EXPECT_EQ(why(verifier, sign(good_claims(), JWT_ALG_RS256, one.secret_pem, "one")), "accepted");
  EXPECT_EQ(why(verifier, sign(good_claims(), JWT_ALG_ES256, two.secret_pem, "two")), "accepted");
  EXPECT_EQ(why(verifier, sign(good_claims(), JWT_ALG_ES256, two.secret_pem, "one")),
            "there is no key for its algorithm and key id");
  EXPECT_EQ(why(verifier, sign(good_claims(), JWT_ALG_RS256, make_rsa().secret_pem, "one")),
            "its signature is wrong");
}

TEST_F(Tokens, NeedKeysThatAreGoodForSomething) {
  EXPECT_NE(why_not_a_key("short\n").find("a secret of 5 bytes is too short"), std::string::npos);
  EXPECT_NE(why_not_a_key(kSecret, 0644).find("chmod 600"), std::string::npos);
  EXPECT_NE(why_not_a_key("-----BEGIN PUBLIC KEY-----\nnonsense, but long enough for a secret\n")
                .find("no public key"),
            std::string::npos);
  EXPECT_NE(why_not_a_key(make_rsa(1024).public_pem).find("too short"), std::string::npos);
  EXPECT_NE(why_not_a_key(make_curve("P-384").public_pem).find("P-256"), std::string::npos);
  TokenSettings settings;
  settings.key_file = "/nowhere/key";
  EXPECT_THROW(TokenVerifier{settings}, std::runtime_error);
  EXPECT_THROW(by_set(nlohmann::json::array()), std::runtime_error);
}

Peer loopback() {
  Peer peer;
  peer.address = "127.0.0.1";
  peer.loopback = true;
  return peer;
}

TEST(Callers, OfTheSocketAreWhoeverCanConnectAndNoTokenMakesThemMore) {
  Peer peer;
  peer.by_unix_socket = true;
  const AccessSettings settings{1000, false};
  for (const uid_t uid : {0U, 1000U, 1001U}) {  // what each may change is Control's to judge
    peer.uid = uid;
    for (const Credentials& credentials : {Credentials{}, Credentials{"Bearer x", "h"}}) {
      const Caller caller = identify(peer, credentials, settings, nullptr, kNow);
      EXPECT_EQ(caller.role, Role::operate) << uid;
      EXPECT_EQ(caller.name, "uid " + std::to_string(uid));
    }
  }
}

TEST(Callers, OfTcpWithoutATokenReadAtMostAndOnlyOnThisMachine) {
  const AccessSettings open{1000, true}, closed{1000, false};
  EXPECT_EQ(identify(loopback(), {"", "localhost:8001"}, open, nullptr, kNow).role, Role::reader);
  EXPECT_EQ(identify(loopback(), {"", "localhost:8001"}, closed, nullptr, kNow).role, Role::nobody);
  Peer far = loopback();
  far.address = "10.0.0.2";
  far.loopback = false;
  EXPECT_EQ(identify(far, {"", "localhost:8001"}, open, nullptr, kNow).role, Role::nobody);
  // A page of another site whose name was made to lead here.
  EXPECT_EQ(identify(loopback(), {"", "evil.example:8001"}, open, nullptr, kNow).role,
            Role::nobody);
  // A token that is no good is no token less, and none is good without a key.
  EXPECT_EQ(identify(loopback(), {"Bearer a.b.c", "localhost"}, open, nullptr, kNow).role,
            Role::nobody);
}

TEST(Callers, AreNamedByHostsThatCantBeFaked) {
  for (const char* host : {"localhost", "localhost:1", "127.0.0.1:80", "127.9.9.9", "[::1]:8001"})
    EXPECT_TRUE(names_this_machine(host)) << host;
  for (const char* host :
       {"", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "0.0.0.0"})
    EXPECT_FALSE(names_this_machine(host)) << host;
}

TEST(Base64Url, IsReadStrictly) {
  std::string out;
  EXPECT_TRUE(decode_base64url("AQID", out));
  EXPECT_EQ(out, "\x01\x02\x03");
  for (const char* text : {"A", "AQ==", "A+", "A/", "AR", "A Q"})
    EXPECT_FALSE(decode_base64url(text, out)) << text;
}

}  // namespace
}  // namespace vgpu::hypervisor::http
