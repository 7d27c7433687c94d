// SPDX-License-Identifier: Apache-2.0
// The shared file of the simulated GPUs: configuration, slots of processes, charging and time
// slices. Life of the file: whoever attaches holds a read lock (open file description lock) on the
// attach byte; the first one, who can have it for writing, sets everything up afresh. Slots are
// claimed by a write lock on the slot's own byte of another file (slots.N), which the kernel takes
// back when the last copy of the descriptor closes: that is the death of a process, and needs no
// cooperation. Counters change under a robust mutex per device; if its owner died inside, the sums
// are taken again from the slots.
#include "vgpu/sim/device_state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

namespace vgpu::sim {
namespace {

constexpr std::uint64_t kMagic = 0x55504773694d7667;  // "gvMisGPU"
constexpr std::uint32_t kVersion = 3;
constexpr off_t kAttachByte = off_t{1} << 40;
constexpr std::size_t kWords = kMaxProcesses / 64;
constexpr std::size_t kMaxShares = 1024;  // a device

struct alignas(64)
    SlotUse {  // one process on one device; under the device's mutex, except seen_ns and busy_ns
  std::uint64_t visible_bytes;
  std::uint64_t hidden_bytes;
  std::uint64_t most_bytes;  // the two together at their highest
  std::atomic<std::uint64_t> busy_ns;
  std::atomic<std::uint64_t> seen_ns;
  std::uint64_t turn_ended_ns;  // when the turn that was taken away ended
  std::uint64_t work_ns;        // device time that its work needs at the most, as of
  std::uint64_t asked_ns;       // when it last asked, less the turns that others have ended since
  std::uint32_t has_context;
};

struct alignas(64) Slot {
  std::atomic<std::uint32_t>
      claimed;  // stored last by the claimant, so that a reader sees the rest
  std::uint32_t pid;
  std::uint64_t start_time;
  std::uint32_t wake_word;
  SlotUse use[kMaxDevices];
};

struct Share {  // under its device's mutex; number 0: free
  std::uint64_t number;
  std::uint64_t bytes;
  std::uint32_t charged;  // slot
  std::uint64_t holders[kWords];
};

struct alignas(64) SharedDevice {
  pthread_mutex_t
      mutex;  // robust, process-shared; guards what follows and the SlotUse of this device
  std::uint64_t used_bytes;
  std::uint64_t most_used_bytes;
  std::uint64_t dead_busy_ns;
  // Turns.
  std::uint32_t holder;       // slot that may run, or kNobody
  std::uint32_t last_holder;  // a switch costs nothing if it comes back
  std::uint64_t turn_start_ns;
  std::uint64_t turn_end_ns;
  std::uint64_t free_since_ns;    // when the last turn was given up
  std::uint64_t waiting[kWords];  // slots with work, the holder included
  std::uint32_t waiting_count;
  std::uint32_t shares_used;  // shares below it were in use at some time
  Share shares[kMaxShares];
  // Configuration; written while nobody else is attached.
  std::uint32_t model;
  std::uint64_t nvml_total_bytes;
  std::uint64_t reserved_bytes;
  std::uint8_t uuid[16];
};

std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

bool lock_byte(int fd, off_t at, short type, bool wait) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  int rc = 0;
  do {
    rc = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
  } while (rc != 0 && errno == EINTR);
  return rc == 0;
}

// True if some other open file description has the byte locked.
bool byte_is_locked(int fd, off_t at) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

std::uint64_t start_time_of_self() {
  std::FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) return 0;
  char text[1024];
  const std::size_t size = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[size] = 0;
  const char* at = std::strrchr(text, ')');  // the command may hold blanks and parentheses
  if (at == nullptr) return 0;
  at += 2;
  for (int field = 3; field < 22 && at != nullptr; ++field) {
    at = std::strchr(at, ' ');
    if (at != nullptr) ++at;
  }
  return at == nullptr ? 0 : std::strtoull(at, nullptr, 10);
}

