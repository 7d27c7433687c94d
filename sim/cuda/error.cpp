// SPDX-License-Identifier: Apache-2.0
// Names and short texts of results, valid before cuInit.
#include "functions.h"

namespace {

struct Text {
  const char* name;
  const char* description;
};

Text text_of(CUresult error) {
  switch (error) {
    case CUDA_SUCCESS:
      return {"CUDA_SUCCESS", "no error"};
    case CUDA_ERROR_INVALID_VALUE:
      return {"CUDA_ERROR_INVALID_VALUE", "invalid argument"};
    case CUDA_ERROR_OUT_OF_MEMORY:
      return {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"};
    case CUDA_ERROR_NOT_INITIALIZED:
      return {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"};
    case CUDA_ERROR_DEINITIALIZED:
      return {"CUDA_ERROR_DEINITIALIZED", "driver shutting down"};
    case CUDA_ERROR_PROFILER_DISABLED:
      return {"CUDA_ERROR_PROFILER_DISABLED", "profiler disabled"};
    case CUDA_ERROR_PROFILER_NOT_INITIALIZED:
      return {"CUDA_ERROR_PROFILER_NOT_INITIALIZED", "profiler not initialized"};
    case CUDA_ERROR_PROFILER_ALREADY_STARTED:
      return {"CUDA_ERROR_PROFILER_ALREADY_STARTED", "profiler already started"};
    case CUDA_ERROR_PROFILER_ALREADY_STOPPED:
      return {"CUDA_ERROR_PROFILER_ALREADY_STOPPED", "profiler already stopped"};
    case CUDA_ERROR_STUB_LIBRARY:
      return {"CUDA_ERROR_STUB_LIBRARY", "stub library"};
    case CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER:
      return {"CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", "call requires newer driver"};
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
      return {"CUDA_ERROR_DEVICE_UNAVAILABLE", "device unavailable"};
    case CUDA_ERROR_NO_DEVICE:
      return {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"};
    case CUDA_ERROR_INVALID_DEVICE:
      return {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"};
    case CUDA_ERROR_DEVICE_NOT_LICENSED:
      return {"CUDA_ERROR_DEVICE_NOT_LICENSED", "device not licensed"};
    case CUDA_ERROR_INVALID_IMAGE:
      return {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"};
    case CUDA_ERROR_INVALID_CONTEXT:
      return {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"};
    case CUDA_ERROR_CONTEXT_ALREADY_CURRENT:
      return {"CUDA_ERROR_CONTEXT_ALREADY_CURRENT", "context already current"};
    case CUDA_ERROR_MAP_FAILED:
      return {"CUDA_ERROR_MAP_FAILED", "map failed"};
    case CUDA_ERROR_UNMAP_FAILED:
      return {"CUDA_ERROR_UNMAP_FAILED", "unmap failed"};
    case CUDA_ERROR_ARRAY_IS_MAPPED:
      return {"CUDA_ERROR_ARRAY_IS_MAPPED", "array is mapped"};
    case CUDA_ERROR_ALREADY_MAPPED:
      return {"CUDA_ERROR_ALREADY_MAPPED", "already mapped"};
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
      return {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no binary for gpu"};
    case CUDA_ERROR_ALREADY_ACQUIRED:
      return {"CUDA_ERROR_ALREADY_ACQUIRED", "already acquired"};
    case CUDA_ERROR_NOT_MAPPED:
      return {"CUDA_ERROR_NOT_MAPPED", "not mapped"};
    case CUDA_ERROR_NOT_MAPPED_AS_ARRAY:
      return {"CUDA_ERROR_NOT_MAPPED_AS_ARRAY", "not mapped as array"};
    case CUDA_ERROR_NOT_MAPPED_AS_POINTER:
      return {"CUDA_ERROR_NOT_MAPPED_AS_POINTER", "not mapped as pointer"};
    case CUDA_ERROR_ECC_UNCORRECTABLE:
      return {"CUDA_ERROR_ECC_UNCORRECTABLE", "ecc uncorrectable"};
    case CUDA_ERROR_UNSUPPORTED_LIMIT:
      return {"CUDA_ERROR_UNSUPPORTED_LIMIT", "unsupported limit"};
    case CUDA_ERROR_CONTEXT_ALREADY_IN_USE:
      return {"CUDA_ERROR_CONTEXT_ALREADY_IN_USE", "context already in use"};
    case CUDA_ERROR_PEER_ACCESS_UNSUPPORTED:
      return {"CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", "peer access unsupported"};
    case CUDA_ERROR_INVALID_PTX:
      return {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"};
    case CUDA_ERROR_INVALID_GRAPHICS_CONTEXT:
      return {"CUDA_ERROR_INVALID_GRAPHICS_CONTEXT", "invalid graphics context"};
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
      return {"CUDA_ERROR_NVLINK_UNCORRECTABLE", "nvlink uncorrectable"};
    case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
      return {"CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "jit compiler not found"};
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
      return {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "unsupported ptx version"};
    case CUDA_ERROR_JIT_COMPILATION_DISABLED:
      return {"CUDA_ERROR_JIT_COMPILATION_DISABLED", "jit compilation disabled"};
    case CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY:
      return {"CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY", "unsupported exec affinity"};
    case CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC:
      return {"CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC", "unsupported devside sync"};
    case CUDA_ERROR_CONTAINED:
      return {"CUDA_ERROR_CONTAINED", "contained"};
    case CUDA_ERROR_INVALID_SOURCE:
      return {"CUDA_ERROR_INVALID_SOURCE", "invalid source"};
    case CUDA_ERROR_FILE_NOT_FOUND:
      return {"CUDA_ERROR_FILE_NOT_FOUND", "file not found"};
    case CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND:
      return {"CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND", "shared object symbol not found"};
    case CUDA_ERROR_SHARED_OBJECT_INIT_FAILED:
      return {"CUDA_ERROR_SHARED_OBJECT_INIT_FAILED", "shared object init failed"};
    case CUDA_ERROR_OPERATING_SYSTEM:
      return {"CUDA_ERROR_OPERATING_SYSTEM", "operating system"};
    case CUDA_ERROR_INVALID_HANDLE:
      return {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"};
    case CUDA_ERROR_ILLEGAL_STATE:
      return {"CUDA_ERROR_ILLEGAL_STATE", "illegal state"};
    case CUDA_ERROR_LOSSY_QUERY:
      return {"CUDA_ERROR_LOSSY_QUERY", "lossy query"};
    case CUDA_ERROR_NOT_FOUND:
      return {"CUDA_ERROR_NOT_FOUND", "named symbol not found"};
    case CUDA_ERROR_NOT_READY:
      return {"CUDA_ERROR_NOT_READY", "device not ready"};
    case CUDA_ERROR_ILLEGAL_ADDRESS:
      return {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"};
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
      return {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "launch out of resources"};
    case CUDA_ERROR_LAUNCH_TIMEOUT:
      return {"CUDA_ERROR_LAUNCH_TIMEOUT", "launch timeout"};
    case CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING:
      return {"CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING", "launch incompatible texturing"};
    case CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED:
      return {"CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access already enabled"};
    case CUDA_ERROR_PEER_ACCESS_NOT_ENABLED:
      return {"CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access not enabled"};
    case CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE:
      return {"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", "primary context active"};
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
      return {"CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"};
    case CUDA_ERROR_ASSERT:
      return {"CUDA_ERROR_ASSERT", "assert"};
    case CUDA_ERROR_TOO_MANY_PEERS:
      return {"CUDA_ERROR_TOO_MANY_PEERS", "too many peers"};
    case CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
      return {"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "host memory already registered"};
    case CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED:
      return {"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "host memory not registered"};
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
      return {"CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"};
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
      return {"CUDA_ERROR_ILLEGAL_INSTRUCTION", "illegal instruction"};
    case CUDA_ERROR_MISALIGNED_ADDRESS:
      return {"CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"};
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
      return {"CUDA_ERROR_INVALID_ADDRESS_SPACE", "invalid address space"};
    case CUDA_ERROR_INVALID_PC:
      return {"CUDA_ERROR_INVALID_PC", "invalid pc"};
    case CUDA_ERROR_LAUNCH_FAILED:
      return {"CUDA_ERROR_LAUNCH_FAILED", "launch failed"};
    case CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
      return {"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "cooperative launch too large"};
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
      return {"CUDA_ERROR_TENSOR_MEMORY_LEAK", "tensor memory leak"};
    case CUDA_ERROR_NOT_PERMITTED:
      return {"CUDA_ERROR_NOT_PERMITTED", "operation not permitted"};
    case CUDA_ERROR_NOT_SUPPORTED:
      return {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"};
    case CUDA_ERROR_SYSTEM_NOT_READY:
      return {"CUDA_ERROR_SYSTEM_NOT_READY", "system not ready"};
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
      return {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system driver mismatch"};
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
      return {"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "compat not supported on device"};
    case CUDA_ERROR_MPS_CONNECTION_FAILED:
      return {"CUDA_ERROR_MPS_CONNECTION_FAILED", "mps connection failed"};
    case CUDA_ERROR_MPS_RPC_FAILURE:
      return {"CUDA_ERROR_MPS_RPC_FAILURE", "mps rpc failure"};
    case CUDA_ERROR_MPS_SERVER_NOT_READY:
      return {"CUDA_ERROR_MPS_SERVER_NOT_READY", "mps server not ready"};
    case CUDA_ERROR_MPS_MAX_CLIENTS_REACHED:
      return {"CUDA_ERROR_MPS_MAX_CLIENTS_REACHED", "mps max clients reached"};
    case CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED:
      return {"CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED", "mps max connections reached"};
    case CUDA_ERROR_MPS_CLIENT_TERMINATED:
      return {"CUDA_ERROR_MPS_CLIENT_TERMINATED", "mps client terminated"};
    case CUDA_ERROR_CDP_NOT_SUPPORTED:
      return {"CUDA_ERROR_CDP_NOT_SUPPORTED", "cdp not supported"};
    case CUDA_ERROR_CDP_VERSION_MISMATCH:
      return {"CUDA_ERROR_CDP_VERSION_MISMATCH", "cdp version mismatch"};
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
      return {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
              "operation not permitted when stream is capturing"};
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
      return {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
              "operation failed due to a previous error during capture"};
    case CUDA_ERROR_STREAM_CAPTURE_MERGE:
      return {"CUDA_ERROR_STREAM_CAPTURE_MERGE", "stream capture merge"};
    case CUDA_ERROR_STREAM_CAPTURE_UNMATCHED:
      return {"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "stream capture unmatched"};
    case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
      return {"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "stream capture unjoined"};
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
      return {"CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "stream capture isolation"};
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
      return {"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "stream capture implicit"};
    case CUDA_ERROR_CAPTURED_EVENT:
      return {"CUDA_ERROR_CAPTURED_EVENT", "captured event"};
    case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
      return {"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "stream capture wrong thread"};
    case CUDA_ERROR_TIMEOUT:
      return {"CUDA_ERROR_TIMEOUT", "timeout"};
    case CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE:
      return {"CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "graph exec update failure"};
    case CUDA_ERROR_EXTERNAL_DEVICE:
      return {"CUDA_ERROR_EXTERNAL_DEVICE", "external device"};
    case CUDA_ERROR_INVALID_CLUSTER_SIZE:
      return {"CUDA_ERROR_INVALID_CLUSTER_SIZE", "invalid cluster size"};
    case CUDA_ERROR_FUNCTION_NOT_LOADED:
      return {"CUDA_ERROR_FUNCTION_NOT_LOADED", "function not loaded"};
    case CUDA_ERROR_INVALID_RESOURCE_TYPE:
      return {"CUDA_ERROR_INVALID_RESOURCE_TYPE", "invalid resource type"};
    case CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION:
      return {"CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION", "invalid resource configuration"};
    case CUDA_ERROR_KEY_ROTATION:
      return {"CUDA_ERROR_KEY_ROTATION", "key rotation"};
    case CUDA_ERROR_UNKNOWN:
      return {"CUDA_ERROR_UNKNOWN", "unknown error"};
  }
  return {nullptr, nullptr};
}

CUresult answer(const char* text, const char** out) {
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = text;
  return text == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuGetErrorName(CUresult error, const char** str) {
  return answer(text_of(error).name, str);
}
CUresult sim_cuGetErrorString(CUresult error, const char** str) {
  return answer(text_of(error).description, str);
}
