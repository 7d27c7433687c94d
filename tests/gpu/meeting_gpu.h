// SPDX-License-Identifier: Apache-2.0
// A GPU with the kernels of meeting_kernels.h and a word that they meet at. One thread at a time.
// An error of the driver ends the program with status 1 and says so on standard error.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gpu_client.h"
#include "meeting_kernels.h"

namespace gpu_client {

inline void must(CUresult code, const char* what) {
  if (code == CUDA_SUCCESS) return;
  std::fprintf(stderr, "%s: CUDA error %d\n", what, static_cast<int>(code));
  std::exit(1);
}

// A GPU with its kernels and a word of its own.
class MeetingGpu {
 public:
  static constexpr unsigned kThreads = 1024;  // of a block

  // `says_so`: the kernel that meets has the name of a collective.
  explicit MeetingGpu(int ordinal, bool says_so = false) {
    must(cu.cuDeviceGet(&device_, ordinal), "cuDeviceGet");
    must(cu.cuDevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
    use();
    load_kernels(says_so ? "ncclDevKernel_meet" : "meet");
    must(cu.cuMemAlloc_v2(&word_, sizeof(std::uint32_t)), "cuMemAlloc");
    must(cu.cuMemsetD8_v2(word_, 0, sizeof(std::uint32_t)), "cuMemsetD8");
    must(cu.cuCtxSynchronize(), "cuCtxSynchronize");
  }
  // Makes it current on this thread.
  void use() const { must(cu.cuCtxSetCurrent(context_), "cuCtxSetCurrent"); }
  CUcontext context() const { return context_; }
  CUdeviceptr word() const { return word_; }
  CUfunction arrive_kernel() const { return arrive_; }
  CUfunction meet_kernel() const { return meet_; }
  // Blocks that fill it.
  unsigned full() const {
    int sms = 0;
    int threads = 0;
    cu.cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device_);
    cu.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, device_);
    return static_cast<unsigned>(sms * threads) / kThreads;
  }

  static CUstream stream() {
    CUstream made = nullptr;
    must(cu.cuStreamCreate(&made, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    return made;
  }
  static CUevent record(CUstream stream) {
    CUevent made = nullptr;
    must(cu.cuEventCreate(&made, 0), "cuEventCreate");
    must(cu.cuEventRecord(made, stream), "cuEventRecord");
    return made;
  }
  static long long us_between(CUevent from, CUevent to) {
    float ms = 0;
    must(cu.cuEventElapsedTime(&ms, from, to), "cuEventElapsedTime");
    return static_cast<long long>(ms * 1000);
  }

  void spin(CUstream stream, unsigned long long ns, unsigned grid) const {
    void* params[] = {&ns};
    launch(spin_, stream, grid, params);
  }
  void arrive(CUstream stream, CUdeviceptr word) const {
    unsigned long long ns = 0;
    void* params[] = {&ns, &word};
    launch(arrive_, stream, 2, params);
  }
  void await(CUstream stream, std::uint32_t value, unsigned long long ns, unsigned grid) const {
    CUdeviceptr word = word_;
    void* params[] = {&ns, &word, &value};
    launch(await_, stream, grid, params);
  }
  void meet(CUstream stream, CUdeviceptr peer, std::uint32_t value, unsigned long long ns) const {
    CUdeviceptr word = word_;
    void* params[] = {&ns, &peer, &word, &value};
    launch(meet_, stream, 1, params);
  }
  // By the host, without a kernel.
  void set_word(CUstream stream, std::uint32_t value) const {
    must(cu.cuMemcpyHtoDAsync_v2(word_, &value, sizeof value, stream), "cuMemcpyHtoDAsync");
    must(cu.cuStreamSynchronize(stream), "cuStreamSynchronize");
  }
  std::uint32_t read_word() const {
    std::uint32_t value = 0;
    must(cu.cuMemcpyDtoH_v2(&value, word_, sizeof value), "cuMemcpyDtoH");
    return value;
  }

 private:
  void load_kernels(const std::string& meet) {
    std::string text = kMeetingKernels;
    constexpr std::string_view kMeet = ".entry meet(";
    text.replace(text.find(kMeet), kMeet.size(), ".entry " + meet + "(");
    CUmodule module = nullptr;
    must(cu.cuModuleLoadData(&module, text.c_str()), "cuModuleLoadData");
    must(cu.cuModuleGetFunction(&spin_, module, "spin"), "spin");
    must(cu.cuModuleGetFunction(&arrive_, module, "arrive"), "arrive");
    must(cu.cuModuleGetFunction(&await_, module, "await"), "await");
    must(cu.cuModuleGetFunction(&meet_, module, meet.c_str()), "meet");
  }
  static void launch(CUfunction function, CUstream stream, unsigned grid, void** params) {
    must(cu.cuLaunchKernel(function, grid, 1, 1, kThreads, 1, 1, 0, stream, params, nullptr),
         "cuLaunchKernel");
  }

  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUfunction spin_ = nullptr;
  CUfunction arrive_ = nullptr;
  CUfunction await_ = nullptr;
  CUfunction meet_ = nullptr;
  CUdeviceptr word_ = 0;
};

}  // namespace gpu_client
