// SPDX-License-Identifier: Apache-2.0
#include "hosting.h"

#include <sys/prctl.h>

#include <algorithm>

#include "times.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/futex.h"

namespace vgpu::hypervisor {
namespace {

// With the word that says that they have changed.
static_assert(host::kMostSegments + 1 <= platform::kMostFutexes);

constexpr std::uint64_t kFileLookEveryNs = 100 * kMsNs;
constexpr std::uint64_t kUntilRetakenNs = 100 * kMsNs;

std::string segment_path(const shm::StateDir& dir) {
  return std::string(dir.path.view()) + "/node.seats";
}

}  // namespace

struct Hosting::Hosted {
  class Terms final : public host::SeatTerms {
   public:
    void set(std::shared_ptr<const TermsTable> table) { table_ = std::move(table); }
    bool find(std::uint64_t tenant, const GpuUuid& gpu, Quota& terms) const override {
      if (table_ == nullptr) return false;
      const auto at = table_->find({tenant, gpu});
      if (at == table_->end()) return false;
      terms = at->second;
      return true;
    }

   private:
    std::shared_ptr<const TermsTable> table_;
  };

  DirectoryPointer directory;
  shm::Node node;
  platform::FileIdentity file;
  Terms terms;
};

Hosting::Hosting() : thread_([this] { run(); }) {}

Hosting::~Hosting() { stop(); }

void Hosting::stop() {
  stopping_ = true;
  changed_.fetch_add(1);
  platform::futex_wake_all(changed_);
  if (thread_.joinable()) thread_.join();
}

void Hosting::look_after(std::vector<HostedDirectory> directories, shm::OnDaemonLoss policy) {
  bool is_other = false;
  {
    const std::lock_guard lock(wanted_mutex_);
    is_other = directories.size() != wanted_.size() || policy != policy_;
    for (std::size_t i = 0; !is_other && i < directories.size(); ++i) {
      is_other = directories[i].directory != wanted_[i].directory ||
                 directories[i].terms != wanted_[i].terms || directories[i].plan != wanted_[i].plan;
    }
    wanted_ = std::move(directories);
    policy_ = policy;
  }
  if (!is_other) return;
  changed_.fetch_add(1);
  platform::futex_wake_all(changed_);
}

// Takes up directories that are new, or whose segment is another file by now, and lets go of those
// that are gone: what is mapped of them is nobody's any more.
void Hosting::refresh() {
  std::vector<HostedDirectory> wanted;
  {
    const std::lock_guard lock(wanted_mutex_);
    wanted = wanted_;
    host_.set_daemon(policy_);
  }
  const auto find = [&](const Hosted& hosted) {
    return std::find_if(wanted.begin(), wanted.end(), [&](const HostedDirectory& one) {
      return one.directory == hosted.directory;
    });
  };
  for (auto at = hosted_.begin(); at != hosted_.end();) {
    Hosted& hosted = **at;
    const bool is_there =
        find(hosted) != wanted.end() &&
        platform::identity_of(segment_path(hosted.directory->dir).c_str()) == hosted.file;
    if (!is_there) host_.remove(hosted.node);
    at = is_there ? std::next(at) : hosted_.erase(at);
  }
  for (const HostedDirectory& one : wanted) {
    auto known = std::find_if(hosted_.begin(), hosted_.end(), [&](const auto& hosted) {
      return hosted->directory == one.directory;
    });
    if (known == hosted_.end()) {
      auto fresh = std::make_unique<Hosted>();
      fresh->directory = one.directory;
      const shm::StateDir& dir = one.directory->dir;
      const shm::Status status = one.directory->is_own ? shm::Node::open(dir, fresh->node)
                                                       : shm::Node::look(dir, fresh->node);
      fresh->file = platform::identity_of(segment_path(dir).c_str());
      if (status != shm::Status::ok ||
          !host_.add(fresh->node, one.directory->is_own ? nullptr : &fresh->terms))
        continue;
      hosted_.push_back(std::move(fresh));
      known = std::prev(hosted_.end());
    }
    (*known)->terms.set(one.terms);
    // Whoever may write the segment may have written another.
    if ((*known)->node.plan() != one.plan) (*known)->node.set_plan(one.plan);
  }
}

void Hosting::wait(std::uint64_t until_ns, const std::vector<std::uint32_t>& bells) {
  std::vector<std::atomic<std::uint32_t>*> words{&changed_};
  for (const auto& hosted : hosted_) words.push_back(&hosted->node.doorbell());
  platform::futex_wait_any(words, bells, until_ns);
}

void Hosting::run() {
  prctl(PR_SET_NAME, "vgpu-arbiter");
  prctl(PR_SET_TIMERSLACK, 1'000UL);
  std::uint64_t retake_ns = 0, look_ns = 0;
  std::uint32_t changed = changed_.load() - 1;
  while (!stopping_) {
    const std::uint64_t now_ns = platform::monotonic_ns();
    if (now_ns >= look_ns || changed != changed_.load(std::memory_order_acquire)) {
      changed = changed_.load(std::memory_order_acquire);
      refresh();
      look_ns = now_ns + kFileLookEveryNs;
    }
    // New ones at once; one that another process has taken, not in each step.
    if (!host_.hosts_all() && now_ns >= retake_ns) {
      takings_ += host_.replace(now_ns);
      retake_ns = 0;
    }
    // Read before the step: what is said after it rings again.
    std::vector<std::uint32_t> bells{changed};
    for (const auto& hosted : hosted_)
      bells.push_back(hosted->node.doorbell().load(std::memory_order_acquire));
    std::uint64_t wake_ns = std::min(now_ns + kFileLookEveryNs, look_ns);
    if (host_.hosts()) {
      const std::uint64_t due_ns = host_.step(now_ns);
      if (due_ns != 0) wake_ns = std::min(wake_ns, due_ns);
    }
    hosts_ = !hosted_.empty() && host_.hosts_all();
    if (!hosted_.empty() && !hosts_ && retake_ns == 0) retake_ns = now_ns + kUntilRetakenNs;
    if (retake_ns != 0) wake_ns = std::min(wake_ns, retake_ns);
    wait(wake_ns, bells);
  }
  for (const auto& hosted : hosted_) host_.remove(hosted->node);
  hosted_.clear();
  hosts_ = false;
}

}  // namespace vgpu::hypervisor
