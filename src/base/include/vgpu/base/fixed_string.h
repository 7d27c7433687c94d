// SPDX-License-Identifier: Apache-2.0
// Text and lists of bounded size for code that runs inside a user's process, where std::string and
// std::vector would bring libstdc++ with them. Appending past the end truncates and is remembered
// (`truncated`); nothing throws.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vgpu {

template <std::size_t Capacity>
class FixedString {
 public:
  constexpr FixedString() = default;
  constexpr FixedString(std::string_view text) {
    append(text);
  }  // NOLINT(google-explicit-constructor)

  constexpr FixedString& append(std::string_view text) {
    for (const char c : text) {
      if (size_ == Capacity) {
        truncated_ = true;
        break;
      }
      chars_[size_++] = c;
    }
    chars_[size_] = '\0';
    return *this;
  }
  constexpr FixedString& append(char c) { return append(std::string_view(&c, 1)); }
  constexpr FixedString& append_number(std::uint64_t number) {
    char digits[20];
    std::size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (count > 0) append(digits[--count]);
    return *this;
  }
  constexpr void clear() {
    size_ = 0;
    chars_[0] = '\0';
    truncated_ = false;
  }

  constexpr std::string_view view() const { return {chars_.data(), size_}; }
  constexpr const char* c_str() const { return chars_.data(); }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr bool truncated() const { return truncated_; }
  static constexpr std::size_t capacity() { return Capacity; }

  friend constexpr bool operator==(const FixedString& a, std::string_view b) {
    return a.view() == b;
  }

 private:
  std::array<char, Capacity + 1> chars_{};
  std::size_t size_ = 0;
  bool truncated_ = false;
};

template <class T, std::size_t Capacity>
class FixedVector {
 public:
  // False when full: the caller decides what that means, nothing is overwritten.
  constexpr bool push_back(const T& value) {
    if (size_ == Capacity) return false;
    items_[size_++] = value;
    return true;
  }
  constexpr void clear() { size_ = 0; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  static constexpr std::size_t capacity() { return Capacity; }
  constexpr T& operator[](std::size_t i) { return items_[i]; }
  constexpr const T& operator[](std::size_t i) const { return items_[i]; }
  constexpr T* begin() { return items_.data(); }
  constexpr T* end() { return items_.data() + size_; }
  constexpr const T* begin() const { return items_.data(); }
  constexpr const T* end() const { return items_.data() + size_; }
  constexpr T& back() { return items_[size_ - 1]; }

 private:
  std::array<T, Capacity> items_{};
  std::size_t size_ = 0;
};

}  // namespace vgpu