bool parse_size(std::string_view text, std::uint64_t& bytes) {
  std::size_t at = 0;
  std::uint64_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    if (value > (std::uint64_t{1} << 50)) return false;
    value = value * 10 + static_cast<std::uint64_t>(text[at++] - '0');
  }
  if (at == 0) return false;
  std::string_view unit = text.substr(at);
  if (!unit.empty() && (unit.back() == 'B' || unit.back() == 'b')) unit.remove_suffix(1);
  if (!unit.empty() && unit.size() == 2 && unit.back() == 'i') unit.remove_suffix(1);
  unsigned shift = 0;
  if (!unit.empty()) {
    if (unit.size() != 1) return false;
    switch (unit[0] | 0x20) {
      case 'k':
        shift = 10;
        break;
      case 'm':
        shift = 20;
        break;
      case 'g':
        shift = 30;
        break;
      case 't':
        shift = 40;
        break;
      default:
        return false;
    }
  }
  if (value > ((std::uint64_t{1} << 50) >> shift)) return false;
  bytes = value << shift;
  return true;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t from = 0;;) {
    const std::size_t to = text.find(separator, from);
    parts.push_back(text.substr(from, to == std::string_view::npos ? to : to - from));
    if (to == std::string_view::npos) return parts;
    from = to + 1;
  }
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return true;
  const std::size_t slash = path.find_last_of('/');
  if (errno != ENOENT || slash == std::string::npos || slash == 0) return false;
  return make_folder(path.substr(0, slash)) && (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST);
}

}  // namespace

struct DeviceStateLayout {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t bytes;
  std::uint64_t config_hash;
  std::uint32_t device_count;
  std::uint32_t slots_used;  // slots below it were claimed at some time; under claim_mutex
  pthread_mutex_t claim_mutex;
  SharedDevice devices[kMaxDevices];
  Slot slots[kMaxProcesses];
};

