// SPDX-License-Identifier: Apache-2.0
#include "kept_pool.h"

#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gpu_client.h"

using namespace gpu_client;

namespace kept_pool {
namespace {

constexpr unsigned kThreads = 4;
constexpr int kRounds = 12;

struct Piece {
  CUdeviceptr address;
  std::size_t bytes;
};

CUmemoryPool make_pool(cuuint64_t threshold) {
  CUdevice device = 0;
  cu.cuCtxGetDevice(&device);
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  props.location.id = device;
  CUmemoryPool pool = nullptr;
  cu.cuMemPoolCreate(&pool, &props);
  cu.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold);
  return pool;
}

// One thread's pieces, in a stream of its own.
class Holder {
 public:
  explicit Holder(CUmemoryPool pool) : pool_(pool) {
    cu.cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING);
  }
  CUresult take(std::size_t bytes) {
    CUdeviceptr p = 0;
    const CUresult code = cu.cuMemAllocFromPoolAsync(&p, bytes, pool_, stream_);
    if (code == CUDA_SUCCESS) pieces_.push_back({p, bytes});
    return code;
  }
  CUresult fill(std::size_t bytes) {
    CUresult code = CUDA_SUCCESS;
    while (code == CUDA_SUCCESS) code = take(bytes);
    return code;
  }
  void free_every_second() {
    std::vector<Piece> kept;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      if (i % 2 == 0) {
        kept.push_back(pieces_[i]);
      } else {
        cu.cuMemFreeAsync(pieces_[i].address, stream_);
      }
    }
    pieces_ = std::move(kept);
  }
  void free_all() {
    for (const Piece& piece : pieces_) cu.cuMemFreeAsync(piece.address, stream_);
    pieces_.clear();
    synchronise();
  }
  void synchronise() { cu.cuStreamSynchronize(stream_); }
  // Work that ends when `may_end` says so.
  CUresult work_until(std::atomic<bool>& may_end) {
    return cu.cuLaunchHostFunc(
        stream_,
        [](void* flag) {
          while (!static_cast<std::atomic<bool>*>(flag)->load()) std::this_thread::yield();
        },
        &may_end);
  }
  // Half of what the other holds, which has to be done with it.
  void take_half_of(Holder& other) {
    const std::size_t half = other.pieces_.size() / 2;
    pieces_.insert(pieces_.end(), other.pieces_.begin() + static_cast<std::ptrdiff_t>(half),
                   other.pieces_.end());
    other.pieces_.resize(half);
  }
  std::size_t held_bytes() const {
    std::size_t sum = 0;
    for (const Piece& piece : pieces_) sum += piece.bytes;
    return sum;
  }

 private:
  CUmemoryPool pool_;
  CUstream stream_ = nullptr;
  std::vector<Piece> pieces_;
};

std::vector<Holder>& holders() {
  static std::vector<Holder> all = [] {
    const CUmemoryPool pool = make_pool(UINT64_MAX);
    std::vector<Holder> made;
    for (unsigned i = 0; i < kThreads; ++i) made.emplace_back(pool);
    return made;
  }();
  return all;
}

Holder& busy_holder() {
  static Holder holder(make_pool(0));
  return holder;
}

std::size_t odd_size(std::mt19937_64& random, std::size_t bytes) {
  return bytes / 2 + 1 + random() % bytes;
}

// Ever smaller, so that what is free at the last refusal is what nothing fitted into.
CUresult fill_with_odd(Holder& holder, std::size_t bytes, std::mt19937_64& random) {
  CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
  for (std::size_t most = bytes; most >= 4096 && code == CUDA_ERROR_OUT_OF_MEMORY; most /= 4) {
    do {
      code = holder.take(odd_size(random, most));
    } while (code == CUDA_SUCCESS);
  }
  return code;
}

// What one thread does at the limit. The code of its last refusal, which ends it if it is another
// than out of memory.
CUresult turn_over(Holder& holder, std::size_t bytes, unsigned thread) {
  std::mt19937_64 random(thread + 1);
  CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
  for (int round = 0; round < kRounds && code == CUDA_ERROR_OUT_OF_MEMORY; ++round) {
    holder.free_every_second();
    if (round % 4 == 3) holder.synchronise();
    code = fill_with_odd(holder, bytes, random);
  }
  return code;
}

CUresult turn_over_in_threads(std::size_t bytes) {
  std::vector<Holder>& all = holders();
  all[0].synchronise();
  all[1].take_half_of(all[0]);
  all[2].take_half_of(all[0]);
  all[3].take_half_of(all[1]);
  CUcontext context = nullptr;
  cu.cuCtxGetCurrent(&context);
  CUresult codes[kThreads];
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      cu.cuCtxSetCurrent(context);
      codes[i] = turn_over(all[i], bytes, i);
    });
  }
  for (std::thread& each : threads) each.join();
  for (const CUresult code : codes) {
    if (code != CUDA_ERROR_OUT_OF_MEMORY) return code;
  }
  // What one thread freed after another's last refusal is for everybody now.
  for (Holder& holder : all) holder.synchronise();
  std::mt19937_64 random;
  return fill_with_odd(all[0], bytes, random);
}

}  // namespace

CUresult take_odd(std::size_t bytes) {
  static std::mt19937_64 random;
  if (held_bytes() == 0) random.seed(1);
  const CUresult code = holders()[0].take(odd_size(random, bytes));
  return code == CUDA_ERROR_OUT_OF_MEMORY ? turn_over_in_threads(bytes) : code;
}

CUresult take_fragmented(std::size_t bytes) {
  Holder& holder = holders()[0];
  CUresult code = holder.take(bytes);
  if (code != CUDA_ERROR_OUT_OF_MEMORY) return code;
  holder.free_every_second();
  for (const std::size_t each : {bytes + bytes / 2, bytes - bytes / 4, bytes / 4}) {
    code = holder.fill(each);
    if (code != CUDA_ERROR_OUT_OF_MEMORY) return code;
  }
  return code;
}

CUresult take_busy(std::size_t bytes) {
  Holder& holder = busy_holder();
  CUresult code = holder.take(bytes);
  if (code != CUDA_ERROR_OUT_OF_MEMORY) return code;
  std::atomic<bool> may_end{false};
  code = holder.work_until(may_end);
  if (code != CUDA_SUCCESS) return code;
  holder.free_every_second();
  code = holder.fill(bytes);
  may_end = true;
  holder.synchronise();
  return code;
}

std::size_t held_bytes() {
  std::size_t sum = busy_holder().held_bytes();
  for (const Holder& holder : holders()) sum += holder.held_bytes();
  return sum;
}

void free_all() {
  busy_holder().free_all();
  for (Holder& holder : holders()) holder.free_all();
}

}  // namespace kept_pool
