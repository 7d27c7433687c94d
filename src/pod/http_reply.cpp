// SPDX-License-Identifier: Apache-2.0
#include "vgpu/pod/http_reply.h"

#include "vgpu/settings/text.h"

namespace vgpu::pod {
namespace {

using settings::part;
using settings::Piece;

// More digits than a body can have bytes are refused before they overflow.
bool read_number(std::string_view text, unsigned base, std::uint64_t& number) {
  number = 0;
  if (text.empty()) return false;
  for (const char c : text) {
    const int digit = GpuUuid::hex_digit(c);
    if (digit < 0 || digit >= static_cast<int>(base)) return false;
    number = number * base + static_cast<unsigned>(digit);
    if (number > HttpReply::kMostBody) return false;
  }
  return true;
}

}  // namespace

HttpReply::State HttpReply::feed(std::string_view bytes) {
  for (const char c : bytes) {
    if (state_ != State::more) break;
    take(c);
  }
  return state_;
}

HttpReply::State HttpReply::end() {
  if (state_ == State::more) state_ = part_ == Part::body_to_end ? State::complete : State::bad;
  return state_;
}

void HttpReply::take(char c) {
  if (part_ == Part::body || part_ == Part::body_to_end || part_ == Part::chunk)
    return take_body(c);
  if (++head_bytes_ > kMostHead) return fail();
  if (c != '\n') {
    line_.append(c);
    return;
  }
  std::string_view line = line_.view();
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  take_line(line);
  line_.clear();
}

void HttpReply::take_line(std::string_view line) {
  switch (part_) {
    case Part::status_line:
      return take_status(line);
    case Part::header:
      return line.empty() ? finish_head() : take_header(line);
    case Part::chunk_size:
      return take_chunk_size(line);
    case Part::chunk_end:
      part_ = Part::chunk_size;
      return line.empty() ? void() : fail();
    case Part::trailer:
      if (line.empty()) state_ = State::complete;
      return;
    case Part::body:
    case Part::body_to_end:
    case Part::chunk:
      break;
  }
}

// HTTP/1.1 200 OK
void HttpReply::take_status(std::string_view line) {
  std::uint64_t status = 0;
  if (part(line, 0, 7) != "HTTP/1." || part(line, 8, 1) != " " ||
      !read_number(part(line, 9, 3), 10, status) || status < 100 ||
      (line.size() > 12 && line[12] != ' '))
    return fail();
  status_ = static_cast<unsigned>(status);
  has_length_ = is_chunked_ = false;
  part_ = Part::header;
}

void HttpReply::take_header(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return fail();
  const std::string_view name = part(line, 0, colon);
  const std::string_view value = Piece{part(line, colon + 1), 0}.trimmed().text;
  if (settings::same_word(name, "transfer-encoding")) {
    is_chunked_ = settings::same_word(value, "chunked");
    if (!is_chunked_) fail();  // none else was asked for
  } else if (settings::same_word(name, "content-length")) {
    std::uint64_t length = 0;
    if (!read_number(value, 10, length) || (has_length_ && length != left_)) return fail();
    has_length_ = true;
    left_ = length;
  }
}

void HttpReply::finish_head() {
  if (status_ < 200) {  // the reply itself follows
    part_ = Part::status_line;
    left_ = 0;
    return;
  }
  if (is_chunked_) {
    part_ = Part::chunk_size;
  } else if (status_ == 204 || status_ == 304 || (has_length_ && left_ == 0)) {
    state_ = State::complete;
  } else {
    part_ = has_length_ ? Part::body : Part::body_to_end;
  }
}

void HttpReply::take_chunk_size(std::string_view line) {
  const std::string_view digits = Piece{part(line, 0, line.find(';')), 0}.trimmed().text;
  if (!read_number(digits, 16, left_)) return fail();
  part_ = left_ == 0 ? Part::trailer : Part::chunk;
}

void HttpReply::take_body(char c) {
  body_.append(c);
  if (body_.truncated()) return fail();
  if (part_ == Part::body_to_end || --left_ > 0) return;
  if (part_ == Part::body) {
    state_ = State::complete;
  } else {
    part_ = Part::chunk_end;
  }
}

}  // namespace vgpu::pod
