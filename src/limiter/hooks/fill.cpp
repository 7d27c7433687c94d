// SPDX-License-Identifier: Apache-2.0
// Fills of device memory: work of the GPU, gated by their size.
#include "../compute/submit.h"
#include "../hooks.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

template <class Call>
CUresult fill(std::uint64_t bytes, CUstream stream, bool per_thread, Call call) {
  return submit([&] { return fill_work(bytes); }, stream, per_thread, call);
}

}  // namespace

CUresult cuMemsetD16(CUdeviceptr_v1 dst_device, unsigned short us, unsigned int count) {
  return fill(std::uint64_t{count} * 2, nullptr, false,
              [&] { return real().cuMemsetD16(dst_device, us, count); });
}

CUresult cuMemsetD16Async(CUdeviceptr dst_device, unsigned short us, size_t count,
                          CUstream stream) {
  return fill(std::uint64_t{count} * 2, stream, false,
              [&] { return real().cuMemsetD16Async(dst_device, us, count, stream); });
}

CUresult cuMemsetD16Async_ptsz(CUdeviceptr dst_device, unsigned short us, size_t count,
                               CUstream stream) {
  return fill(std::uint64_t{count} * 2, stream, true,
              [&] { return real().cuMemsetD16Async_ptsz(dst_device, us, count, stream); });
}

CUresult cuMemsetD16_v2(CUdeviceptr dst_device, unsigned short us, size_t count) {
  return fill(std::uint64_t{count} * 2, nullptr, false,
              [&] { return real().cuMemsetD16_v2(dst_device, us, count); });
}

CUresult cuMemsetD16_v2_ptds(CUdeviceptr dst_device, unsigned short us, size_t count) {
  return fill(std::uint64_t{count} * 2, nullptr, true,
              [&] { return real().cuMemsetD16_v2_ptds(dst_device, us, count); });
}

CUresult cuMemsetD2D16(CUdeviceptr_v1 dst_device, unsigned int dst_pitch, unsigned short us,
                       unsigned int width, unsigned int height) {
  return fill(std::uint64_t{width} * height * 2, nullptr, false,
              [&] { return real().cuMemsetD2D16(dst_device, dst_pitch, us, width, height); });
}

CUresult cuMemsetD2D16Async(CUdeviceptr dst_device, size_t dst_pitch, unsigned short us,
                            size_t width, size_t height, CUstream stream) {
  return fill(std::uint64_t{width} * height * 2, stream, false, [&] {
    return real().cuMemsetD2D16Async(dst_device, dst_pitch, us, width, height, stream);
  });
}

CUresult cuMemsetD2D16Async_ptsz(CUdeviceptr dst_device, size_t dst_pitch, unsigned short us,
                                 size_t width, size_t height, CUstream stream) {
  return fill(std::uint64_t{width} * height * 2, stream, true, [&] {
    return real().cuMemsetD2D16Async_ptsz(dst_device, dst_pitch, us, width, height, stream);
  });
}

CUresult cuMemsetD2D16_v2(CUdeviceptr dst_device, size_t dst_pitch, unsigned short us, size_t width,
                          size_t height) {
  return fill(std::uint64_t{width} * height * 2, nullptr, false,
              [&] { return real().cuMemsetD2D16_v2(dst_device, dst_pitch, us, width, height); });
}

CUresult cuMemsetD2D16_v2_ptds(CUdeviceptr dst_device, size_t dst_pitch, unsigned short us,
                               size_t width, size_t height) {
  return fill(std::uint64_t{width} * height * 2, nullptr, true, [&] {
    return real().cuMemsetD2D16_v2_ptds(dst_device, dst_pitch, us, width, height);
  });
}

CUresult cuMemsetD2D32(CUdeviceptr_v1 dst_device, unsigned int dst_pitch, unsigned int ui,
                       unsigned int width, unsigned int height) {
  return fill(std::uint64_t{width} * height * 4, nullptr, false,
              [&] { return real().cuMemsetD2D32(dst_device, dst_pitch, ui, width, height); });
}

CUresult cuMemsetD2D32Async(CUdeviceptr dst_device, size_t dst_pitch, unsigned int ui, size_t width,
                            size_t height, CUstream stream) {
  return fill(std::uint64_t{width} * height * 4, stream, false, [&] {
    return real().cuMemsetD2D32Async(dst_device, dst_pitch, ui, width, height, stream);
  });
}

CUresult cuMemsetD2D32Async_ptsz(CUdeviceptr dst_device, size_t dst_pitch, unsigned int ui,
                                 size_t width, size_t height, CUstream stream) {
  return fill(std::uint64_t{width} * height * 4, stream, true, [&] {
    return real().cuMemsetD2D32Async_ptsz(dst_device, dst_pitch, ui, width, height, stream);
  });
}

CUresult cuMemsetD2D32_v2(CUdeviceptr dst_device, size_t dst_pitch, unsigned int ui, size_t width,
                          size_t height) {
  return fill(std::uint64_t{width} * height * 4, nullptr, false,
              [&] { return real().cuMemsetD2D32_v2(dst_device, dst_pitch, ui, width, height); });
}

