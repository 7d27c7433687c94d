// SPDX-License-Identifier: Apache-2.0
// What the driver takes for memory of every family: rounding, growth steps, what comes back and
// when.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "conformance.h"

namespace conformance {
namespace {

std::string size_name(std::size_t bytes) {
  if (bytes % kMiB == 0) return std::to_string(bytes / kMiB) + "MiB";
  if (bytes % kMiB == 1) return std::to_string(bytes / kMiB) + "MiB+1";
  if (bytes % kKiB == 0) return std::to_string(bytes / kKiB) + "KiB";
  return std::to_string(bytes) + "B";
}

}  // namespace

void section_alloc() {
  use_device();
  std::vector<CUdeviceptr> held;
  for (const std::size_t bytes : {std::size_t{1}, 64 * kKiB, kMiB, kMiB + 1, 2 * kMiB, 2 * kMiB + 1,
                                  3 * kMiB, 5 * kMiB, 33 * kMiB + 5, 100 * kMiB, 1024 * kMiB}) {
    CUdeviceptr p = 0;
    answer("alloc.growth_kib." + size_name(bytes),
           growth_kib([&] { cu.cuMemAlloc_v2(&p, bytes); }));
    CUdeviceptr base = 0;
    std::size_t size = 0;
    cu.cuMemGetAddressRange_v2(&base, &size, p);
    answer("alloc.range_bytes." + size_name(bytes), static_cast<long long>(size));
    if (bytes > kMiB) answer("alloc.aligned_2MiB." + size_name(bytes), p % (2 * kMiB) == 0);
    held.push_back(p);
  }
  for (std::size_t i = held.size(); i-- > 0;) {
    answer("alloc.freed_kib.step" + std::to_string(i),
           -growth_kib([&] { cu.cuMemFree_v2(held[i]); }));
  }
  // Large pieces: is each returned at once, or kept by the driver for later?
  held.assign(64, 0);
  answer("alloc.growth_kib.64x3MiB", growth_kib([&] {
           for (auto& p : held) cu.cuMemAlloc_v2(&p, 3 * kMiB);
         }));
  answer("alloc.freed_kib.64x3MiB", -growth_kib([&] {
           for (auto& p : held) cu.cuMemFree_v2(p);
         }));
  held.assign(64, 0);
  answer("alloc.growth_kib.64x1MiB+1", growth_kib([&] {
           for (auto& p : held) cu.cuMemAlloc_v2(&p, kMiB + 1);
         }));
  answer("alloc.freed_kib.64x1MiB+1", -growth_kib([&] {
           for (auto& p : held) cu.cuMemFree_v2(p);
         }));
}

void section_small_blocks() {
  use_device();
  struct Case {
    std::size_t bytes;
    int count;
  };
  for (const Case c :
       {Case{1, 64}, Case{512, 8192}, Case{513, 4096}, Case{kKiB, 1000}, Case{4 * kKiB, 1024},
        Case{64 * kKiB, 96}, Case{100 * kKiB, 100}, Case{256 * kKiB, 64}, Case{512 * kKiB, 64},
        Case{600 * kKiB, 60}, Case{kMiB, 16}}) {
    const std::string name = std::to_string(c.count) + "x" + size_name(c.bytes);
    std::vector<CUdeviceptr> held(static_cast<std::size_t>(c.count));
    answer("small.growth_kib." + name, growth_kib([&] {
             for (auto& p : held) cu.cuMemAlloc_v2(&p, c.bytes);
           }));
    std::set<CUdeviceptr> blocks;
    CUdeviceptr stride = ~0ULL;
    auto sorted = held;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < sorted.size(); ++i) {
      blocks.insert(sorted[i] / (2 * kMiB));
      if (i > 0) stride = std::min(stride, sorted[i] - sorted[i - 1]);
    }
    answer("small.blocks_2MiB." + name, static_cast<long long>(blocks.size()));
    answer("small.stride_bytes." + name, static_cast<long long>(stride));
    answer("small.freed_kib." + name, -growth_kib([&] {
             for (const auto p : held) cu.cuMemFree_v2(p);
           }));
  }
  // Do sizes share a block, and is an empty block given back while others live?
  CUdeviceptr a = 0, b = 0, c = 0, d = 0;
  answer("small.mixed.first_1KiB_growth_kib", growth_kib([&] { cu.cuMemAlloc_v2(&a, kKiB); }));
  answer("small.mixed.then_100KiB_growth_kib",
         growth_kib([&] { cu.cuMemAlloc_v2(&b, 100 * kKiB); }));
  answer("small.mixed.then_512KiB_growth_kib",
         growth_kib([&] { cu.cuMemAlloc_v2(&c, 512 * kKiB); }));
  answer("small.mixed.then_1MiB_growth_kib", growth_kib([&] { cu.cuMemAlloc_v2(&d, kMiB); }));
  answer("small.mixed.blocks",
         static_cast<long long>(std::set<CUdeviceptr>{a >> 21, b >> 21, c >> 21, d >> 21}.size()));
  for (const auto p : {a, b, c, d}) cu.cuMemFree_v2(p);

