// SPDX-License-Identifier: Apache-2.0
// For the programs that write manual pages and completion at build time.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

namespace vgpu::packaging {

// With the folders on the way; false where it could not be written whole.
inline bool write_file(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file.good();
}

}  // namespace vgpu::packaging
