// SPDX-License-Identifier: Apache-2.0
#include "router.h"

#include <algorithm>
#include <charconv>

#include "node_state_json.h"

namespace vgpu::hypervisor::http {
namespace {

std::vector<std::string_view> segments_of(std::string_view path) {
  std::vector<std::string_view> segments;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const auto end = path.find('/');
    segments.push_back(path.substr(0, end));
    path.remove_prefix(end == std::string_view::npos ? path.size() : end);
  }
  return segments;
}

bool is_parameter(std::string_view segment) {
  return segment.size() > 2 && segment.front() == '{' && segment.back() == '}';
}

bool matches(const std::vector<std::string_view>& pattern,
             const std::vector<std::string_view>& asked,
             std::map<std::string, std::string>& parts) {
  if (pattern.size() != asked.size()) return false;
  parts.clear();
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (!is_parameter(pattern[i])) {
      if (pattern[i] != asked[i]) return false;
      continue;
    }
    std::string value;
    if (!decode_percent(asked[i], value) || value.empty()) return false;
    parts.emplace(pattern[i].substr(1, pattern[i].size() - 2), std::move(value));
  }
  return true;
}

}  // namespace

std::string Ask::part(const std::string& name) const {
  const auto found = parts.find(name);
  return found == parts.end() ? "" : found->second;
}

std::optional<std::string> Ask::parameter(const std::string& name) const {
  const auto found = query.find(name);
  if (found == query.end()) return std::nullopt;
  return found->second;
}

std::string Ask::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

Answer problem(int status, std::string_view kind, std::string_view message) {
  // The same fields as a refusal of the daemon's (node_state_json.h).
  const Json json = {{"error",
                      {{"kind", std::string(kind)},
                       {"code", nullptr},
                       {"rule", nullptr},
                       {"message", std::string(message)},
                       {"hint", nullptr},
                       {"waiting_helps", false},
                       {"room", Json::array()}}}};
  Answer answer;
  answer.status = status;
  answer.body = dumped(json);
  return answer;
}

Router::Match Router::find(std::string_view method, std::string_view raw_path) const {
  Match match;
  if (raw_path.empty() || raw_path.front() != '/') return match;
  const auto asked = segments_of(raw_path);
  for (const auto& route : routes_) {
    if (!matches(segments_of(route.path), asked, match.parts)) continue;
    if (route.method == method || (method == "HEAD" && route.method == "GET")) {
      match.route = &route;
      match.allowed.clear();
      return match;
    }
    match.allowed.push_back(route.method);
  }
  return match;
}

bool decode_percent(std::string_view text, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    char letter = text[i];
    if (letter == '%') {
      unsigned value = 0;
      const char* begin = text.data() + i + 1;
      if (i + 2 >= text.size()) return false;
      const auto parsed = std::from_chars(begin, begin + 2, value, 16);
      if (parsed.ec != std::errc{} || parsed.ptr != begin + 2) return false;
      letter = static_cast<char>(value);
      i += 2;
    }
    if (letter == '\0') return false;
    out.push_back(letter);
  }
  return true;
}

bool parse_query(std::string_view text, std::map<std::string, std::string>& out) {
  while (!text.empty()) {
    const auto end = text.find('&');
    std::string pair(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (pair.empty()) continue;
    for (char& letter : pair) {
      if (letter == '+') letter = ' ';
    }
    const auto equals = std::min(pair.find('='), pair.size());
    std::string name, value;
    if (!decode_percent(std::string_view(pair).substr(0, equals), name) ||
        !decode_percent(std::string_view(pair).substr(std::min(equals + 1, pair.size())), value))
      return false;
    out.emplace(std::move(name), std::move(value));
  }
  return true;
}

std::optional<Answer> refusal(Access access, const Caller& caller) {
  const bool may = access == Access::open ||
                   (access == Access::read && caller.role != Role::nobody) ||
                   (access == Access::write && caller.role == Role::operate) ||
                   (access == Access::self && caller.pod.has_value()) || access == Access::join;
  if (may) return std::nullopt;
  const bool known = caller.role != Role::nobody || caller.pod.has_value();
  if (known && access != Access::self) {
    return problem(403, "forbidden",
                   access == Access::write
                       ? "changing needs the Unix socket, or a token with the scope vgpu:write"
                       : "reading needs the Unix socket, or a token with the scope vgpu:read");
  }
  Answer answer =
      problem(401, "unauthorized",
              !caller.refused.empty()  ? caller.refused
              : access == Access::self ? "a token that names a pod (kubernetes.io) is needed"
                                       : "a bearer token is needed");
  answer.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"vgpu\"");
  return answer;
}

}  // namespace vgpu::hypervisor::http