  std::vector<CUdeviceptr> held(40);
  const long long up = growth_kib([&] {
    for (auto& p : held) cu.cuMemAlloc_v2(&p, 500 * kKiB);
  });
  answer("small.sparse.growth_kib", up);
  std::map<CUdeviceptr, std::vector<CUdeviceptr>> by_block;
  for (const auto p : held) by_block[p >> 21].push_back(p);
  answer("small.sparse.blocks", static_cast<long long>(by_block.size()));
  // Free all but one of each block: nothing can come back. Then empty the blocks one at a time.
  answer("small.sparse.all_but_one_freed_kib", -growth_kib([&] {
           for (auto& [block, list] : by_block) {
             while (list.size() > 1) {
               cu.cuMemFree_v2(list.back());
               list.pop_back();
             }
           }
         }));
  int step = 0;
  for (auto& [block, list] : by_block) {
    answer("small.sparse.empty_block" + std::to_string(step++) + "_freed_kib",
           -growth_kib([&] { cu.cuMemFree_v2(list[0]); }));
  }
}

void section_pitch() {
  use_device();
  struct Case {
    std::size_t width, height;
    unsigned element;
  };
  for (const Case c : {Case{1, 1, 4}, Case{100, 10, 4}, Case{512, 100, 16}, Case{513, 1000, 4},
                       Case{5000, 5000, 8}, Case{1 << 20, 64, 4}}) {
    const std::string name =
        std::to_string(c.width) + "x" + std::to_string(c.height) + "e" + std::to_string(c.element);
    CUdeviceptr p = 0;
    std::size_t pitch = 0;
    const long long grown =
        growth_kib([&] { cu.cuMemAllocPitch_v2(&p, &pitch, c.width, c.height, c.element); });
    answer("pitch.pitch_bytes." + name, static_cast<long long>(pitch));
    answer("pitch.growth_kib." + name, grown);
    answer("pitch.freed_kib." + name, -growth_kib([&] { cu.cuMemFree_v2(p); }));
  }
  CUdeviceptr p = 0;
  std::size_t pitch = 0;
  answer_code("pitch.element_3", cu.cuMemAllocPitch_v2(&p, &pitch, 64, 64, 3));
  answer_code("pitch.zero_width", cu.cuMemAllocPitch_v2(&p, &pitch, 0, 64, 4));
  answer_code("pitch.zero_height", cu.cuMemAllocPitch_v2(&p, &pitch, 64, 0, 4));
}

void section_managed() {
  use_device();
  CUdeviceptr p = 0;
  const std::size_t before = process_bytes();
  answer("managed.alloc_growth_kib",
         growth_kib([&] { cu.cuMemAllocManaged(&p, 64 * kMiB, CU_MEM_ATTACH_GLOBAL); }));
  answer("managed.touch_growth_kib", growth_kib([&] {
           cu.cuMemsetD8_v2(p, 1, 64 * kMiB);
           cu.cuCtxSynchronize();
         }));
  answer("managed.nvml_growth_kib", static_cast<long long>((process_bytes() - before) / kKiB));
  answer("managed.freed_kib", -growth_kib([&] { cu.cuMemFree_v2(p); }));
  answer_code("managed.bad_flags", cu.cuMemAllocManaged(&p, 4096, 0));
  answer("managed.small_growth_kib", growth_kib([&] {
           cu.cuMemAllocManaged(&p, 4096, CU_MEM_ATTACH_GLOBAL);
           cu.cuMemsetD8_v2(p, 1, 4096);
           cu.cuCtxSynchronize();
         }));
  cu.cuMemFree_v2(p);
}

