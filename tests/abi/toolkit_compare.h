// SPDX-License-Identifier: Apache-2.0
// The comparison itself, between the inclusion of a toolkit's header and of our table of functions:
// our declarations are in namespace `ours`, the toolkit's outside of any. VGPU_ABI_CHECKS names the
// rows that toolkit_checks.cpp wrote of ours; each #include of it uses the macros that are defined
// and undefines them.
#pragma once

#include <cstddef>
#include <cstdio>
#include <type_traits>

// The type that the toolkit has for one of ours. Class and enum types go by name, the rest by
// structure.
template <typename T>
struct Namesake {
  using type = T;
};
template <typename T>
using namesake = typename Namesake<T>::type;
template <typename T>
struct Namesake<const T> {
  using type = const namesake<T>;
};
template <typename T>
struct Namesake<T*> {
  using type = namesake<T>*;
};
template <typename T, std::size_t n>
struct Namesake<T[n]> {
  using type = namesake<T>[n];
};
template <typename T, std::size_t n>
struct Namesake<const T[n]> {
  using type = const namesake<T>[n];
};
template <typename R, typename... Args>
struct Namesake<R(Args...)> {
  using type = namesake<R>(namesake<Args>...);
};

#define VGPU_ABI_TYPE(name)                                                                     \
  template <>                                                                                   \
  struct Namesake<ours::name> {                                                                 \
    using type = ::name;                                                                        \
  };                                                                                            \
  static_assert(sizeof(ours::name) == sizeof(::name) && alignof(ours::name) == alignof(::name), \
                #name);
#define VGPU_ABI_OPAQUE(name)   \
  template <>                   \
  struct Namesake<ours::name> { \
    using type = ::name;        \
  };
#include VGPU_ABI_CHECKS

#define VGPU_ABI_FIELD(type, field)                                                        \
  static_assert(offsetof(ours::type, field) == offsetof(::type, field), #type "." #field); \
  static_assert(sizeof(ours::type::field) == sizeof(::type::field), #type "." #field);
#define VGPU_ABI_VALUE(name) static_assert(ours::our_##name == static_cast<long long>(name), #name);
#define VGPU_ABI_CONSTANT(name) \
  static_assert(ours::our_##name == static_cast<long long>(name), #name);
#define VGPU_ABI_ALIAS(name) static_assert(std::is_same_v<namesake<ours::name>, ::name>, #name);
#include VGPU_ABI_CHECKS

// Pointers made from numbers are no constant expressions. Returns how many differ.
inline int different_pointers() {
  int different = 0;
#define VGPU_ABI_POINTER(name) \
  if (ours::our_##name != name) different += std::puts(#name) >= 0;
#include VGPU_ABI_CHECKS
  return different;
}
