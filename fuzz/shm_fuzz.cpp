// SPDX-License-Identifier: Apache-2.0
// A segment file with anything in it: opening it, reading all that it says, and working in it must
// not crash, hang or leave the mapping. With libFuzzer the input is a list of patches to a valid
// segment (most of its 1.3 MB is zeroes); without it, main() makes such lists from seeds, so that
// every build runs some (ctest: ShmFuzz).
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "segment.h"
#include "vgpu/shm/tenant.h"

namespace {

using namespace vgpu;
using namespace vgpu::shm;

// Input: a byte (divisible by 8: the file gets another length, from the next 4), then patches of a
// byte that names the part, 2 for the offset in it, 8 for the value, 1 for how many words more get
// it.
constexpr std::size_t kPatchSize = 12;

class Scratch {
 public:
  Scratch() {
    path_ = std::filesystem::temp_directory_path() / ("vgpu-fuzz-" + std::to_string(::getpid()));
    std::filesystem::create_directory(path_);
    dir_.path = FixedString<255>(path_);
    TenantSpec spec;
    spec.id = FixedString<kMaxName>("t");
    for (std::uint8_t i = 1; i <= 2; ++i) {
      TenantGpu gpu;
      gpu.uuid.bytes[0] = i;
      gpu.quota.memory_limit_bytes = 1 << 20;
      spec.gpus.push_back(gpu);
    }
    Tenant tenant;
    if (Tenant::create(dir_, spec, tenant) != Status::ok) ::abort();
    if (tenant.reserve(0, 1000) != Status::ok || tenant.share(1, 2, 0, 500) != Status::ok)
      ::abort();
    tenant.acknowledge();
    FILE* const file = ::fopen(name().c_str(), "rb");
    if (file == nullptr) ::abort();
    valid_.resize(Segment::byte_size(2));
    if (::fread(valid_.data(), 1, valid_.size(), file) != valid_.size()) ::abort();
    ::fclose(file);
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string name() const { return path_ + "/t.tenant"; }
  const StateDir& dir() const { return dir_; }
  const std::vector<std::uint8_t>& valid() const { return valid_; }

  // Only the pages that hold something: the rest of the file is a hole, which reads as zeroes.
  void write(const std::vector<std::uint8_t>& bytes) const {
    // A new file each time: the last one may still be mapped.
    ::unlink(name().c_str());
    const int fd = ::open(name().c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes.size())) != 0) ::abort();
    static constexpr std::array<std::uint8_t, 4096> kZeroes{};
    for (std::size_t at = 0; at < bytes.size(); at += kZeroes.size()) {
      const std::size_t size = std::min(kZeroes.size(), bytes.size() - at);
      if (std::memcmp(bytes.data() + at, kZeroes.data(), size) == 0) continue;
      if (::pwrite(fd, bytes.data() + at, size, static_cast<off_t>(at)) !=
          static_cast<ssize_t>(size))
        ::abort();
    }
    ::close(fd);
  }

 private:
  std::string path_;
  StateDir dir_;
  std::vector<std::uint8_t> valid_;
};

void read_everything(const Tenant& tenant) {
  const TenantSpec spec = tenant.spec();
  for (std::uint32_t gpu = 0; gpu <= tenant.gpu_count(); ++gpu) {
    (void)tenant.memory_limit_bytes(gpu);
    (void)tenant.charged_bytes(gpu);
    (void)tenant.own_charged_bytes(gpu);
    (void)tenant.denied_count(gpu);
    std::uint64_t high = 0, low = 0;
    (void)tenant.find_shared_by_size(gpu, 500, high, low);
  }
  for (const TenantGpu& gpu : spec.gpus) (void)tenant.gpu_position(gpu.uuid);
  static std::array<ProcessView, kMaxSlots> views;
  const std::size_t count = tenant.processes(views);
  for (std::size_t i = 0; i < count; ++i)
    (void)tenant.has_acknowledged(views[i].pid, views[i].start_time_ticks);
  (void)tenant.has_acknowledged(::getpid(), 1);
}

void work_in_it(Tenant& tenant) {
  if (tenant.join() != Status::ok) return;
  for (std::uint32_t gpu = 0; gpu < tenant.gpu_count(); ++gpu) {
    if (tenant.reserve(gpu, 4096) == Status::ok) tenant.release(gpu, 4096);
    (void)tenant.reserve(gpu, UINT64_MAX);
    tenant.charge(gpu, 10);
    tenant.release(gpu, UINT64_MAX);
  }
  (void)tenant.share(3, 4, 0, 10);
  std::uint64_t bytes = 0;
  (void)tenant.hold_shared(1, 2, bytes);
  tenant.release_shared(1, 2);
  tenant.release_shared(3, 4);
  (void)tenant.reap();
  tenant.acknowledge();
  tenant.leave();
}

std::size_t place(std::uint8_t part, std::uint16_t offset) {
  alignas(kCacheLine) static std::byte nowhere[1];
  const Segment segment(nowhere, 2);
  const auto in = [offset](const void* start, std::size_t size) {
    return static_cast<std::size_t>(static_cast<const std::byte*>(start) - nowhere) + offset % size;
  };
  const std::uint32_t few = part / 8 % 3;
  switch (part % 8) {
    case 0:
      return in(&segment.header(), 320);
    case 1:
      return in(&segment.header().slot_high_water, 16);
    case 2:
      return in(&segment.gpu(0), 2 * sizeof(GpuRecord));
    case 3:
      return in(&segment.owner(few), sizeof(Word));
    case 4:
      return in(&segment.identity(few), sizeof(SlotIdentity));
    case 5:
      return in(&segment.line(few % 2, few), sizeof(ChargeLine));
    case 6:
      return in(&segment.object(few), sizeof(SharedObject));
    default:
      return in(&segment.held(few), sizeof(HeldObjects));
  }
}

void patch(std::vector<std::uint8_t>& bytes, const std::uint8_t* data, std::size_t size) {
  for (; size >= kPatchSize; data += kPatchSize, size -= kPatchSize) {
    std::uint16_t offset = 0;
    std::memcpy(&offset, data + 1, 2);
    for (std::size_t i = 0; i <= data[11]; ++i) {
      const std::size_t at = (place(data[0], offset) + 8 * i) % (bytes.size() - 8);
      std::memcpy(bytes.data() + at, data + 3, 8);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Scratch scratch;
  if (size == 0) return 0;
  std::vector<std::uint8_t> bytes = scratch.valid();
  // One in eight also has another length.
  if (data[0] % 8 == 0 && size > 5) {
    std::uint32_t length = 0;
    std::memcpy(&length, data + 1, 4);
    bytes.resize(length % (2 * bytes.size()) + 16);
  }
  patch(bytes, data + 1, size - 1);
  scratch.write(bytes);
  Tenant tenant;
  if (Tenant::open(scratch.dir(), "t", tenant) == Status::ok) {
    read_everything(tenant);
    work_in_it(tenant);
    read_everything(tenant);
  }
  (void)Tenant::remove(scratch.dir(), "t");
  return 0;
}
