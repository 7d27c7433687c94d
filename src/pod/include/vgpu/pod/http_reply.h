// SPDX-License-Identifier: Apache-2.0
// A reply of HTTP/1.x, read as it comes and never longer than what is kept of it. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vgpu/base/fixed_string.h"

namespace vgpu::pod {

class HttpReply {
 public:
  static constexpr std::size_t kMostHead = 16 * 1024;
  static constexpr std::size_t kMostBody = 64 * 1024;

  enum class State : std::uint8_t { more, complete, bad };
  State feed(std::string_view bytes);
  // The peer has closed.
  State end();

  State state() const { return state_; }
  unsigned status() const { return status_; }
  std::string_view body() const { return body_.view(); }

 private:
  enum class Part : std::uint8_t {
    status_line,
    header,
    body,  // of a length
    body_to_end,
    chunk_size,
    chunk,
    chunk_end,
    trailer,
  };
  void take(char c);
  void take_line(std::string_view line);
  void take_status(std::string_view line);
  void take_header(std::string_view line);
  void take_chunk_size(std::string_view line);
  void finish_head();
  void take_body(char c);
  void fail() { state_ = State::bad; }

  State state_ = State::more;
  Part part_ = Part::status_line;
  unsigned status_ = 0;
  std::size_t head_bytes_ = 0;
  bool has_length_ = false;
  bool is_chunked_ = false;
  std::uint64_t left_ = 0;  // of the body or the chunk
  FixedString<512> line_;   // what of a header is longer means nothing to us
  FixedString<kMostBody> body_;
};

}  // namespace vgpu::pod