// Holds a device's mutex. If its last owner died with it, the sums are made anew before anybody
// relies on them.
class DeviceState::Lock {
 public:
  Lock(DeviceState& state, int device) : mutex_(&state.shared_->devices[device].mutex) {
    if (pthread_mutex_lock(mutex_) == EOWNERDEAD) {
      pthread_mutex_consistent(mutex_);
      state.recompute_locked(device);
    }
  }
  ~Lock() { pthread_mutex_unlock(mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t* mutex_;
};

std::string DeviceInfo::pci_bus_id() const {
  char text[32];
  std::snprintf(text, sizeof text, "%08X:%02X:%02X.0", pci_domain, pci_bus, pci_device);
  return text;
}

std::optional<std::vector<const GpuModel*>> parse_devices(std::string_view text, std::string& why) {
  std::vector<const GpuModel*> models;
  for (const std::string_view part : split(text, ',')) {
    const std::size_t colon = part.find(':');
    const std::string_view key = part.substr(0, colon);
    std::uint64_t count = 1;
    if (colon != std::string_view::npos &&
        (!parse_size(part.substr(colon + 1), count) || count == 0)) {
      why = "VGPU_SIM_DEVICES: \"" + std::string(part) +
            "\" has no count of devices behind the colon";
      return std::nullopt;
    }
    const auto model = std::find_if(kModels.begin(), kModels.end(),
                                    [&](const GpuModel& m) { return m.key == key; });
    if (model == kModels.end()) {
      why = "VGPU_SIM_DEVICES: \"" + std::string(key) + "\" is no model; there are";
      for (const GpuModel& known : kModels) why += " " + std::string(known.key);
      return std::nullopt;
    }
    if (count > kMaxDevices - models.size()) {
      why = "VGPU_SIM_DEVICES: more than " + std::to_string(kMaxDevices) + " devices";
      return std::nullopt;
    }
    models.insert(models.end(), count, &*model);
  }
  return models;
}

std::uint64_t DeviceState::now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(time.tv_nsec);
}

DeviceState* DeviceState::instance() {
  static std::mutex mutex;
  static DeviceState* state = nullptr;
  static bool said = false;
  const std::lock_guard guard(mutex);
  if (state == nullptr) {
    std::string why;
    state = open(why);
    if (state == nullptr && !std::exchange(said, true))
      std::fprintf(stderr, "vgpu simulated GPU: %s\n", why.c_str());
  }
  return state;
}

DeviceState* DeviceState::open(std::string& why) {
  auto* state = new DeviceState;
  if (state->attach(why)) return state;
  if (state->shared_ != nullptr) munmap(state->shared_, sizeof(DeviceStateLayout));
  if (state->fd_ >= 0) close(state->fd_);
  delete state;
  return nullptr;
}

bool DeviceState::attach(std::string& why) {
  const std::string devices_text = environment("VGPU_SIM_DEVICES");
  const std::string memory_text = environment("VGPU_SIM_MEMORY");
  const auto models = parse_devices(devices_text.empty() ? kDefaultDevices : devices_text, why);
  if (!models) return false;
  std::vector<std::pair<const GpuModel*, std::uint64_t>> config;
  for (const GpuModel* model : *models) config.emplace_back(model, model->nvml_total_bytes);
  if (!memory_text.empty()) {
    const auto sizes = split(memory_text, ',');
    if (sizes.size() != 1 && sizes.size() != config.size()) {
      why =
          "VGPU_SIM_MEMORY: \"" + memory_text + "\" names neither one size nor one for each device";
      return false;
    }
    for (std::size_t i = 0; i < config.size(); ++i) {
      std::uint64_t bytes = 0;
      if (!parse_size(sizes[sizes.size() == 1 ? 0 : i], bytes) || bytes < kGiB) {
        why =
            "VGPU_SIM_MEMORY: \"" + memory_text + "\" is not a size of at least 1GiB, as in 16GiB";
        return false;
      }
      config[i].second = bytes / kPageBytes * kPageBytes;
    }
  }
  std::uint64_t hash = kVersion;
  for (const auto& [model, bytes] : config) {
    hash = mix(hash ^ bytes);
    for (const char c : model->key) hash = mix(hash ^ static_cast<unsigned char>(c));
  }

  folder_ = environment("VGPU_SIM_STATE");
  if (folder_.empty()) folder_ = "/dev/shm/vgpu-sim-" + std::to_string(getuid());
  if (!make_folder(folder_)) {
    why =
        "can't make the folder " + folder_ + ": " + std::strerror(errno) + " (set VGPU_SIM_STATE)";
    return false;
  }
  const std::string path = folder_ + "/devices";
  fd_ = open_file(path);
  if (fd_ < 0) {
    why = "can't open " + path + ": " + std::strerror(errno) + " (set VGPU_SIM_STATE)";
    return false;
  }
  // Alone: set up afresh, whatever an earlier run left. Not alone: the file is good once the
  // reader's lock is granted.
  for (int attempt = 0; attempt < 100; ++attempt) {
    const bool alone = lock_byte(fd_, kAttachByte, F_WRLCK, false);
    if (!alone && !lock_byte(fd_, kAttachByte, F_RDLCK, true)) break;
    if (alone && ftruncate(fd_, sizeof(DeviceStateLayout)) != 0) break;
    struct stat file {};
    if (fstat(fd_, &file) != 0) break;
    if (static_cast<std::size_t>(file.st_size) <
        sizeof(DeviceStateLayout)) {  // its maker died; try to be alone
      lock_byte(fd_, kAttachByte, F_UNLCK, false);
      continue;
    }
    if (shared_ == nullptr) {
      void* place =
          mmap(nullptr, sizeof(DeviceStateLayout), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
      if (place == MAP_FAILED) break;
      shared_ = static_cast<DeviceStateLayout*>(place);
    }
    if (alone) {
      initialise(config, hash);
      lock_byte(fd_, kAttachByte, F_RDLCK, false);
    } else if (shared_->magic != kMagic) {
      lock_byte(fd_, kAttachByte, F_UNLCK, false);
      continue;
    }
    if (shared_->version != kVersion || shared_->bytes != sizeof(DeviceStateLayout)) {
      why = path + " belongs to another version of the simulated GPU, which is still in use";
      return false;
    }
    if (shared_->config_hash != hash && !(devices_text.empty() && memory_text.empty())) {
      std::fprintf(stderr,
                   "vgpu simulated GPU: %s is in use with other devices than VGPU_SIM_DEVICES asks "
                   "for; kept\n",
                   path.c_str());
    }
    read_devices();
    return true;
  }
  why = "can't set up " + path + ": " + std::strerror(errno);
  return false;
}

void DeviceState::initialise(const std::vector<std::pair<const GpuModel*, std::uint64_t>>& config,
                             std::uint64_t config_hash) {
  std::memset(static_cast<void*>(shared_), 0, sizeof *shared_);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&shared_->claim_mutex, &attributes);
  for (std::size_t i = 0; i < kMaxDevices; ++i) {
    SharedDevice& device = shared_->devices[i];
    pthread_mutex_init(&device.mutex, &attributes);
    device.holder = kNobody;
    device.last_holder = kNobody;
    if (i >= config.size()) continue;
    const auto& [model, bytes] = config[i];
    device.model = static_cast<std::uint32_t>(model - kModels.data());
    device.nvml_total_bytes = bytes;
    device.reserved_bytes =
        bytes == model->nvml_total_bytes
            ? model->reserved_bytes
            : std::min(model->reserved_bytes, bytes / 32 / kPageBytes * kPageBytes);
    for (std::size_t half = 0; half < 2;
         ++half) {  // the same device in the same place always has the same name
      const std::uint64_t bits = mix(mix(i * 2 + half + 1) ^ mix(device.model + 77));
      std::memcpy(device.uuid + half * 8, &bits, 8);
    }
  }
  pthread_mutexattr_destroy(&attributes);
  shared_->version = kVersion;
  shared_->bytes = sizeof *shared_;
  shared_->config_hash = config_hash;
  shared_->device_count = static_cast<std::uint32_t>(config.size());
  std::atomic_ref(shared_->magic).store(kMagic, std::memory_order_release);
}

void DeviceState::read_devices() {
  for (std::uint32_t i = 0; i < shared_->device_count && i < kMaxDevices; ++i) {
    const SharedDevice& shared = shared_->devices[i];
    DeviceInfo info;
    info.index = static_cast<int>(i);
    info.model = &kModels[std::min<std::size_t>(shared.model, kModels.size() - 1)];
    std::copy(std::begin(shared.uuid), std::end(shared.uuid), info.uuid.bytes.begin());
    info.nvml_total_bytes = shared.nvml_total_bytes;
    info.reserved_bytes = shared.reserved_bytes;
    info.cuda_total_bytes = shared.nvml_total_bytes - shared.reserved_bytes;
    info.pci_bus = 0x18 + 0x0d * i;
    devices_.push_back(info);
  }
  const auto order = cuda_order(false);
  for (std::size_t ordinal = 0; ordinal < order.size(); ++ordinal) {
    devices_[static_cast<std::size_t>(order[ordinal])].cuda_ordinal = static_cast<int>(ordinal);
  }
}

std::vector<int> DeviceState::cuda_order(bool by_pci) const {
  std::vector<int> order(devices_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  if (!by_pci) {
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return devices_[static_cast<std::size_t>(a)].model->speed >
             devices_[static_cast<std::size_t>(b)].model->speed;
    });
  }
  return order;
}

