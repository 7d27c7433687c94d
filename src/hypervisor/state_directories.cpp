// SPDX-License-Identifier: Apache-2.0
#include "state_directories.h"

#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "times.h"
#include "vgpu/host/host.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kDirectoriesEveryNs = 250 * kMsNs;
// Of one user, so that nobody takes the others' places.
constexpr int kMostOfOneUser = 4;

// "/dev/shm/vgpu-1000" is user 1000's, whoever made it.
bool is_named_after_another(const std::string& path, uid_t user) {
  const std::size_t dash = path.rfind("/vgpu-");
  if (dash == std::string::npos) return false;
  const char* const begin = path.data() + dash + 6;
  const char* const end = path.data() + path.size();
  uid_t named = 0;
  const auto [at, error] = std::from_chars(begin, end, named);
  return error == std::errc() && at == end && named != user;
}

}  // namespace

std::string UserDirectory::public_id(std::string_view id) const {
  if (is_own) return std::string(id);
  const std::string suffix = fmt::format("@{}", user);
  // As much as a tenant's id may be long.
  return std::string(id.substr(0, shm::kMaxName - suffix.size())) + suffix;
}

std::optional<uid_t> user_in(std::string_view public_id) {
  const std::size_t at = public_id.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view text = public_id.substr(at + 1);
  uid_t user = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), user);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return user;
}

StateDirectories::StateDirectories(const shm::StateDir& own, std::vector<std::string> patterns,
                                   const std::string& quotas)
    : patterns_(std::move(patterns)), quotas_(quotas) {
  UserDirectory first{own, geteuid(), true};
  first.dir.quotas = FixedString<255>(fmt::format("{}/quotas", own.path.view()));
  directories_.push_back(std::make_shared<UserDirectory>(first));
}

void StateDirectories::add(const std::string& path, std::vector<DirectoryPointer>& found) {
  struct stat facts {};
  if (lstat(path.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) return;
  const auto is_it = [&](const DirectoryPointer& known) {
    return known->dir.path.view() == path && (known->is_own || known->user == facts.st_uid);
  };
  if (std::any_of(found.begin(), found.end(), is_it)) return;
  if (is_named_after_another(path, facts.st_uid) || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    notes_.push_back(fmt::format("{}: not its user's alone, so nothing in it is looked at", path));
    return;
  }
  const auto of_user = std::count_if(
      found.begin(), found.end(), [&](const auto& known) { return known->user == facts.st_uid; });
  if (of_user >= kMostOfOneUser || found.size() >= host::kMostSegments) {
    notes_.push_back(fmt::format("{}: one directory more than can be looked after", path));
    return;
  }
  const auto known = std::find_if(directories_.begin(), directories_.end(), is_it);
  if (known != directories_.end()) {
    found.push_back(*known);
    return;
  }
  UserDirectory fresh;
  fresh.dir.path = FixedString<255>(path);
  if (fresh.dir.path.truncated()) return;
  fresh.dir.quotas = quotas_;
  fresh.dir.owner = facts.st_uid;
  fresh.user = facts.st_uid;
  fresh.is_own = false;
  found.push_back(std::make_shared<UserDirectory>(fresh));
}

bool StateDirectories::make_for(uid_t user) {
  constexpr std::string_view kByUser = "/vgpu-*";
  for (const std::string& pattern : patterns_) {
    if (!pattern.ends_with(kByUser)) continue;
    const std::string folder = pattern.substr(0, pattern.size() - kByUser.size());
    struct stat facts {};
    const bool is_safe =
        lstat(folder.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode) && facts.st_uid == 0 &&
        ((facts.st_mode & S_ISVTX) != 0 || (facts.st_mode & (S_IWGRP | S_IWOTH)) == 0);
    if (!is_safe) continue;
    const std::string path = fmt::format("{}/vgpu-{}", folder, user);
    if (mkdir(path.c_str(), 0700) != 0) continue;  // what is there isn't touched
    if (lchown(path.c_str(), user, static_cast<gid_t>(-1)) != 0) {
      rmdir(path.c_str());
      continue;
    }
    look_anew();
    return true;
  }
  return false;
}

const std::vector<DirectoryPointer>& StateDirectories::look(std::uint64_t now_ns) {
  if (looked_ns_ != 0 && now_ns < looked_ns_ + kDirectoriesEveryNs) return directories_;
  looked_ns_ = now_ns;
  notes_.clear();
  std::vector<DirectoryPointer> found{directories_.front()};
  for (const std::string& pattern : patterns_) {
    glob_t matches{};
    if (glob(pattern.c_str(), GLOB_NOSORT, nullptr, &matches) == 0) {
      for (std::size_t i = 0; i < matches.gl_pathc; ++i) add(matches.gl_pathv[i], found);
    }
    globfree(&matches);
  }
  directories_ = std::move(found);
  return directories_;
}

}  // namespace vgpu::hypervisor
