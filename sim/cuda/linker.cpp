// SPDX-License-Identifier: Apache-2.0
// The linker, which here joins PTX texts, and the profiler's switches, which do nothing.
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "driver.h"
#include "module.h"

using namespace vgpu::sim;

struct CUlinkState_st : Handle<CUlinkState_st> {
  static constexpr std::uint32_t kMagic = 0x4c4e4b31;
  std::string text;
};

namespace {

CUresult create(CUlinkState* out) {
  const Call call;
  if (!call) return call.result;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = new CUlinkState_st;
  return CUDA_SUCCESS;
}

CUresult add(CUlinkState state, CUjitInputType type, const void* data, size_t size) {
  const Call call;
  if (!call) return call.result;
  if (!valid(state) || data == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_JIT_INPUT_PTX)
    return type <= CU_JIT_INPUT_LIBRARY ? CUDA_ERROR_INVALID_IMAGE : CUDA_ERROR_INVALID_VALUE;
  std::string text(static_cast<const char*>(data), size);
  text.resize(std::strlen(text.c_str()));
  if (!parse_ptx(text)) return CUDA_ERROR_INVALID_PTX;
  state->text += text;
  state->text += '\n';
  return CUDA_SUCCESS;
}

CUresult add_file(CUlinkState state, CUjitInputType type, const char* path) {
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return add(state, type, text.data(), text.size());
}

CUresult done() {
  const Call call;
  return call.result;
}

}  // namespace

CUresult sim_cuLinkCreate(unsigned int, CUjit_option*, void**, CUlinkState* state_out) {
  return create(state_out);
}
CUresult sim_cuLinkCreate_v2(unsigned int, CUjit_option*, void**, CUlinkState* state_out) {
  return create(state_out);
}
CUresult sim_cuLinkAddData(CUlinkState state, CUjitInputType type, void* data, size_t size,
                           const char*, unsigned int, CUjit_option*, void**) {
  return add(state, type, data, size);
}
CUresult sim_cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t size,
                              const char*, unsigned int, CUjit_option*, void**) {
  return add(state, type, data, size);
}
CUresult sim_cuLinkAddFile(CUlinkState state, CUjitInputType type, const char* path, unsigned int,
                           CUjit_option*, void**) {
  return add_file(state, type, path);
}
CUresult sim_cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path,
                              unsigned int, CUjit_option*, void**) {
  return add_file(state, type, path);
}
CUresult sim_cuLinkComplete(CUlinkState state, void** cubin_out, size_t* size_out) {
  const Call call;
  if (!call) return call.result;
  if (!valid(state) || cubin_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *cubin_out = state->text.data();
  if (size_out != nullptr) *size_out = state->text.size() + 1;
  return CUDA_SUCCESS;
}
CUresult sim_cuLinkDestroy(CUlinkState state) {
  const Call call;
  if (!call) return call.result;
  if (!valid(state)) return CUDA_ERROR_INVALID_VALUE;
  delete state;
  return CUDA_SUCCESS;
}

CUresult sim_cuProfilerInitialize(const char*, const char*, CUoutput_mode) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult sim_cuProfilerStart() { return done(); }
CUresult sim_cuProfilerStop() { return done(); }

// No private interface of the driver is simulated.
CUresult sim_cuGetExportTable(const void** export_table, const CUuuid*) {
  if (export_table == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_ERROR_NOT_SUPPORTED;
}
