// SPDX-License-Identifier: Apache-2.0
// The state directories that the daemon looks after: its own user's, for root those of the
// machine's users, found by patterns, and cells: one for each tenant of a container, which the
// daemon makes and hands over, so that whoever is in there reaches that tenant's files and nobody
// else's. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/shm/tenant.h"

namespace vgpu::hypervisor {

// What the daemon last said that a cell's tenant may have, by its GPUs: the page says it to the
// tenant, and root in a container may come to write there all the same. Any thread.
class KeptQuotas {
 public:
  void keep(std::vector<Quota> quotas);
  std::vector<Quota> quotas() const;  // empty: nothing was said yet

 private:
  mutable std::mutex mutex_;
  std::vector<Quota> quotas_;
};

struct UserDirectory {
  shm::StateDir dir;
  uid_t user = 0;
  bool is_own = true;
  std::string only_tenant{};           // of a cell: what else is in there counts for nothing
  std::shared_ptr<KeptQuotas> kept{};  // of a cell
  bool is_cell() const { return !only_tenant.empty(); }
  // Of a cell: what its tenant is called, where its user can't write; what the segment says of that
  // could be another's name. Empty: not known.
  void keep_name(const std::string& name) const;
  std::string kept_name() const;
  bool holds(std::string_view id) const { return only_tenant.empty() || only_tenant == id; }
  // As shm::list_tenants(); of a cell its own, and whatever else is put there isn't even looked at.
  std::size_t list_tenants(std::span<FixedString<shm::kMaxName>> ids) const;

  // A tenant's id as the daemon says it, and no two users' are the same: as the user knows it in
  // the daemon's own directory, else "ID@UID".
  std::string public_id(std::string_view id) const;
};
using DirectoryPointer = std::shared_ptr<const UserDirectory>;

class StateDirectories {
 public:
  // `patterns` as of glob(7), for the users' directories; `quotas`: the folder of their quota
  // pages. Those of the daemon's own user are in that one's directory, where its programs find them
  // whatever they know of sockets.
  StateDirectories(const shm::StateDir& own, std::vector<std::string> patterns,
                   const std::string& quotas);

  // What is there now, the daemon's own first; the file system is asked every quarter of a second.
  // A directory that is there again is the same object.
  const std::vector<DirectoryPointer>& look(std::uint64_t now_ns);
  // The same for who changes nothing: asked anew, and cells that aren't needed stay.
  std::vector<DirectoryPointer> only_look();
  // The next look asks the file system.
  void look_anew() { looked_ns_ = 0; }
  // Makes one for a user who has none, where a pattern names it after its user ("/dev/shm/vgpu-*")
  // in a folder of root's in which nobody can take it away. False: it isn't made.
  bool make_for(uid_t user);
  // For a tenant with that id of its own; null with errno: it can't be made. One without a page of
  // quotas goes with the first look after some seconds.
  DirectoryPointer make_cell(uid_t user, const std::string& id);
  // Those that match and can't be trusted, in words.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  void add(const std::string& path, std::vector<DirectoryPointer>& found);
  // Those that aren't needed any more are left out, and named.
  std::vector<std::string> add_cells(std::vector<DirectoryPointer>& found);
  std::vector<DirectoryPointer> find(std::vector<std::string>& unneeded);
  DirectoryPointer known_or_new(UserDirectory fresh) const;
  void remove_cell(const std::string& path);

  std::vector<std::string> patterns_;
  FixedString<255> quotas_;
  std::string cells_;  // the folder that they are in
  std::uint64_t removed_ = 0;
  std::vector<DirectoryPointer> directories_;
  std::vector<std::string> notes_;
  std::uint64_t looked_ns_ = 0;
};

// The user whose directory a public id says the tenant is in; nullopt: the daemon's own.
std::optional<uid_t> user_in(std::string_view public_id);

// Where a daemon of the machine listens.
inline constexpr std::string_view kMachineSocket = "/run/vgpu/hypervisor.sock";

// Where root looks for them: $XDG_RUNTIME_DIR/vgpu of who is logged in, and /dev/shm.
inline constexpr std::string_view kUsersDirectories[] = {"/run/user/*/vgpu", "/dev/shm/vgpu-*"};

}  // namespace vgpu::hypervisor