bool DeviceState::alive(std::uint32_t slot) const {
  return slot == slot_ || byte_is_locked(slot_file(slot), static_cast<off_t>(slot));
}

// First as it is: a sticky folder lets nobody create what is another's. -1: it can't be had.
int DeviceState::open_file(const std::string& path) const {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat folder {};
  // Who may write into the folder may use its GPUs, as /dev/nvidia0 is everybody's.
  if (fd >= 0 && stat(folder_.c_str(), &folder) == 0 && (folder.st_mode & S_IWOTH) != 0)
    (void)fchmod(fd, 0666);
  return fd;
}

std::string DeviceState::slot_path(std::uint32_t slot) const {
  return folder_ + "/slots." + std::to_string(slot / kSlotsAFile);
}

int DeviceState::slot_file(std::uint32_t slot) const {
  std::atomic<int>& known = slot_files_[slot / kSlotsAFile];
  int file = known.load(std::memory_order_acquire);
  if (file > 0) return file - 1;
  const int opened = open_file(slot_path(slot));
  if (opened < 0 || known.compare_exchange_strong(file, opened + 1)) return opened;
  close(opened);  // another thread was first
  return file - 1;
}

// Through a description of its own: one that a fork has shared wouldn't find the other's lock.
std::uint32_t DeviceState::lock_free_slot() {
  for (std::uint32_t first = 0; first < kMaxProcesses; first += kSlotsAFile) {
    const int fd = open_file(slot_path(first));
    if (fd < 0) return kNobody;
    for (std::uint32_t slot = first; slot < first + kSlotsAFile; ++slot) {
      if (!lock_byte(fd, static_cast<off_t>(slot), F_WRLCK, false)) continue;
      claim_fd_ = fd;
      return slot;
    }
    close(fd);
  }
  return kNobody;
}

