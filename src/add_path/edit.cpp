// SPDX-License-Identifier: Apache-2.0
// Lists are short (tens of elements), so membership is a scan: no set, hence no memory and no hash
// of foreign bytes.
#include "vgpu/add_path/edit.h"

#include <cstring>

namespace vgpu::add_path {
namespace {

// Walks the elements of a list, empty ones included. The empty list has none.
class Elements {
 public:
  Elements(std::string_view list, std::string_view separators)
      : rest_(list), separators_(separators), more_(!list.empty()) {}

  bool next() {
    if (!more_) return false;
    const std::size_t end = rest_.find_first_of(separators_);
    separator_before_ = separator_after_;
    more_ = end != std::string_view::npos;
    element_ = {rest_.data(), more_ ? end : rest_.size()};  // substr may throw: libstdc++
    if (more_) {
      separator_after_ = rest_[end];
      rest_.remove_prefix(end + 1);
    }
    return true;
  }
  std::string_view element() const { return element_; }
  char separator_before() const { return separator_before_; }  // ':' for the first one

 private:
  std::string_view rest_;
  std::string_view separators_;
  std::string_view element_;
  char separator_before_ = ':';
  char separator_after_ = ':';
  bool more_;
};

class Writer {
 public:
  explicit Writer(char* out) : begin_(out), end_(out) {}

  void put(std::string_view element, char separator) {
    if (any_) *end_++ = separator;
    any_ = true;
    std::memcpy(end_, element.data(), element.size());
    end_ += element.size();
  }
  std::string_view written() const { return {begin_, static_cast<std::size_t>(end_ - begin_)}; }

 private:
  char* begin_;
  char* end_;
  bool any_ = false;
};

}  // namespace

std::optional<std::size_t> Edit::write_to(char* out) const {
  const auto has = [this](std::string_view list, std::string_view element) {
    for (Elements it(list, separators); it.next();) {
      if (it.element() == element) return true;
    }
    return false;
  };
  Writer writer(out);
  // An element that is asked for once is not in what was written before it: this is what makes each
  // of them unique.
  for (Elements it(prepend, separators); it.next();) {
    if (!it.element().empty() && !has(writer.written(), it.element()))
      writer.put(it.element(), ':');
  }
  for (Elements it(value, separators); it.next();) {
    if (!it.element().empty() && has(prepend, it.element())) continue;
    writer.put(it.element(), it.separator_before());
  }
  for (Elements it(append, separators); it.next();) {
    if (!it.element().empty() && !has(writer.written(), it.element()))
      writer.put(it.element(), ':');
  }
  if (writer.written() == value) return std::nullopt;
  return writer.written().size();
}

}  // namespace vgpu::add_path
