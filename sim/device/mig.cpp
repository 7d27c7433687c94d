// SPDX-License-Identifier: Apache-2.0
#include "vgpu/sim/mig.h"

#include <cstdio>
#include <fstream>
#include <mutex>
#include <sstream>

namespace vgpu::sim {
namespace {

struct Line {
  unsigned gpu = 0;
  std::string profile;
  unsigned gigabytes = 0;
  unsigned count = 0;
};

std::optional<Line> parse_line(const std::string& text, std::size_t gpus) {
  Line line;
  std::istringstream words(text);
  std::string more;
  unsigned slices = 0;
  int end = 0;
  if (!(words >> line.gpu >> line.profile >> line.count) || words >> more) return std::nullopt;
  if (std::sscanf(line.profile.c_str(), "%ug.%ugb%n", &slices, &line.gigabytes, &end) != 2 ||
      static_cast<std::size_t>(end) != line.profile.size())
    return std::nullopt;
  if (line.gpu >= gpus || slices == 0 || line.gigabytes == 0 || line.count > kMostMigDevices)
    return std::nullopt;
  return line;
}

void say_once(const std::string& path, const std::string& line) {
  static std::mutex mutex;
  static std::string said;
  const std::scoped_lock lock(mutex);
  if (said == line) return;
  said = line;
  std::fprintf(stderr,
               "vgpu simulated GPU: %s: \"%s\" isn't GPU PROFILE COUNT, as in 0 1g.18gb 2, with a "
               "GPU that is there and a count of at most %u; passed over\n",
               path.c_str(), line.c_str(), kMostMigDevices);
}

}  // namespace

std::optional<std::vector<MigDevice>> mig_devices(const DeviceState& state, unsigned gpu) {
  const std::string path = state.folder() + "/nvml.mig";
  std::optional<std::vector<MigDevice>> devices;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    const auto line = parse_line(text, state.devices().size());
    if (!line) say_once(path, text);
    if (!line || line->gpu != gpu) continue;
    if (!devices) devices.emplace();
    for (unsigned i = 0; i < line->count && devices->size() < kMostMigDevices; ++i) {
      MigDevice device{line->profile, line->gigabytes * kGiB, state.devices()[gpu].uuid};
      device.uuid.bytes[0] =
          static_cast<std::uint8_t>(device.uuid.bytes[0] ^ (devices->size() + 1));
      devices->push_back(std::move(device));
    }
  }
  return devices;
}

}  // namespace vgpu::sim
