// SPDX-License-Identifier: Apache-2.0
// cuGetProcAddress: the driver decides what a name means for the caller's version and flags, then
// the address that it gives is mapped. These run in every process, limited or not: a program looks
// up once and calls later.
#include "hooks.h"
#include "pointer_map.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::hooks {
namespace {

CUresult mapped(CUresult result, void** entry) {
  if (result != CUDA_SUCCESS || entry == nullptr) return result;
  if (void* hook = limiter::hook_for(*entry); hook != nullptr) *entry = hook;
  return result;
}

}  // namespace

CUresult cuGetProcAddress(const char* symbol, void** entry, int cuda_version, cuuint64_t flags) {
  return mapped(real().cuGetProcAddress(symbol, entry, cuda_version, flags), entry);
}

CUresult cuGetProcAddress_v2(const char* symbol, void** entry, int cuda_version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
  return mapped(real().cuGetProcAddress_v2(symbol, entry, cuda_version, flags, status), entry);
}

}  // namespace vgpu::hooks