void section_array() {
  use_device();
  struct Case {
    const char* name;
    CUarray_format format;
    unsigned channels;
    std::size_t width, height, depth;
    unsigned flags;
    unsigned levels;  // 0: plain array
  };
  const Case cases[] = {
      {"1d_u8", CU_AD_FORMAT_UNSIGNED_INT8, 1, 4096, 0, 0, 0, 0},
      {"1d_float4", CU_AD_FORMAT_FLOAT, 4, 65536, 0, 0, 0, 0},
      {"2d_rgba8_1024", CU_AD_FORMAT_UNSIGNED_INT8, 4, 1024, 1024, 0, 0, 0},
      {"2d_rgba8_1000x1000", CU_AD_FORMAT_UNSIGNED_INT8, 4, 1000, 1000, 0, 0, 0},
      {"2d_half_7000x3", CU_AD_FORMAT_HALF, 1, 7000, 3, 0, 0, 0},
      {"2d_float_8192", CU_AD_FORMAT_FLOAT, 1, 8192, 8192, 0, 0, 0},
      {"2d_float4_333x777", CU_AD_FORMAT_FLOAT, 4, 333, 777, 0, 0, 0},
      {"2d_u16_1x1", CU_AD_FORMAT_UNSIGNED_INT16, 1, 1, 1, 0, 0, 0},
      {"3d_float_256", CU_AD_FORMAT_FLOAT, 1, 256, 256, 256, 0, 0},
      {"3d_u8_100", CU_AD_FORMAT_UNSIGNED_INT8, 1, 100, 100, 100, 0, 0},
      {"3d_surface_float2_130", CU_AD_FORMAT_FLOAT, 2, 130, 70, 35, CUDA_ARRAY3D_SURFACE_LDST, 0},
      {"layered_2d_512x12", CU_AD_FORMAT_FLOAT, 1, 512, 512, 12, CUDA_ARRAY3D_LAYERED, 0},
      {"cubemap_256", CU_AD_FORMAT_FLOAT, 4, 256, 256, 6, CUDA_ARRAY3D_CUBEMAP, 0},
      {"gather_1000", CU_AD_FORMAT_FLOAT, 1, 1000, 1000, 0, CUDA_ARRAY3D_TEXTURE_GATHER, 0},
      {"mip_2d_4096_all", CU_AD_FORMAT_FLOAT, 1, 4096, 4096, 0, 0, 13},
      {"mip_2d_4096_1", CU_AD_FORMAT_FLOAT, 1, 4096, 4096, 0, 0, 1},
      {"mip_2d_1000_5", CU_AD_FORMAT_UNSIGNED_INT8, 4, 1000, 1000, 0, 0, 5},
      {"mip_3d_128_8", CU_AD_FORMAT_FLOAT, 1, 128, 128, 128, 0, 8},
      {"mip_layered_512x4_10", CU_AD_FORMAT_FLOAT, 2, 512, 512, 4, CUDA_ARRAY3D_LAYERED, 10},
  };
  for (const Case& c : cases) {
    CUDA_ARRAY3D_DESCRIPTOR d{};
    d.Format = c.format;
    d.NumChannels = c.channels;
    d.Width = c.width;
    d.Height = c.height;
    d.Depth = c.depth;
    d.Flags = c.flags;
    const std::string name = c.name;
    CUarray array = nullptr;
    CUmipmappedArray mip = nullptr;
    CUresult code = CUDA_SUCCESS;
    const std::size_t nvml_before = process_bytes();
    const long long grown = growth_kib([&] {
      code = c.levels > 0 ? cu.cuMipmappedArrayCreate(&mip, &d, c.levels)
                          : cu.cuArray3DCreate_v2(&array, &d);
    });
    answer("array.code." + name, code);
    answer("array.growth_kib." + name, grown);
    answer("array.nvml_growth_kib." + name,
           static_cast<long long>((process_bytes() - nvml_before) / kKiB));
    if (code == CUDA_SUCCESS) {
      // A second one right after: does it fit in what the first one left over?
      CUarray second = nullptr;
      CUmipmappedArray second_mip = nullptr;
      answer("array.second_growth_kib." + name, growth_kib([&] {
               code = c.levels > 0 ? cu.cuMipmappedArrayCreate(&second_mip, &d, c.levels)
                                   : cu.cuArray3DCreate_v2(&second, &d);
             }));
      if (second != nullptr) cu.cuArrayDestroy(second);
      if (second_mip != nullptr) cu.cuMipmappedArrayDestroy(second_mip);
      answer("array.freed_kib." + name, -growth_kib([&] {
               c.levels > 0 ? cu.cuMipmappedArrayDestroy(mip) : cu.cuArrayDestroy(array);
             }));
    }
    d.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
    array = nullptr;
    mip = nullptr;
    const long long twin = growth_kib([&] {
      code = c.levels > 0 ? cu.cuMipmappedArrayCreate(&mip, &d, c.levels)
                          : cu.cuArray3DCreate_v2(&array, &d);
    });
    answer("array.deferred_code." + name, code);
    if (code != CUDA_SUCCESS) continue;
    answer("array.deferred_growth_kib." + name, twin);
    CUDA_ARRAY_MEMORY_REQUIREMENTS need{};
    code = c.levels > 0 ? cu.cuMipmappedArrayGetMemoryRequirements(&need, mip, device())
                        : cu.cuArrayGetMemoryRequirements(&need, array, device());
    answer("array.requirement_code." + name, code);
    answer("array.requirement_bytes." + name, static_cast<long long>(need.size));
    answer("array.requirement_alignment." + name, static_cast<long long>(need.alignment));
    c.levels > 0 ? cu.cuMipmappedArrayDestroy(mip) : cu.cuArrayDestroy(array);
  }
}

