// SPDX-License-Identifier: Apache-2.0
#include "request_head.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace vgpu::hypervisor::http {
namespace {

constexpr std::size_t kRequestLineMax = 2048;
constexpr std::size_t kHeadersMax = 64;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& letter : out) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter | 0x20);
  }
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

bool is_printable(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 ? c != '\t' : c == 0x7F;
  });
}

RequestHead& refuse(RequestHead& head, int status, const char* why) {
  head.refused = status;
  head.why = why;
  return head;
}

}  // namespace

RequestHead judge_head(std::string_view text, std::size_t body_bytes_max) {
  RequestHead head;
  std::optional<std::uint64_t> length;
  std::size_t headers = 0, hosts = 0;
  for (bool first = true; !text.empty(); first = false) {
    const auto end = text.find("\r\n");
    if (end == std::string_view::npos) return refuse(head, 400, "a line has no end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 2);
    if (!is_printable(line)) return refuse(head, 400, "a line holds control characters");
    if (line.empty() && !first) {
      head.text += "\r\n";
      break;
    }
    if (first) {
      if (line.size() > kRequestLineMax) return refuse(head, 414, "the address is too long");
      head.text.append(line).append("\r\n");
      continue;
    }
    if (++headers > kHeadersMax) return refuse(head, 431, "too many header fields");
    const auto colon = line.find(':');
    const std::string name = lower(line.substr(0, std::min(colon, line.size())));
    if (colon == std::string_view::npos || !is_name(name))
      return refuse(head, 400, "a header field has no proper name");
    const std::string_view value = trim(line.substr(colon + 1));
    if (name == "content-length") {
      std::uint64_t bytes = 0;
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), bytes);
      if (parsed.ec != std::errc{} || parsed.ptr != value.data() + value.size() || length)
        return refuse(head, 400, "Content-Length isn't one number");
      length = bytes;
    } else if (name == "transfer-encoding") {
      return refuse(head, 411, "a body needs a Content-Length");
    } else if (name == "content-encoding") {
      if (lower(value) != "identity") return refuse(head, 415, "a body must not be compressed");
    } else if (name == "content-type") {
      const std::string kind = lower(value);
      if (kind.rfind("multipart/", 0) == 0 || kind.rfind("application/x-www-form", 0) == 0)
        return refuse(head, 415, "a body must be JSON");
    } else if (name == "authorization") {
      if (!head.authorization.empty()) return refuse(head, 400, "two Authorization fields");
      head.authorization = value;
    } else if (name == "host") {
      if (++hosts > 1) return refuse(head, 400, "two Host fields");
      head.host = value;
    } else if (name == "expect") {
      head.expects_continue = lower(value) == "100-continue";
      continue;
    } else if (name == "range" || name == "accept-encoding") {
      continue;  // parts of what is live, and compressing secrets, serve nobody
    }
    head.text.append(line).append("\r\n");
  }
  head.body_bytes = length.value_or(0);
  if (head.body_bytes > body_bytes_max) return refuse(head, 413, "the body is too large");
  return head;
}

}  // namespace vgpu::hypervisor::http
