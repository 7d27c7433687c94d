// SPDX-License-Identifier: Apache-2.0
#include "state_directories.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <utility>

#include "times.h"
#include "vgpu/host/host.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kDirectoriesEveryNs = 250 * kMsNs;
// Of one user, so that nobody takes the others' places.
constexpr int kMostOfOneUser = 4;
// Between its making and its tenant's.
constexpr std::time_t kCellStaysSeconds = 5;
// Containers of one user, of all that can be looked after.
constexpr int kMostCellsOfOneUser = 100;

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

// A cell is "ID@UID"; the pages of its quotas are beside it, where its user can't write.
std::string quotas_of_cell(const std::string& path) { return path + ".quotas"; }

UserDirectory cell_at(const std::string& path, uid_t user, const std::string& id) {
  UserDirectory cell;
  cell.dir.path = FixedString<255>(path);
  cell.dir.quotas = FixedString<255>(quotas_of_cell(path));
  cell.dir.owner = user;
  cell.user = user;
  cell.is_own = false;
  cell.only_tenant = id;
  cell.kept = std::make_shared<KeptQuotas>();
  return cell;
}

// There is no page of quotas any more, or not yet, for some seconds. Nothing in here is its user's
// to write, so nobody keeps a cell that isn't needed.
bool is_unneeded(const std::string& path) {
  const std::string quotas = quotas_of_cell(path);
  std::error_code error;
  for (std::filesystem::directory_iterator at(quotas, error), end; !error && at != end;
       at.increment(error)) {
    if (at->path().extension() == ".quota") return false;
  }
  struct stat facts {};
  return stat(quotas.c_str(), &facts) != 0 ||
         std::time(nullptr) > facts.st_mtime + kCellStaysSeconds;
}

}  // namespace

std::string UserDirectory::public_id(std::string_view id) const {
  if (is_own) return std::string(id);
  const std::string suffix = fmt::format("@{}", user);
  // As much as a tenant's id may be long.
  return std::string(id.substr(0, shm::kMaxName - suffix.size())) + suffix;
}

void KeptQuotas::keep(std::vector<Quota> quotas) {
  const std::lock_guard lock(mutex_);
  quotas_ = std::move(quotas);
}

std::vector<Quota> KeptQuotas::quotas() const {
  const std::lock_guard lock(mutex_);
  return quotas_;
}

void UserDirectory::keep_name(const std::string& name) const {
  if (!is_cell()) return;
  const std::string path = fmt::format("{}/name", dir.quotas.view()), fresh = path + ".new";
  {
    std::ofstream file(fresh, std::ios::trunc);
    file << name << '\n';
    if (!file.flush()) return;
  }
  (void)std::rename(fresh.c_str(), path.c_str());
}

std::string UserDirectory::kept_name() const {
  std::string name;
  if (is_cell()) {
    std::ifstream file(fmt::format("{}/name", dir.quotas.view()));
    std::getline(file, name);
  }
  return name;
}