bool DeviceState::claim() {
  if (slot_ != kNobody) return true;
  if (pthread_mutex_lock(&shared_->claim_mutex) == EOWNERDEAD)
    pthread_mutex_consistent(&shared_->claim_mutex);
  const std::uint32_t slot = lock_free_slot();
  if (slot < kMaxProcesses) {
    for (std::size_t device = 0; device < devices_.size();
         ++device) {  // whoever had it is dead: its sums go first
      const Lock lock(*this, static_cast<int>(device));
      SharedDevice& shared = shared_->devices[device];
      SlotUse& use = shared_->slots[slot].use[device];
      leave_shares_locked(static_cast<int>(device), slot);
      shared.used_bytes -= use.visible_bytes + use.hidden_bytes;
      shared.dead_busy_ns += use.busy_ns.load(std::memory_order_relaxed);
      std::memset(static_cast<void*>(&use), 0, sizeof use);
      if (shared.waiting[slot / 64] & (1ull << (slot % 64))) {
        shared.waiting[slot / 64] &= ~(1ull << (slot % 64));
        --shared.waiting_count;
      }
      if (shared.holder == slot)
        pass_turn_locked(static_cast<int>(device), now_ns(), kPreemptSwitchNs);
      if (shared.last_holder == slot) shared.last_holder = kNobody;
    }
    Slot& own = shared_->slots[slot];
    own.pid = static_cast<std::uint32_t>(getpid());
    own.start_time = start_time_of_self();
    own.claimed.store(1, std::memory_order_release);  // pairs with the acquire in look()
    shared_->slots_used = std::max(shared_->slots_used, slot + 1);
    slot_ = slot;
  }
  pthread_mutex_unlock(&shared_->claim_mutex);
  return slot_ != kNobody;
}

// Takes the sums of a device again from its slots: somebody died between two of their changes.
void DeviceState::recompute_locked(int device) {
  SharedDevice& shared = shared_->devices[device];
  shared.used_bytes = 0;
  shared.waiting_count = 0;
  for (std::uint32_t slot = 0; slot < shared_->slots_used; ++slot) {
    const SlotUse& use = shared_->slots[slot].use[device];
    shared.used_bytes += use.visible_bytes + use.hidden_bytes;
  }
  for (const std::uint64_t word : shared.waiting)
    shared.waiting_count += static_cast<std::uint32_t>(std::popcount(word));
}

void DeviceState::drop_dead_locked(int device) {
  SharedDevice& shared = shared_->devices[device];
  for (std::uint32_t slot = 0; slot < shared_->slots_used; ++slot) {
    SlotUse& use = shared_->slots[slot].use[device];
    const bool waits = (shared.waiting[slot / 64] >> (slot % 64)) & 1;
    if (use.has_context == 0 && use.visible_bytes == 0 && use.hidden_bytes == 0 && !waits) continue;
    if (alive(slot)) continue;
    leave_shares_locked(device, slot);
    shared.used_bytes -= use.visible_bytes + use.hidden_bytes;
    shared.dead_busy_ns += use.busy_ns.load(std::memory_order_relaxed);
    std::memset(static_cast<void*>(&use), 0, sizeof use);
    if (waits) {
      shared.waiting[slot / 64] &= ~(1ull << (slot % 64));
      --shared.waiting_count;
    }
    if (shared.holder == slot) pass_turn_locked(device, now_ns(), kPreemptSwitchNs);
  }
}

