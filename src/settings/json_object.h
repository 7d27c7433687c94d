// SPDX-License-Identifier: Apache-2.0
// One JSON object of names and plain values, read member by member from where it lies: all that
// TENSOR_FUSION_* needs. Nested values, escapes in names and anything behind the object are faults.
// Private to settings; pure.
#pragma once

#include "text.h"

namespace vgpu::settings {

struct JsonMember {
  enum class Kind { number, string, word };  // word: true, false, null
  Piece name;                                // between the quotes
  Piece value;                               // of a string, between the quotes
  Kind kind = Kind::number;
};

class JsonObject {
 public:
  explicit JsonObject(std::string_view text) : text_(text) {}
  // False at the end and at a fault; `failed` tells which.
  bool next(JsonMember& member);
  bool failed() const { return failed_; }
  const Fault& fault() const { return fault_; }

 private:
  bool fail(std::size_t at, std::string_view why);
  void skip_blanks();
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool read_string(Piece& piece);
  bool read_number(Piece& piece);
  bool read_value(JsonMember& member);
  bool finish();

  std::string_view text_;
  std::size_t at_ = 0;
  bool started_ = false;
  bool finished_ = false;
  bool failed_ = false;
  Fault fault_;
};

}  // namespace vgpu::settings