namespace {

long long pool_kib(CUmemoryPool pool, CUmemPool_attribute attribute) {
  cuuint64_t value = 0;
  cu.cuMemPoolGetAttribute(pool, attribute, &value);
  return static_cast<long long>(value / kKiB);
}

void ask_pool(const std::string& name, CUmemoryPool pool, bool is_default, CUstream stream) {
  const auto allocate = [&](std::size_t bytes) {
    CUdeviceptr p = 0;
    is_default ? cu.cuMemAllocAsync(&p, bytes, stream)
               : cu.cuMemAllocFromPoolAsync(&p, bytes, pool, stream);
    return p;
  };
  for (const std::size_t bytes :
       {std::size_t{1}, 64 * kKiB, kMiB, 2 * kMiB, 3 * kMiB, 20 * kMiB, 32 * kMiB, 32 * kMiB + 1,
        33 * kMiB, 63 * kMiB, 65 * kMiB, 100 * kMiB, 200 * kMiB, 1000 * kMiB}) {
    CUdeviceptr p = 0;
    const std::string key = name + "." + size_name(bytes);
    answer("pool.growth_kib." + key, growth_kib([&] { p = allocate(bytes); }));
    answer("pool.reserved_kib." + key, pool_kib(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
    answer("pool.used_kib." + key, pool_kib(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT));
    cu.cuMemFreeAsync(p, stream);
    answer("pool.reserved_after_free_kib." + key,
           pool_kib(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
    cu.cuStreamSynchronize(stream);
    answer("pool.reserved_after_sync_kib." + key,
           pool_kib(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
  }
  // Growth in a row: ten pieces of each size, all alive.
  for (const std::size_t bytes : {kMiB, 5 * kMiB, 17 * kMiB, 40 * kMiB, 130 * kMiB}) {
    std::vector<CUdeviceptr> held;
    std::string reserved;
    for (int i = 0; i < 10; ++i) {
      held.push_back(allocate(bytes));
      reserved += (i ? "," : "") +
                  std::to_string(pool_kib(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) / 1024);
    }
    answer("pool.row_reserved_mib." + name + "." + size_name(bytes), reserved);
    // Free every other one and ask for slightly more: does the pool grow although there is room in
    // pieces?
    for (std::size_t i = 0; i < held.size(); i += 2) cu.cuMemFreeAsync(held[i], stream);
    const CUdeviceptr odd = allocate(bytes + bytes / 2);
    answer("pool.fragmented_reserved_mib." + name + "." + size_name(bytes),
           pool_kib(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) / 1024);
    cu.cuMemFreeAsync(odd, stream);
    for (std::size_t i = 1; i < held.size(); i += 2) cu.cuMemFreeAsync(held[i], stream);
    cu.cuStreamSynchronize(stream);
    answer("pool.row_after_sync_mib." + name + "." + size_name(bytes),
           pool_kib(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) / 1024);
  }
}

}  // namespace

void section_pool() {
  use_device();
  CUstream stream = nullptr;
  cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  CUmemoryPool default_pool = nullptr, current = nullptr;
  cu.cuDeviceGetDefaultMemPool(&default_pool, device());
  cu.cuDeviceGetMemPool(&current, device());
  answer("pool.current_is_default", default_pool == current);
  answer("pool.threshold_kib.default", pool_kib(default_pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD));
  ask_pool("default", default_pool, true, stream);
  // NULL stream, then synchronise the context.
  CUdeviceptr p = 0;
  answer_code("pool.null_stream", cu.cuMemAllocAsync(&p, 50 * kMiB, nullptr));
  cu.cuMemFreeAsync(p, nullptr);
  cu.cuCtxSynchronize();
  answer("pool.null_stream_after_ctx_sync_kib",
         pool_kib(default_pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
  answer_code("pool.zero_bytes", cu.cuMemAllocAsync(&p, 0, stream));
  answer_code("pool.too_much", cu.cuMemAllocAsync(&p, std::size_t{1} << 44, stream));
  answer_code("pool.free_null", cu.cuMemFreeAsync(0, stream));
  // A pointer of the pool freed by cuMemFree, and of cuMemAlloc freed by cuMemFreeAsync.
  cu.cuMemAllocAsync(&p, 10 * kMiB, stream);
  answer_code("pool.freed_by_cuMemFree", cu.cuMemFree_v2(p));
  answer("pool.freed_by_cuMemFree_reserved_kib",
         pool_kib(default_pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
  cu.cuMemAlloc_v2(&p, 10 * kMiB);
  answer("pool.alloc_freed_by_async_kib", -growth_kib([&] {
           answer_code("pool.alloc_freed_by_async", cu.cuMemFreeAsync(p, stream));
           cu.cuStreamSynchronize(stream);
         }));
  cuuint64_t threshold = ~0ULL;
  cu.cuMemPoolSetAttribute(default_pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold);
  cu.cuMemAllocAsync(&p, 100 * kMiB, stream);
  cu.cuMemFreeAsync(p, stream);
  cu.cuStreamSynchronize(stream);
  answer("pool.threshold_max_after_sync_kib",
         pool_kib(default_pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
  cu.cuMemPoolTrimTo(default_pool, 40 * kMiB);
  answer("pool.trimmed_to_40MiB_kib", pool_kib(default_pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
  cu.cuMemPoolTrimTo(default_pool, 0);
  answer("pool.trimmed_to_0_kib", pool_kib(default_pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT));
  answer_code("pool.destroy_default", cu.cuMemPoolDestroy(default_pool));

  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  props.location.id = device();
  CUmemoryPool pool = nullptr;
  answer("pool.create_growth_kib",
         growth_kib([&] { answer_code("pool.create", cu.cuMemPoolCreate(&pool, &props)); }));
  ask_pool("explicit", pool, false, stream);
  // Destroyed while an allocation is alive: what stays, and when does it go?
  answer("pool.destroy_alive_kib", growth_kib([&] {
           cu.cuMemAllocFromPoolAsync(&p, 100 * kMiB, pool, stream);
           cu.cuStreamSynchronize(stream);
           answer_code("pool.destroy_alive", cu.cuMemPoolDestroy(pool));
         }));
  answer("pool.destroy_alive_then_freed_kib", -growth_kib([&] {
           cu.cuMemFreeAsync(p, stream);
           cu.cuStreamSynchronize(stream);
         }));
  props.maxSize = 64 * kMiB;
  answer_code("pool.create_max_64MiB", cu.cuMemPoolCreate(&pool, &props));
  answer_code("pool.max_within", cu.cuMemAllocFromPoolAsync(&p, 60 * kMiB, pool, stream));
  CUdeviceptr q = 0;
  answer_code("pool.max_beyond", cu.cuMemAllocFromPoolAsync(&q, 60 * kMiB, pool, stream));
}

void section_vmm() {
  use_device();
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = device();
  prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  std::size_t minimum = 0, recommended = 0;
  cu.cuMemGetAllocationGranularity(&minimum, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
  cu.cuMemGetAllocationGranularity(&recommended, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  answer("vmm.granularity_minimum", static_cast<long long>(minimum));
  answer("vmm.granularity_recommended", static_cast<long long>(recommended));
  CUmemGenericAllocationHandle handle = 0, other = 0;
  answer_code("vmm.create_odd_size", cu.cuMemCreate(&handle, 2 * kMiB + 4096, &prop, 0));
  answer_code("vmm.create_zero", cu.cuMemCreate(&handle, 0, &prop, 0));
  answer_code("vmm.create_huge", cu.cuMemCreate(&handle, std::size_t{1} << 44, &prop, 0));
  answer_code("vmm.create_flags_1", cu.cuMemCreate(&handle, 2 * kMiB, &prop, 1));
  answer("vmm.create_growth_kib.20MiB",
         growth_kib([&] { cu.cuMemCreate(&handle, 20 * kMiB, &prop, 0); }));
  CUdeviceptr va = 0;
  answer("vmm.reserve_growth_kib",
         growth_kib([&] { cu.cuMemAddressReserve(&va, 64 * kMiB, 0, 0, 0); }));
  answer_code("vmm.map", cu.cuMemMap(va, 20 * kMiB, 0, handle, 0));
  answer_code("vmm.map_again_elsewhere", cu.cuMemMap(va + 20 * kMiB, 20 * kMiB, 0, handle, 0));
  answer_code("vmm.map_over", cu.cuMemMap(va + 10 * kMiB, 20 * kMiB, 0, handle, 0));
  answer_code("vmm.map_offset", cu.cuMemMap(va + 40 * kMiB, 10 * kMiB, 10 * kMiB, handle, 0));
  CUmemAccessDesc access{};
  access.location = prop.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  answer("vmm.access_growth_kib", growth_kib([&] {
           answer_code("vmm.access", cu.cuMemSetAccess(va, 40 * kMiB, &access, 1));
         }));
  answer_code("vmm.retain", cu.cuMemRetainAllocationHandle(&other, reinterpret_cast<void*>(va)));
  answer("vmm.retained_same_handle", other == handle);
  answer("vmm.release1_freed_kib",
         -growth_kib([&] { answer_code("vmm.release1", cu.cuMemRelease(handle)); }));
  answer("vmm.release2_freed_kib",
         -growth_kib([&] { answer_code("vmm.release2", cu.cuMemRelease(other)); }));
  answer_code("vmm.release3", cu.cuMemRelease(handle));
  answer_code("vmm.unmap_part", cu.cuMemUnmap(va, 10 * kMiB));
  answer_code("vmm.unmap1", cu.cuMemUnmap(va, 20 * kMiB));
  answer("vmm.unmap_rest_freed_kib", -growth_kib([&] {
           answer_code("vmm.unmap_rest", cu.cuMemUnmap(va + 20 * kMiB, 30 * kMiB));
         }));
  // Released while nothing is mapped: gone at once. Exported: alive until the descriptor and the
  // import go.
  cu.cuMemCreate(&handle, 20 * kMiB, &prop, 0);
  int descriptor = -1;
  answer_code("vmm.export", cu.cuMemExportToShareableHandle(
                                &descriptor, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  answer("vmm.exported_release_freed_kib", -growth_kib([&] { cu.cuMemRelease(handle); }));
  answer_code("vmm.import_own",
              cu.cuMemImportFromShareableHandle(
                  &other, reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor)),
                  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  answer("vmm.descriptor_close_freed_kib", -growth_kib([&] { close(descriptor); }));
  answer("vmm.import_release_freed_kib", -growth_kib([&] { cu.cuMemRelease(other); }));
  cu.cuMemCreate(&handle, 20 * kMiB, &prop, 0);
  cu.cuMemExportToShareableHandle(&descriptor, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  cu.cuMemImportFromShareableHandle(&other,
                                    reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor)),
                                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  answer("vmm.import_own_same_handle", other == handle);
  close(descriptor);
  cu.cuMemRelease(handle);
  answer("vmm.import_own_second_release_freed_kib", -growth_kib([&] {
           answer_code("vmm.import_own_second_release", cu.cuMemRelease(other));
         }));
  prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
  cu.cuMemCreate(&handle, 2 * kMiB, &prop, 0);
  answer_code("vmm.export_not_requested",
              cu.cuMemExportToShareableHandle(&descriptor, handle,
                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  cu.cuMemRelease(handle);
  prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
  prop.location.id = 0;
  answer("vmm.host_growth_kib", growth_kib([&] {
           answer_code("vmm.host_create", cu.cuMemCreate(&handle, 20 * kMiB, &prop, 0));
         }));
  prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
  answer("vmm.host_numa_growth_kib", growth_kib([&] {
           answer_code("vmm.host_numa_create", cu.cuMemCreate(&handle, 20 * kMiB, &prop, 0));
         }));
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = 99;
  answer_code("vmm.device_99", cu.cuMemCreate(&handle, 20 * kMiB, &prop, 0));
}

}  // namespace conformance