CUresult cuMemsetD2D32_v2_ptds(CUdeviceptr dst_device, size_t dst_pitch, unsigned int ui,
                               size_t width, size_t height) {
  return fill(std::uint64_t{width} * height * 4, nullptr, true, [&] {
    return real().cuMemsetD2D32_v2_ptds(dst_device, dst_pitch, ui, width, height);
  });
}

CUresult cuMemsetD2D8(CUdeviceptr_v1 dst_device, unsigned int dst_pitch, unsigned char uc,
                      unsigned int width, unsigned int height) {
  return fill(std::uint64_t{width} * height, nullptr, false,
              [&] { return real().cuMemsetD2D8(dst_device, dst_pitch, uc, width, height); });
}

CUresult cuMemsetD2D8Async(CUdeviceptr dst_device, size_t dst_pitch, unsigned char uc, size_t width,
                           size_t height, CUstream stream) {
  return fill(std::uint64_t{width} * height, stream, false, [&] {
    return real().cuMemsetD2D8Async(dst_device, dst_pitch, uc, width, height, stream);
  });
}

CUresult cuMemsetD2D8Async_ptsz(CUdeviceptr dst_device, size_t dst_pitch, unsigned char uc,
                                size_t width, size_t height, CUstream stream) {
  return fill(std::uint64_t{width} * height, stream, true, [&] {
    return real().cuMemsetD2D8Async_ptsz(dst_device, dst_pitch, uc, width, height, stream);
  });
}

CUresult cuMemsetD2D8_v2(CUdeviceptr dst_device, size_t dst_pitch, unsigned char uc, size_t width,
                         size_t height) {
  return fill(std::uint64_t{width} * height, nullptr, false,
              [&] { return real().cuMemsetD2D8_v2(dst_device, dst_pitch, uc, width, height); });
}

CUresult cuMemsetD2D8_v2_ptds(CUdeviceptr dst_device, size_t dst_pitch, unsigned char uc,
                              size_t width, size_t height) {
  return fill(std::uint64_t{width} * height, nullptr, true, [&] {
    return real().cuMemsetD2D8_v2_ptds(dst_device, dst_pitch, uc, width, height);
  });
}

CUresult cuMemsetD32(CUdeviceptr_v1 dst_device, unsigned int ui, unsigned int count) {
  return fill(std::uint64_t{count} * 4, nullptr, false,
              [&] { return real().cuMemsetD32(dst_device, ui, count); });
}

CUresult cuMemsetD32Async(CUdeviceptr dst_device, unsigned int ui, size_t count, CUstream stream) {
  return fill(std::uint64_t{count} * 4, stream, false,
              [&] { return real().cuMemsetD32Async(dst_device, ui, count, stream); });
}

CUresult cuMemsetD32Async_ptsz(CUdeviceptr dst_device, unsigned int ui, size_t count,
                               CUstream stream) {
  return fill(std::uint64_t{count} * 4, stream, true,
              [&] { return real().cuMemsetD32Async_ptsz(dst_device, ui, count, stream); });
}

CUresult cuMemsetD32_v2(CUdeviceptr dst_device, unsigned int ui, size_t count) {
  return fill(std::uint64_t{count} * 4, nullptr, false,
              [&] { return real().cuMemsetD32_v2(dst_device, ui, count); });
}

CUresult cuMemsetD32_v2_ptds(CUdeviceptr dst_device, unsigned int ui, size_t count) {
  return fill(std::uint64_t{count} * 4, nullptr, true,
              [&] { return real().cuMemsetD32_v2_ptds(dst_device, ui, count); });
}

CUresult cuMemsetD8(CUdeviceptr_v1 dst_device, unsigned char uc, unsigned int count) {
  return fill(count, nullptr, false, [&] { return real().cuMemsetD8(dst_device, uc, count); });
}

CUresult cuMemsetD8Async(CUdeviceptr dst_device, unsigned char uc, size_t count, CUstream stream) {
  return fill(count, stream, false,
              [&] { return real().cuMemsetD8Async(dst_device, uc, count, stream); });
}

CUresult cuMemsetD8Async_ptsz(CUdeviceptr dst_device, unsigned char uc, size_t count,
                              CUstream stream) {
  return fill(count, stream, true,
              [&] { return real().cuMemsetD8Async_ptsz(dst_device, uc, count, stream); });
}

CUresult cuMemsetD8_v2(CUdeviceptr dst_device, unsigned char uc, size_t count) {
  return fill(count, nullptr, false, [&] { return real().cuMemsetD8_v2(dst_device, uc, count); });
}

CUresult cuMemsetD8_v2_ptds(CUdeviceptr dst_device, unsigned char uc, size_t count) {
  return fill(count, nullptr, true,
              [&] { return real().cuMemsetD8_v2_ptds(dst_device, uc, count); });
}

}  // namespace vgpu::hooks