// A slot holds nothing that is shared any more. What it was charged for goes to another holder that
// lives.
void DeviceState::leave_shares_locked(int device, std::uint32_t slot) {
  SharedDevice& shared = shared_->devices[device];
  const std::uint64_t bit = 1ull << (slot % 64);
  for (std::uint32_t i = 0; i < shared.shares_used; ++i) {
    Share& share = shared.shares[i];
    if (share.number == 0 || (share.holders[slot / 64] & bit) == 0) continue;
    share.holders[slot / 64] &= ~bit;
    if (share.charged != slot) continue;
    share.charged = kNobody;
    for (std::uint32_t other = 0; other < shared_->slots_used && share.charged == kNobody;
         ++other) {
      if (((share.holders[other / 64] >> (other % 64)) & 1) != 0 && alive(other))
        share.charged = other;
    }
    if (share.charged == kNobody) {
      share.number = 0;
      continue;
    }
    shared_->slots[slot].use[device].visible_bytes -= share.bytes;
    shared_->slots[share.charged].use[device].visible_bytes += share.bytes;
  }
}

bool DeviceState::share(int device, std::uint64_t number, std::uint64_t bytes) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  std::uint32_t at = 0;
  while (at < shared.shares_used && shared.shares[at].number != 0) ++at;
  if (at == kMaxShares) return false;
  shared.shares_used = std::max(shared.shares_used, at + 1);
  Share& share = shared.shares[at];
  share = {number, bytes, slot_, {}};
  share.holders[slot_ / 64] = 1ull << (slot_ % 64);
  return true;
}

bool DeviceState::join(int device, std::uint64_t number) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  drop_dead_locked(device);
  for (std::uint32_t i = 0; i < shared.shares_used; ++i) {
    Share& share = shared.shares[i];
    if (share.number != number) continue;
    share.holders[slot_ / 64] |= 1ull << (slot_ % 64);
    return true;
  }
  return false;
}

bool DeviceState::leave(int device, std::uint64_t number) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  drop_dead_locked(device);
  for (std::uint32_t i = 0; i < shared.shares_used; ++i) {
    Share& share = shared.shares[i];
    if (share.number != number) continue;
    share.holders[slot_ / 64] &= ~(1ull << (slot_ % 64));
    if (share.charged != slot_) return false;
    for (std::uint32_t other = 0; other < shared_->slots_used; ++other) {
      if (((share.holders[other / 64] >> (other % 64)) & 1) == 0) continue;
      share.charged = other;
      shared_->slots[slot_].use[device].visible_bytes -= share.bytes;
      shared_->slots[other].use[device].visible_bytes += share.bytes;
      return false;
    }
    share.number = 0;
    return true;
  }
  return true;
}

// After this process took something.
void DeviceState::note_most_locked(int device) {
  SharedDevice& shared = shared_->devices[device];
  SlotUse& use = shared_->slots[slot_].use[device];
  use.most_bytes = std::max(use.most_bytes, use.visible_bytes + use.hidden_bytes);
  shared.most_used_bytes = std::max(shared.most_used_bytes, shared.used_bytes);
}

void DeviceState::forget_most(int device) {
  const Lock lock(*this, device);
  drop_dead_locked(device);
  SharedDevice& shared = shared_->devices[device];
  shared.most_used_bytes = shared.used_bytes;
  for (std::uint32_t slot = 0; slot < shared_->slots_used; ++slot) {
    SlotUse& use = shared_->slots[slot].use[device];
    use.most_bytes = use.visible_bytes + use.hidden_bytes;
  }
}

DeviceUse DeviceState::look(int device) {
  DeviceUse seen;
  const Lock lock(*this, device);
  drop_dead_locked(device);
  const SharedDevice& shared = shared_->devices[device];
  seen.used_bytes = shared.used_bytes;
  seen.most_used_bytes = shared.most_used_bytes;
  seen.busy_ns = shared.dead_busy_ns;
  for (std::uint32_t slot = 0; slot < shared_->slots_used; ++slot) {
    const Slot& other = shared_->slots[slot];
    const SlotUse& use = other.use[device];
    seen.busy_ns += use.busy_ns.load(std::memory_order_relaxed);
    if (other.claimed.load(std::memory_order_acquire) == 0 || use.has_context == 0) continue;
    seen.processes.push_back({static_cast<pid_t>(other.pid), other.start_time, use.visible_bytes,
                              use.hidden_bytes, use.most_bytes,
                              use.busy_ns.load(std::memory_order_relaxed),
                              use.seen_ns.load(std::memory_order_relaxed)});
  }
  return seen;
}

std::uint64_t DeviceState::used_bytes(int device) {
  const Lock lock(*this, device);
  drop_dead_locked(device);
  return shared_->devices[device].used_bytes;
}

