// SPDX-License-Identifier: Apache-2.0
// Done twice, it does nothing the second time; it says what it did.
#include "mount_shm.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "commands.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

using survey::Problem;

constexpr mode_t kMode = 0755;  // the predecessor's 0777 let every tenant make files for others

struct MountOptions {
  std::string path = "/run/tensor-fusion/shm";
  std::uint64_t size_mib = 128;
};

[[noreturn]] void fail(const std::string& what, int error) {
  const bool not_allowed = error == EPERM || error == EACCES;
  throw Problem(survey::kExitFailed, "VG1102", fmt::format("{}: {}", what, std::strerror(error)),
                not_allowed ? "as root, or with CAP_SYS_ADMIN in this mount namespace" : "");
}

std::string mountinfo() {
  std::ifstream file("/proc/self/mountinfo", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Of the folder itself, through no link that somebody put there.
mode_t mode_of(const std::string& path) {
  struct stat facts {};
  if (::lstat(path.c_str(), &facts) != 0) fail(path, errno);
  if (!S_ISDIR(facts.st_mode)) fail(path, ENOTDIR);
  return facts.st_mode & 07777;
}

int mount_shm(const MountOptions& options) {
  if (options.path.empty() || options.path.front() != '/') {
    throw Problem(survey::kExitUsage, "VG1001",
                  fmt::format("--mount-point {}: an absolute path is expected",
                              survey::visible(options.path)));
  }
  std::string path = std::filesystem::path(options.path).lexically_normal().string();
  if (path.size() > 1 && path.back() == '/') path.pop_back();
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail(path + ": can't be made", error.value());
  mode_of(path);
  const Mounting mounting = mounting_for(mountinfo(), path);
  if (!mounting.refusal.empty()) throw Problem(survey::kExitFailed, "VG1102", mounting.refusal);
  if (mounting.must_mount) {
    const std::string data = fmt::format("size={}M,mode=0755", options.size_mib);
    if (::mount("tmpfs", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, data.c_str()) != 0) {
      fail(fmt::format("a tmpfs can't be mounted on {}", path), errno);
    }
  }
  const mode_t mode = mode_of(path);
  if (mode != kMode && ::chmod(path.c_str(), kMode) != 0)
    fail(path + ": its mode can't be set", errno);
  fmt::print("{}: {}{}\n", path,
             mounting.must_mount
                 ? fmt::format("mounted a tmpfs of {} MiB, mode 0755", options.size_mib)
                 : std::string("a tmpfs is there already, its size is left as it is"),
             mode != kMode ? fmt::format(", mode {:04o} changed to 0755", mode) : "");
  return 0;
}

// Blanks and the like stand there as \040.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    if (end > 0) words.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

}  // namespace

std::optional<std::string> mounted_there(std::string_view mountinfo, std::string_view path) {
  std::optional<std::string> found;
  while (!mountinfo.empty()) {
    const std::size_t end = std::min(mountinfo.find('\n'), mountinfo.size());
    const auto words = words_of(mountinfo.substr(0, end));
    mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
    if (words.size() < 5 || unescaped(words[4]) != path) continue;
    // Optional fields in between, then "-", then the type.
    for (std::size_t i = 5; i + 1 < words.size(); ++i) {
      if (words[i] != "-") continue;
      found = std::string(words[i + 1]);
      break;
    }
  }
  return found;
}

Mounting mounting_for(std::string_view mountinfo, std::string_view path) {
  const auto there = mounted_there(mountinfo, path);
  if (!there) return {true, ""};
  if (*there == "tmpfs") return {false, ""};
  return {false, fmt::format("{}: a file system of type {} is mounted there; it isn't covered",
                             path, *there)};
}

void add_mount_shm_command(CLI::App& app, Run& run) {
  auto* command =
      app.add_subcommand("mount-shm", "Mount the tmpfs for tensor-fusion's shared-memory files.");
  const auto options = std::make_shared<MountOptions>();
  command->add_option("--mount-point", options->path, "Where")->capture_default_str();
  // Two options, so that an error names the one that was typed.
  const CLI::Range range(std::uint64_t{1}, std::uint64_t{1} << 20);
  auto* const size = command->add_option("--size-mb", options->size_mib, "MiB")
                         ->check(range)
                         ->capture_default_str();
  command->add_option("--size", options->size_mib, "As --size-mb")->check(range)->excludes(size);
  command->footer(
      "Needs CAP_SYS_ADMIN. Where a tmpfs is mounted already, only its mode is made 0755.");
  command->callback([options, &run] { run = [options] { return mount_shm(*options); }; });
}

}  // namespace vgpu::hypervisor
