// SPDX-License-Identifier: Apache-2.0
// Opened anew for each batch (every ten seconds or so), so that whoever moves or removes a file
// gets a new one.
#include "usage_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace vgpu::hypervisor {
namespace {

bool is_date(std::string_view text) {
  if (text.size() != 10) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 4 || i == 7;
    if (dash ? text[i] != '-' : text[i] < '0' || text[i] > '9') return false;
  }
  return true;
}

}  // namespace

UsageLog::UsageLog(const std::string& path) : prefix_(path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    prefix_ = (std::filesystem::path(path) / "metrics.log").string();
  }
}

std::string UsageLog::file_name(const std::string& prefix, std::uint64_t now_s) {
  return fmt::format("{}.{:%Y-%m-%d}", prefix, fmt::gmtime(static_cast<std::time_t>(now_s)));
}

std::string UsageLog::append(std::string_view lines, std::uint64_t now_s) {
  if (lines.empty()) return "";
  const std::string failure = write(lines, now_s);
  if (failure.empty()) {
    if (failures_ == 0) return "";
    const auto lost = failures_;
    failures_ = 0;
    return fmt::format("the usage log is written again; {} batches were lost", lost);
  }
  return ++failures_ == 1 ? failure + "; usage is lost until it can be written" : "";
}

std::string UsageLog::write(std::string_view lines, std::uint64_t now_s) {
  const std::string path = file_name(prefix_, now_s);
  const int fd = ::open(path.c_str(),
                        O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
  if (fd < 0) return fmt::format("the usage log {}: {}", path, std::strerror(errno));
  const off_t before = ::lseek(fd, 0, SEEK_END);
  std::size_t written = 0;
  int error = 0;
  while (written < lines.size() && error == 0) {
    const ssize_t part = ::write(fd, lines.data() + written, lines.size() - written);
    if (part > 0) {
      written += static_cast<std::size_t>(part);
    } else if (part == 0 || errno != EINTR) {
      error = part == 0 ? EIO : errno;
    }
  }
  // Half a line would spoil the one that comes after it.
  if (error != 0 && before >= 0 && ::ftruncate(fd, before) != 0) error = errno;
  ::close(fd);
  if (error != 0) return fmt::format("the usage log {}: {}", path, std::strerror(error));
  if (path != today_) {
    today_ = path;
    remove_old();
  }
  return "";
}

void UsageLog::remove_old() const {
  namespace fs = std::filesystem;
  const fs::path prefix(prefix_);
  const fs::path folder = prefix.has_parent_path() ? prefix.parent_path() : fs::path(".");
  const std::string stem = prefix.filename().string() + ".";
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(stem) && is_date(std::string_view(name).substr(stem.size()))) {
      files.push_back(at->path());
    }
  }
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i + kKept < files.size(); ++i) fs::remove(files[i], error);
}

}  // namespace vgpu::hypervisor