void DeviceState::set_context(int device, bool present) {
  const Lock lock(*this, device);
  SlotUse& use = shared_->slots[slot_].use[device];
  // With its first context a process takes a little that no figure of its own shows.
  if (present && use.has_context == 0) {
    use.hidden_bytes += kUnshownProcessBytes;
    shared_->devices[device].used_bytes += kUnshownProcessBytes;
  } else if (!present && use.has_context != 0) {
    use.hidden_bytes -= kUnshownProcessBytes;
    shared_->devices[device].used_bytes -= kUnshownProcessBytes;
  }
  use.has_context = present ? 1 : 0;
  note_most_locked(device);
  use.seen_ns.store(now_ns(), std::memory_order_relaxed);
}

bool DeviceState::take(int device, std::uint64_t bytes) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  const std::uint64_t total = devices_[static_cast<std::size_t>(device)].cuda_total_bytes;
  if (bytes > total) return false;
  if (shared.used_bytes > total - bytes) drop_dead_locked(device);
  if (shared.used_bytes > total - bytes) return false;
  // The slot first: a death in between is repaired from the slots, and this one is then dead as
  // well.
  shared_->slots[slot_].use[device].visible_bytes += bytes;
  shared.used_bytes += bytes;
  note_most_locked(device);
  return true;
}

void DeviceState::give(int device, std::uint64_t bytes) {
  const Lock lock(*this, device);
  shared_->slots[slot_].use[device].visible_bytes -= bytes;
  shared_->devices[device].used_bytes -= bytes;
}

std::uint64_t DeviceState::take_hidden(int device, std::uint64_t bytes) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  const std::uint64_t total = devices_[static_cast<std::size_t>(device)].cuda_total_bytes;
  if (shared.used_bytes + bytes > total) drop_dead_locked(device);
  bytes = std::min(bytes, total - std::min(total, shared.used_bytes));
  shared_->slots[slot_].use[device].hidden_bytes += bytes;
  shared.used_bytes += bytes;
  note_most_locked(device);
  return bytes;
}

void DeviceState::give_hidden(int device, std::uint64_t bytes) {
  const Lock lock(*this, device);
  shared_->slots[slot_].use[device].hidden_bytes -= bytes;
  shared_->devices[device].used_bytes -= bytes;
}

void DeviceState::add_busy(int device, std::uint64_t ns) {
  SlotUse& use = shared_->slots[slot_].use[device];
  use.busy_ns.fetch_add(ns, std::memory_order_relaxed);  // a counter that others only show
  use.seen_ns.store(now_ns(), std::memory_order_relaxed);
}

// A process that doesn't say any more what it does may be stopped; its work is done without it.
void DeviceState::take_off_work_locked(int device, std::uint32_t slot, std::uint64_t at_ns) {
  constexpr std::uint64_t kSilentNs = 20'000'000;
  SharedDevice& shared = shared_->devices[device];
  SlotUse& use = shared_->slots[slot].use[device];
  const std::uint64_t from = std::max(shared.turn_start_ns, use.asked_ns);
  if (use.work_ns != kNeverEnds && at_ns > from) use.work_ns -= std::min(use.work_ns, at_ns - from);
  const std::uint64_t bit = 1ull << (slot % 64);
  if (use.work_ns != 0 || at_ns < use.asked_ns + kSilentNs ||
      (shared.waiting[slot / 64] & bit) == 0)
    return;
  shared.waiting[slot / 64] &= ~bit;
  --shared.waiting_count;
}

// Ends the holder's turn and gives it to the next in the round that waits, if any.
void DeviceState::pass_turn_locked(int device, std::uint64_t at_ns, std::uint64_t switch_ns) {
  SharedDevice& shared = shared_->devices[device];
  const std::uint32_t old = shared.holder;
  if (old != kNobody) {
    if (old != slot_) take_off_work_locked(device, old, at_ns);
    shared_->slots[old].use[device].turn_ended_ns = at_ns;
    shared.last_holder = old;
  }
  shared.holder = kNobody;
  shared.free_since_ns = at_ns;
  if (shared.waiting_count == 0) return;
  const std::uint32_t from = old == kNobody ? 0 : old;
  for (std::uint32_t step = 1; step <= kMaxProcesses; ++step) {
    const std::uint32_t slot = (from + step) % kMaxProcesses;
    if (((shared.waiting[slot / 64] >> (slot % 64)) & 1) == 0) continue;
    shared.holder = slot;
    shared.turn_start_ns = at_ns + (slot == shared.last_holder ? 0 : switch_ns);
    shared.turn_end_ns = shared.turn_start_ns + kTimeSliceNs;
    if (slot != slot_) wake(&shared_->slots[slot].wake_word);
    return;
  }
}

