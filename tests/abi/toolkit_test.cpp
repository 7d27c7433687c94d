// SPDX-License-Identifier: Apache-2.0
// Each declaration and each row of src/api against <cuda.h>, where a CUDA toolkit is installed.
// Sizes, alignments, offsets and values must be equal, and each signature must be the toolkit's
// once our types are replaced by their namesakes. It is compiled by the test itself, so that a
// toolkit that differs fails this test and not the build; a failed assertion names the row. The
// rows come from toolkit_checks.cpp; each #include uses those that it has defined to something.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>

namespace ours {
#include "vgpu/api/cuda_abi.h"

// Constants are macros in <cuda.h>, so ours get another name before it is read.
#define VGPU_ABI_TYPE(name)
#define VGPU_ABI_FIELD(type, field)
#define VGPU_ABI_VALUE(name)
#define VGPU_ABI_CONSTANT(name) inline constexpr auto our_##name = name;
#define VGPU_ABI_POINTER(name) inline const void* const our_##name = name;
#define VGPU_ABI_OPAQUE(name)
#define VGPU_ABI_ALIAS(name)
#include VGPU_ABI_CHECKS
#undef VGPU_ABI_TYPE
#undef VGPU_ABI_FIELD
#undef VGPU_ABI_VALUE
#undef VGPU_ABI_CONSTANT
#undef VGPU_ABI_POINTER
#undef VGPU_ABI_OPAQUE
#undef VGPU_ABI_ALIAS
}  // namespace ours

// Shows the ABI's own names: without it <cuda.h> renames cuMemAlloc to cuMemAlloc_v2 and hides the
// legacy entries.
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <cudaProfiler.h>

// These four stand in headers that need those of OpenGL and VDPAU.
extern "C" {
CUresult cuGLCtxCreate(CUcontext*, unsigned int, CUdevice);
CUresult cuGLCtxCreate_v2(CUcontext*, unsigned int, CUdevice);
CUresult cuVDPAUCtxCreate(CUcontext*, unsigned int, CUdevice, cuuint32_t, void*);
CUresult cuVDPAUCtxCreate_v2(CUcontext*, unsigned int, CUdevice, cuuint32_t, void*);
}

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
#define VGPU_ABI_FIELD(type, field)
#define VGPU_ABI_VALUE(name)
#define VGPU_ABI_CONSTANT(name)
#define VGPU_ABI_POINTER(name)
#define VGPU_ABI_OPAQUE(name)   \
  template <>                   \
  struct Namesake<ours::name> { \
    using type = ::name;        \
  };
#define VGPU_ABI_ALIAS(name)
#include VGPU_ABI_CHECKS
#undef VGPU_ABI_TYPE
#undef VGPU_ABI_FIELD
#undef VGPU_ABI_VALUE
#undef VGPU_ABI_CONSTANT
#undef VGPU_ABI_POINTER
#undef VGPU_ABI_OPAQUE
#undef VGPU_ABI_ALIAS

#define VGPU_ABI_TYPE(name)
#define VGPU_ABI_FIELD(type, field)                                                        \
  static_assert(offsetof(ours::type, field) == offsetof(::type, field), #type "." #field); \
  static_assert(sizeof(ours::type::field) == sizeof(::type::field), #type "." #field);
#define VGPU_ABI_VALUE(name) \
  static_assert(static_cast<long long>(ours::name) == static_cast<long long>(::name), #name);
#define VGPU_ABI_CONSTANT(name) static_assert(ours::our_##name == name, #name);
#define VGPU_ABI_POINTER(name)
#define VGPU_ABI_OPAQUE(name)
#define VGPU_ABI_ALIAS(name) static_assert(std::is_same_v<namesake<ours::name>, ::name>, #name);
#include VGPU_ABI_CHECKS
#undef VGPU_ABI_TYPE
#undef VGPU_ABI_FIELD
#undef VGPU_ABI_VALUE
#undef VGPU_ABI_CONSTANT
#undef VGPU_ABI_POINTER
#undef VGPU_ABI_OPAQUE
#undef VGPU_ABI_ALIAS

namespace ours::rows {
#define VGPU_DRIVER_FUNCTION(symbol, params, args) using symbol = CUresult params;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
}  // namespace ours::rows

#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  static_assert(std::is_same_v<namesake<ours::rows::symbol>, decltype(::symbol)>, #symbol);
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION

int main() {
  int different = 0;
#define VGPU_ABI_TYPE(name)
#define VGPU_ABI_FIELD(type, field)
#define VGPU_ABI_VALUE(name)
#define VGPU_ABI_CONSTANT(name)
#define VGPU_ABI_POINTER(name) \
  if (ours::our_##name != name) different += std::puts(#name) >= 0;
#define VGPU_ABI_OPAQUE(name)
#define VGPU_ABI_ALIAS(name)
#include VGPU_ABI_CHECKS
#undef VGPU_ABI_TYPE
#undef VGPU_ABI_FIELD
#undef VGPU_ABI_VALUE
#undef VGPU_ABI_CONSTANT
#undef VGPU_ABI_POINTER
#undef VGPU_ABI_OPAQUE
#undef VGPU_ABI_ALIAS
  return different;
}
