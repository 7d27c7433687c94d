// SPDX-License-Identifier: Apache-2.0
#include "vgpu/pod/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "vgpu/platform/file.h"
#include "vgpu/pod/file_layout.h"

namespace vgpu::pod {
namespace {

using pod_file::Version;

static_assert(kReadBytes == offsetof(pod_file::V2, pids) &&
              kReadBytes >= offsetof(pod_file::V1, pids));

bool refuse(Why& why, std::string_view text) {
  why = Why(text);
  return false;
}

bool refuse(Why& why, std::string_view text, std::uint64_t number, std::string_view rest) {
  why = Why(text);
  why.append_number(number).append(rest);
  return false;
}

// A limit of nothing is what stands there while the file is being made.
template <class Device>
bool read_device(const Device& from, std::uint32_t index, Limits& limits, Why& why) {
  const auto uuid = GpuUuid::parse({from.uuid, ::strnlen(from.uuid, sizeof from.uuid)});
  // MIG instances, say. Whether any of its GPUs is here is seen later.
  if (!uuid.has_value() || find(limits, *uuid) != nullptr) return true;
  if (from.up_limit == 0 || from.up_limit > 100)
    return refuse(why, "device ", index, ": its up_limit isn't 1 to 100");
  if (from.mem_limit == 0 || from.mem_limit >> 63 != 0)
    return refuse(why, "device ", index, ": its mem_limit is no size");
  GpuLimits gpu{*uuid, {}};
  gpu.quota.memory_limit_bytes = from.mem_limit;
  gpu.quota.memory_source = Source::tensor_fusion;
  if (from.up_limit < 100) {
    gpu.quota.compute_share_percent = static_cast<std::uint8_t>(from.up_limit);
    gpu.quota.compute_limit_percent = gpu.quota.compute_share_percent;
    gpu.quota.policy = Policy::fixed;
    gpu.quota.compute_source = Source::tensor_fusion;
  }
  limits.gpus.push_back(gpu);  // there are fewer in a file than fit
  return true;
}

template <class Layout>
bool read_layout(std::span<const std::byte> bytes, Limits& limits, Why& why) {
  struct Devices {
    std::remove_all_extents_t<decltype(Layout::devices)> device[pod_file::kMaxDevices];
    std::uint32_t count;
  } copy;
  static_assert(offsetof(Devices, count) ==
                offsetof(Layout, device_count) - offsetof(Layout, devices));
  std::memcpy(&copy, bytes.data() + offsetof(Layout, devices), sizeof copy);
  if (copy.count > pod_file::kMaxDevices)
    return refuse(why, "it says ", copy.count, " devices, of 16 that fit");
  for (std::uint32_t i = 0; i < pod_file::kMaxDevices; ++i) {
    if (copy.device[i].is_active == 0) continue;
    if (!read_device(copy.device[i], i, limits, why)) return false;
  }
  return !limits.gpus.empty() || refuse(why, "no GPU in it is active");
}

}  // namespace

bool parse_file(std::span<const std::byte> bytes, std::size_t file_size, Limits& limits, Why& why) {
  limits = Limits();
  std::uint32_t discriminant = 0;
  if (bytes.size() >= sizeof discriminant)
    std::memcpy(&discriminant, bytes.data(), sizeof discriminant);
  const bool is_v1 = discriminant == static_cast<std::uint32_t>(Version::v1);
  const bool has_size =
      file_size == pod_file::kFileSize || (file_size == sizeof(pod_file::V1) && is_v1);
  if (!has_size) return refuse(why, "it has ", file_size, " bytes, which no such file has");
  if (bytes.size() < kReadBytes) return refuse(why, "it can't be read to the end");
  if (is_v1) return read_layout<pod_file::V1>(bytes, limits, why);
  if (discriminant == static_cast<std::uint32_t>(Version::v2))
    return read_layout<pod_file::V2>(bytes, limits, why);
  return refuse(why, "its version word is ", discriminant, "; 0 (V1) and 1 (V2) are known");
}

bool read_file(const char* path, Limits& limits, Why& why) {
  // Not blocking: whoever put a pipe there would hold us forever.
  const platform::File file(::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!file.is_open())
    return errno == ENOENT
               ? refuse(why, "there is no such file")
               : refuse(why, "can't be opened (errno ", static_cast<std::uint64_t>(errno), ")");
  struct stat facts {};
  if (::fstat(file.fd(), &facts) != 0 || !S_ISREG(facts.st_mode))
    return refuse(why, "it isn't a plain file");
  alignas(8) std::byte bytes[kReadBytes];
  const ssize_t got = ::pread(file.fd(), bytes, sizeof bytes, 0);
  return parse_file({bytes, got > 0 ? static_cast<std::size_t>(got) : 0},
                    static_cast<std::size_t>(facts.st_size), limits, why);
}

}  // namespace vgpu::pod