Turn DeviceState::want(int device, std::uint64_t now, std::uint64_t work_ns) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  shared_->slots[slot_].use[device].work_ns = work_ns;
  shared_->slots[slot_].use[device].asked_ns = now;
  const std::uint64_t bit = 1ull << (slot_ % 64);
  if ((shared.waiting[slot_ / 64] & bit) == 0) {
    shared.waiting[slot_ / 64] |= bit;
    ++shared.waiting_count;
    // Slices run on while nobody else wants the device: the newcomer waits for the end of the one
    // that is going on.
    if (shared.holder != kNobody && shared.holder != slot_ && shared.turn_end_ns < now) {
      const std::uint64_t passed = now - shared.turn_start_ns;
      shared.turn_end_ns = shared.turn_start_ns + (passed / kTimeSliceNs + 1) * kTimeSliceNs;
    }
  }
  if (shared.holder == kNobody) {
    shared.holder = slot_;
    const std::uint64_t from = std::max(now, shared.free_since_ns);
    const bool switches = shared.last_holder != kNobody && shared.last_holder != slot_;
    shared.turn_start_ns = switches ? std::max(from, shared.free_since_ns + kIdleSwitchNs) : from;
    if (switches && shared.turn_start_ns < from + kIdleSwitchNs)
      shared.turn_start_ns = from + kIdleSwitchNs;
    shared.turn_end_ns = shared.turn_start_ns + kTimeSliceNs;
  }
  // Turns that are over pass on, whoever notices: their holder may be stopped or dead.
  bool dropped = false;
  while (shared.waiting_count > 1 && now >= shared.turn_end_ns) {
    if (shared.holder != slot_ && !dropped) {
      dropped = true;
      const std::uint32_t holder = shared.holder;
      drop_dead_locked(device);
      if (shared.holder != holder || shared.waiting_count <= 1) continue;
    }
    pass_turn_locked(device, shared.turn_end_ns, kPreemptSwitchNs);
  }
  if (shared.waiting_count == 1 && shared.holder != slot_)
    pass_turn_locked(device, now, kIdleSwitchNs);
  Turn turn;
  turn.mine = shared.holder == slot_;
  turn.contended = shared.waiting_count > 1;
  turn.start_ns = shared.turn_start_ns;
  turn.end_ns = shared.turn_end_ns;
  turn.retry_ns = shared.turn_end_ns;
  return turn;
}

void DeviceState::done(int device, std::uint64_t at_ns) {
  const Lock lock(*this, device);
  SharedDevice& shared = shared_->devices[device];
  const std::uint64_t bit = 1ull << (slot_ % 64);
  if (shared.waiting[slot_ / 64] & bit) {
    shared.waiting[slot_ / 64] &= ~bit;
    --shared.waiting_count;
  }
  if (shared.holder == slot_) pass_turn_locked(device, at_ns, kIdleSwitchNs);
}

bool DeviceState::is_wanted_by_others(int device) {
  const Lock lock(*this, device);
  const SharedDevice& shared = shared_->devices[device];
  const bool own = ((shared.waiting[slot_ / 64] >> (slot_ % 64)) & 1) != 0;
  return shared.waiting_count > (own ? 1 : 0);
}

std::uint64_t DeviceState::turn_ended_ns(int device) {
  const Lock lock(*this, device);
  return shared_->slots[slot_].use[device].turn_ended_ns;
}

std::uint32_t* DeviceState::wake_word() { return &shared_->slots[slot_].wake_word; }

void DeviceState::wake(std::uint32_t* word) {
  std::atomic_ref(*word).fetch_add(
      1, std::memory_order_release);  // pairs with the acquire load of whoever sleeps on it
  syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, nullptr, nullptr, 0);
}

}  // namespace vgpu::sim
