// SPDX-License-Identifier: Apache-2.0
// A mapped segment: where its parts are, and their bounds. Everything that is reached through here
// lies inside the mapping whatever the file says, because offsets follow from a GPU count that was
// checked once, at open.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "layout.h"
#include "vgpu/platform/file.h"

namespace vgpu::shm {

class Segment {
 public:
  Segment() = default;
  Segment(void* base, std::uint32_t gpu_count)
      : base_(static_cast<std::byte*>(base)), gpu_count_(gpu_count) {}

  static constexpr std::size_t byte_size(std::uint32_t gpu_count) {
    return acknowledgements_at(gpu_count) + kAcknowledgementRows * sizeof(AcknowledgementRow);
  }

  std::uint32_t gpu_count() const { return gpu_count_; }
  Header& header() const { return at<Header>(0); }
  GpuRecord& gpu(std::uint32_t gpu) const {
    return at<GpuRecord>(sizeof(Header) + gpu * sizeof(GpuRecord));
  }
  Word& owner(std::uint32_t slot) const {
    return at<Word>(owners_at(gpu_count_) + slot * sizeof(Word));
  }
  SlotIdentity& identity(std::uint32_t slot) const {
    return at<SlotIdentity>(identities_at(gpu_count_) + slot * sizeof(SlotIdentity));
  }
  HeldObjects& held(std::uint32_t slot) const {
    return at<HeldObjects>(held_at(gpu_count_) + slot * sizeof(HeldObjects));
  }
  ChargeLine& line(std::uint32_t gpu, std::uint32_t slot) const {
    return at<ChargeLine>(lines_at(gpu_count_) +
                          (std::size_t{gpu} * kMaxSlots + slot) * sizeof(ChargeLine));
  }
  SharedObject& object(std::uint32_t object) const {
    return at<SharedObject>(objects_at(gpu_count_) + object * sizeof(SharedObject));
  }
  AcknowledgementRow& acknowledgements(std::uint32_t row) const {
    return at<AcknowledgementRow>(acknowledgements_at(gpu_count_) +
                                  row * sizeof(AcknowledgementRow));
  }

  std::uint32_t slots() const { return std::min(header().slot_high_water.load(), kMaxSlots); }
  std::uint32_t objects() const { return std::min(header().object_high_water.load(), kMaxObjects); }
  bool is_live(std::uint32_t slot) const {
    return Owner::unpack(owner(slot).load()).state == SlotState::live;
  }
  std::uint64_t memory_limit_bytes(std::uint32_t gpu_index) const {
    // Relaxed: a limit stands alone; nothing else is published with it.
    return gpu(gpu_index).memory_limit_bytes.load(std::memory_order_relaxed);
  }
  void count_anomaly() const { header().anomalies.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr std::size_t owners_at(std::uint32_t gpus) {
    return sizeof(Header) + gpus * sizeof(GpuRecord);
  }
  static constexpr std::size_t identities_at(std::uint32_t gpus) {
    return owners_at(gpus) + kMaxSlots * sizeof(Word);
  }
  static constexpr std::size_t held_at(std::uint32_t gpus) {
    return identities_at(gpus) + kMaxSlots * sizeof(SlotIdentity);
  }
  static constexpr std::size_t lines_at(std::uint32_t gpus) {
    return held_at(gpus) + kMaxSlots * sizeof(HeldObjects);
  }
  static constexpr std::size_t objects_at(std::uint32_t gpus) {
    return lines_at(gpus) + std::size_t{gpus} * kMaxSlots * sizeof(ChargeLine);
  }
  static constexpr std::size_t acknowledgements_at(std::uint32_t gpus) {
    return objects_at(gpus) + kMaxObjects * sizeof(SharedObject);
  }
  template <class T>
  T& at(std::size_t offset) const {
    return *reinterpret_cast<T*>(base_ + offset);
  }

  std::byte* base_ = nullptr;
  std::uint32_t gpu_count_ = 0;
};

using SegmentPath = FixedString<511>;

// Segment files. A new one has no name yet (`temporary`: nobody looks at that), link_name() gives
// it one, 0 or -1 with errno. open_own_regular_file(): only a plain file of the directory's
// owner; else
// `status` says why not. unlink_if_same() takes a name away if it still leads to this file.
platform::File new_file(const StateDir& dir, SegmentPath& temporary);
int link_name(const platform::File& file, const SegmentPath& temporary, const SegmentPath& path);
platform::File open_own_regular_file(const StateDir& dir, const SegmentPath& path,
                                     std::size_t& size, Status& status, int access = O_RDWR);
void unlink_if_same(const platform::File& file, const SegmentPath& path);

// Letters, digits, '.', '_', '-'; not hidden: an id is also a file name.
bool is_valid_id(std::string_view id);
SegmentPath segment_path(const StateDir& dir, std::string_view id);

struct Mapped {
  Segment segment;
  void* base = nullptr;
  std::size_t byte_size = 0;
  platform::File file;
};

// A new segment with the spec's contents, ready but under no name yet.
Status build_segment(platform::File file, const TenantSpec& spec, Mapped& out);
Status publish_segment(const StateDir& dir, const TenantSpec& spec, Mapped& out);
// Maps and checks what is under the name.
Status open_segment(const StateDir& dir, std::string_view id, Mapped& out);
// Checks a mapping whose size is known to be real.
Status check_segment(const void* base, std::size_t size, std::string_view id,
                     std::uint32_t& gpu_count);
Status remove_segment(const StateDir& dir, std::string_view id);

}  // namespace vgpu::shm