std::size_t UserDirectory::list_tenants(std::span<FixedString<shm::kMaxName>> ids) const {
  if (!is_cell()) return shm::list_tenants(dir, ids);
  struct stat facts {};
  if (lstat(fmt::format("{}/{}.tenant", dir.path.view(), only_tenant).c_str(), &facts) != 0)
    return 0;
  if (!ids.empty()) ids[0] = FixedString<shm::kMaxName>(only_tenant);
  return 1;
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
    : patterns_(std::move(patterns)),
      quotas_(quotas),
      cells_(fmt::format("{}/cells", own.path.view())) {
  UserDirectory first{own, geteuid(), true};
  first.dir.quotas = FixedString<255>(fmt::format("{}/quotas", own.path.view()));
  directories_.push_back(std::make_shared<UserDirectory>(first));
}

DirectoryPointer StateDirectories::known_or_new(UserDirectory fresh) const {
  const auto known =
      std::find_if(directories_.begin(), directories_.end(), [&](const DirectoryPointer& one) {
        return one->dir.path.view() == fresh.dir.path.view() && one->user == fresh.user;
      });
  return known != directories_.end() ? *known : std::make_shared<UserDirectory>(std::move(fresh));
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
  const auto of_user = std::count_if(found.begin(), found.end(), [&](const auto& known) {
    return known->user == facts.st_uid && !known->is_cell();
  });
  if (of_user >= kMostOfOneUser || found.size() >= host::kMostSegments) {
    notes_.push_back(fmt::format("{}: one directory more than can be looked after", path));
    return;
  }
  UserDirectory fresh;
  fresh.dir.path = FixedString<255>(path);
  if (fresh.dir.path.truncated()) return;
  fresh.dir.quotas = quotas_;
  fresh.dir.owner = facts.st_uid;
  fresh.user = facts.st_uid;
  fresh.is_own = false;
  found.push_back(known_or_new(std::move(fresh)));
}

// Of the daemon's own making, in its own directory: what is there is believed.
std::vector<std::string> StateDirectories::add_cells(std::vector<DirectoryPointer>& found) {
  std::vector<std::string> unneeded;
  std::error_code error;
  for (std::filesystem::directory_iterator at(cells_, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    const auto user = user_in(name);
    struct stat facts {};
    if (!user || lstat(at->path().c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) continue;
    const std::string id = name.substr(0, name.rfind('@'));
    if (is_unneeded(at->path())) {
      unneeded.push_back(at->path());
    } else if (found.size() >= host::kMostSegments) {
      notes_.push_back(fmt::format("{}: one directory more than can be looked after", name));
    } else {
      found.push_back(known_or_new(cell_at(at->path(), *user, id)));
    }
  }
  return unneeded;
}

// What vgpu makes in one. What else its user put there stays, under a name that is no cell's.
void StateDirectories::remove_cell(const std::string& path) {
  const std::string dead = fmt::format("{}/removed-{}-{}", cells_, getpid(), ++removed_);
  if (std::rename(path.c_str(), dead.c_str()) != 0) return;
  const std::string id = path.substr(path.rfind('/') + 1);
  for (const std::string& file :
       {id.substr(0, id.rfind('@')) + ".tenant", std::string("node.seats")})
    (void)unlink(fmt::format("{}/{}", dead, file).c_str());
  (void)rmdir(dead.c_str());
  std::error_code ignored;
  std::filesystem::remove_all(quotas_of_cell(path), ignored);
}

DirectoryPointer StateDirectories::make_cell(uid_t user, const std::string& id) {
  const std::string path = fmt::format("{}/{}@{}", cells_, id, user);
  const std::string quotas = quotas_of_cell(path);
  UserDirectory cell = cell_at(path, user, id);
  if (cell.dir.path.truncated() || cell.dir.quotas.truncated()) {
    errno = ENAMETOOLONG;
    return nullptr;
  }
  // Not before somebody has had time to come.
  (void)utimensat(AT_FDCWD, quotas.c_str(), nullptr, 0);
  const DirectoryPointer known = known_or_new(cell);
  if (std::find(directories_.begin(), directories_.end(), known) != directories_.end())
    return known;
  const auto of_user =
      std::count_if(directories_.begin(), directories_.end(),
                    [&](const auto& one) { return one->is_cell() && one->user == user; });
  if (directories_.size() >= host::kMostSegments || of_user >= kMostCellsOfOneUser) {
    errno = ENOSPC;
    return nullptr;
  }
  const auto make = [](const std::string& folder, mode_t mode) {
    return (mkdir(folder.c_str(), mode) == 0 && chmod(folder.c_str(), mode) == 0) ||
           errno == EEXIST;
  };
  // For its user last: from then on that one may put something there.
  if (!make(cells_, 0700) || !make(quotas, 0755) || !make(path, 0700) ||
      lchown(path.c_str(), user, static_cast<gid_t>(-1)) != 0)
    return nullptr;
  look_anew();
  directories_.push_back(known);
  return known;
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
  std::vector<std::string> unneeded;
  directories_ = find(unneeded);
  for (const std::string& path : unneeded) remove_cell(path);
  return directories_;
}

std::vector<DirectoryPointer> StateDirectories::only_look() {
  std::vector<std::string> unneeded;
  return find(unneeded);
}

std::vector<DirectoryPointer> StateDirectories::find(std::vector<std::string>& unneeded) {
  notes_.clear();
  std::vector<DirectoryPointer> found{directories_.front()};
  for (const std::string& pattern : patterns_) {
    glob_t matches{};
    if (glob(pattern.c_str(), GLOB_NOSORT, nullptr, &matches) == 0) {
      for (std::size_t i = 0; i < matches.gl_pathc; ++i) add(matches.gl_pathv[i], found);
    }
    globfree(&matches);
  }
  unneeded = add_cells(found);
  return found;
}

}  // namespace vgpu::hypervisor
