// SPDX-License-Identifier: Apache-2.0
#include "vgpu/pod/variables.h"

#include "vgpu/settings/text.h"

namespace vgpu::pod {
namespace {

using settings::part;
using settings::Piece;

constexpr std::string_view kUsualFile = "/run/tensor-fusion/shm/shm";
constexpr std::string_view kUsualToken = "/var/run/secrets/kubernetes.io/serviceaccount/token";
constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kConnectNs = 15 * kSecondNs;
constexpr std::uint64_t kRequestNs = 30 * kSecondNs;
constexpr std::uint64_t kMostNs = 24 * 3600 * kSecondNs;

struct Unit {
  std::string_view name;
  std::uint64_t ns;
};
constexpr Unit kUnits[] = {
    {"ms", kSecondNs / 1000},     {"msec", kSecondNs / 1000},
    {"millis", kSecondNs / 1000}, {"s", kSecondNs},
    {"sec", kSecondNs},           {"secs", kSecondNs},
    {"second", kSecondNs},        {"seconds", kSecondNs},
    {"m", 60 * kSecondNs},        {"min", 60 * kSecondNs},
    {"mins", 60 * kSecondNs},     {"minute", 60 * kSecondNs},
    {"minutes", 60 * kSecondNs},  {"h", 3600 * kSecondNs},
    {"hr", 3600 * kSecondNs},     {"hour", 3600 * kSecondNs},
    {"hours", 3600 * kSecondNs},
};

void read_duration(const settings::Environment& environment, const char* name, std::uint64_t& ns,
                   std::string_view& unread) {
  const std::uint64_t otherwise = ns;
  const std::string_view text = settings::value_of(environment, name);
  if (text.empty() || parse_duration(text, ns)) return;
  ns = otherwise;
  if (unread.empty()) unread = name;
}

bool is_word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || settings::is_digit(c) || c == '.' ||
         c == '_' || c == '-';
}

// FNV-1a; the two halves of a pod's name keep apart what they are made of.
std::uint64_t hash(std::uint64_t from, std::string_view text) {
  for (const char c : text) from = (from ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return (from ^ 0xff) * 0x100000001b3;
}

}  // namespace

Variables read_variables(const settings::Environment& environment) {
  const auto value = [&](const char* name) { return settings::value_of(environment, name); };
  Variables variables;
  if (const std::string_view file = value("TF_SHM_PATH"); !file.empty()) {
    variables.file = file;
    variables.file_from = "TF_SHM_PATH";
  } else if (const std::string_view folder = value("SHM_PATH"); !folder.empty()) {
    variables.file.append(folder).append("/shm");
    variables.file_from = "SHM_PATH";
  }
  variables.host = value("HYPERVISOR_IP");
  variables.port = value("HYPERVISOR_PORT");
  variables.container = value("CONTAINER_NAME");
  variables.name = value("POD_NAME");
  variables.name_space = value("POD_NAMESPACE");
  if (variables.file.empty() && variables.may_speak()) variables.file = kUsualFile;
  const std::string_view token = value("VGPU_POD_TOKEN");
  variables.token_file = token.empty() ? kUsualToken : token;
  variables.connect_ns = kConnectNs;
  variables.request_ns = kRequestNs;
  read_duration(environment, "HTTP_CONNECT_TIMEOUT", variables.connect_ns, variables.unread);
  read_duration(environment, "HTTP_REQUEST_TIMEOUT", variables.request_ns, variables.unread);
  return variables;
}

bool is_pod_without_name(const char* const* entries) {
  if (entries == nullptr) return false;
  bool speaks = false;
  for (; *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos || equals + 1 == entry.size()) continue;
    const std::string_view name = part(entry, 0, equals);
    if (name == "POD_NAME") return false;
    speaks = speaks || name == "TF_SHM_PATH" || name == "SHM_PATH" || name == "HYPERVISOR_IP";
  }
  return speaks;
}

bool parse_duration(std::string_view text, std::uint64_t& ns) {
  ns = 0;
  text = Piece{text, 0}.trimmed().text;
  while (!text.empty()) {
    std::size_t digits = 0;
    std::uint64_t number = 0;
    for (; digits < text.size() && settings::is_digit(text[digits]); ++digits) {
      number = number * 10 + static_cast<std::uint64_t>(text[digits] - '0');
      if (number > kMostNs) return false;
    }
    if (digits == 0) return false;
    text = Piece{part(text, digits), 0}.trimmed().text;
    std::size_t letters = 0;
    while (letters < text.size() && text[letters] >= 'a' && text[letters] <= 'z') ++letters;
    const Unit* unit = nullptr;
    for (const Unit& one : kUnits) {
      if (one.name == part(text, 0, letters)) unit = &one;
    }
    if (unit == nullptr || number > kMostNs / unit->ns) return false;
    ns += number * unit->ns;
    if (ns > kMostNs) return false;
    text = Piece{part(text, letters), 0}.trimmed().text;
  }
  return ns != 0;
}

FixedString<63> tenant_id(const Variables& variables) {
  FixedString<63> id;
  if (variables.name.empty()) return id;
  id.append(kTenantIdPrefix);
  // Two hashes of 64 bits each: nobody's pod is another's by chance.
  for (const std::uint64_t basis : {0xcbf29ce484222325ULL, 0x6c62272e07bb0142ULL}) {
    const std::uint64_t number =
        hash(hash(basis, variables.name_space.view()), variables.name.view());
    for (int shift = 60; shift >= 0; shift -= 4)
      id.append("0123456789abcdef"[(number >> shift) & 15]);
  }
  return id;
}

bool is_tenant_id(std::string_view id) {
  return part(id, 0, kTenantIdPrefix.size()) == kTenantIdPrefix;
}

FixedString<63> tenant_name(const Variables& variables) {
  FixedString<63> name;
  if (variables.name.empty()) return name;
  for (const std::string_view text :
       {variables.name_space.view(),
        variables.name_space.empty() ? std::string_view() : std::string_view("."),
        variables.name.view()}) {
    for (const char c : text) name.append(is_word_char(c) ? c : '_');
  }
  return name;
}

}  // namespace vgpu::pod
