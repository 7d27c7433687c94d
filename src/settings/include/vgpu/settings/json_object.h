// SPDX-License-Identifier: Apache-2.0
// JSON read member by member from where it lies. TENSOR_FUSION_* are objects of names and plain
// values: there, nested values and escapes are faults that say what would be right. What a daemon
// answers has both: a nested value is handed out as its text, for a reader of its own. Anything
// behind the object is a fault. Pure.
#pragma once

#include "vgpu/settings/text.h"

namespace vgpu::settings {

struct JsonMember {
  enum class Kind { number, string, word, object, array };  // word: true, false, null
  Piece name;                                               // between the quotes
  Piece value;  // of a string, between the quotes, its escapes as they stand
  Kind kind = Kind::number;
};

// What objects and arrays are read by.
class JsonText {
 public:
  bool failed() const { return failed_; }
  const Fault& fault() const { return fault_; }

 protected:
  JsonText(std::string_view text, bool may_nest) : text_(text), may_nest_(may_nest) {}
  bool fail(std::size_t at, std::string_view why);
  void skip_blanks();
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool read_string(Piece& piece);
  bool read_value(JsonMember& member);
  bool finish();
  // The opening bracket, or the comma before the next one; false at the closing bracket (which is
  // read) and at a fault.
  bool goes_on(char open, char close);

  std::string_view text_;
  std::size_t at_ = 0;
  bool may_nest_;
  bool finished_ = false;

 private:
  bool read_number(Piece& piece);
  bool read_nested(Piece& piece);

  bool started_ = false;
  bool failed_ = false;
  Fault fault_;
};

class JsonObject : public JsonText {
 public:
  enum class Values { plain, nested };
  explicit JsonObject(std::string_view text, Values values = Values::plain)
      : JsonText(text, values == Values::nested) {}
  // False at the end and at a fault; `failed` tells which.
  bool next(JsonMember& member);
};

class JsonArray : public JsonText {
 public:
  explicit JsonArray(std::string_view text) : JsonText(text, true) {}
  bool next(JsonMember& element);  // without a name
};

}  // namespace vgpu::settings
