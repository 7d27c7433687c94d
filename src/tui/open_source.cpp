// SPDX-License-Identifier: Apache-2.0
// The daemon while it answers, else the segments; see sources.h.
#include <fmt/format.h>

#include <utility>

#include "vgpu/platform/clock.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/tui/sources.h"

namespace vgpu::tui {
namespace {

using client::Address, survey::Problem;

// Between two tries at a daemon that doesn't answer: each may take as long as its patience.
constexpr std::uint64_t kBetweenTriesNs = 5'000'000'000;
constexpr int kTooOften = 429;  // several of these at a short interval: no reason to leave it

std::string addresses_text(const std::vector<Address>& addresses) {
  std::string text;
  for (const Address& address : addresses) text += (text.empty() ? "" : ", ") + address.text();
  return text.empty() ? "nowhere (VGPU_SOCKET=none)" : text;
}

class EitherSource final : public DataSource {
 public:
  explicit EitherSource(SourceOptions options) : options_(std::move(options)) {
    find();
    if (daemon_ == nullptr && !options_.segments_will_do) {
      throw Problem(survey::kExitFailed, "VG1072",
                    why_not_.empty()
                        ? fmt::format("no daemon at {}", addresses_text(options_.addresses))
                        : why_not_,
                    "hypervisor daemon, or no address: this machine's segments");
    }
  }

  Model look(const Wanted& wanted) override {
    if (daemon_ == nullptr) find();
    if (daemon_ != nullptr) {
      try {
        Model model = daemon_->look(wanted);
        last_ = model;
        return model;
      } catch (const client::Unreachable& trouble) {
        lose(trouble.what());
      } catch (const client::Refused& refused) {
        if (refused.status == kTooOften) return as_it_was(refused.what());
        lose(fmt::format("the daemon refuses: {}", refused.what()));
      }
    }
    return without_daemon(wanted);
  }

  ChangeResult change(const Change& change) override {
    if (daemon_ != nullptr) return daemon_->change(change);
    if (options_.segments_will_do) return segments().change(change);
    ChangeResult result;
    result.text = "the daemon doesn't answer";
    return result;
  }

 private:
  void find() {
    const std::uint64_t now_ns = platform::monotonic_ns();
    if (tried_ns_ != 0 && now_ns < tried_ns_ + kBetweenTriesNs) return;
    tried_ns_ = now_ns;
    std::vector<std::string> why_not;
    const auto suits = [this](const client::Json& node) {
      return !options_.of_this_user || is_of_this_user(node);
    };
    if (auto found = client::find_daemon(options_.addresses, options_.token, &why_not, suits)) {
      daemon_ = daemon_source(std::move(*found));
      why_not_.clear();
      lost_ = false;
      return;
    }
    if (!why_not.empty()) why_not_ = why_not.front();
  }

  bool is_of_this_user(const client::Json& node) const {
    const auto driver = node.find("driver");
    const bool simulated = driver != node.end() && driver->is_object() &&
                           driver->find("simulated") != driver->end() &&
                           (*driver)["simulated"] == true;
    const shm::StateDir dir = survey::state_directory(false);
    return simulated == options_.simulated &&
           client::looks_after(node, std::string(dir.path.view()));
  }

  void lose(std::string why) {
    daemon_.reset();
    why_not_ = std::move(why);
    lost_ = true;
  }

  DataSource& segments() {
    if (segments_ == nullptr) segments_ = segments_source(options_.simulated);
    return *segments_;
  }

  Model as_it_was(std::string_view why) const {
    Model model = last_;
    model.trouble = fmt::format("this is how it was: {}", why);
    return model;
  }

  Model without_daemon(const Wanted& wanted) {
    if (!options_.segments_will_do) return as_it_was(why_not_);
    Model model = segments().look(wanted);
    if (lost_ || options_.say_so) {
      model.trouble = fmt::format(
          "no daemon, so the tenants' segments are shown: {}",
          why_not_.empty() ? "nothing at " + addresses_text(options_.addresses) : why_not_);
    }
    return model;
  }

  const SourceOptions options_;
  std::unique_ptr<DataSource> daemon_, segments_;
  std::uint64_t tried_ns_ = 0;
  std::string why_not_;
  bool lost_ = false;
  Model last_;
};

}  // namespace

std::unique_ptr<DataSource> open_source(const SourceOptions& options) {
  return std::make_unique<EitherSource>(options);
}

}  // namespace vgpu::tui
