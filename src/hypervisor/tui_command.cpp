// SPDX-License-Identifier: Apache-2.0
// hypervisor tui: the terminal interface (src/tui) on the daemon's API, or on the segments.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "commands.h"
#include "node_state_json.h"
#include "settings/settings.h"
#include "vgpu/client/address.h"
#include "vgpu/platform/clock.h"
#include "vgpu/survey/gpus.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"
#include "vgpu/tui/sources.h"
#include "vgpu/tui/terminal.h"

namespace vgpu::hypervisor {
namespace {

using survey::kExitFailed, survey::kExitUsage, survey::Problem;

struct TuiOptions {
  std::string url;
  std::string token_file;
  std::string interval = "1";
  std::string log_path;
  std::string glob;
  bool simulated = false;
};

std::string token_in(const std::string& path) {
  if (path.empty()) return "";
  std::ifstream file(path, std::ios::binary);
  std::string token{std::istreambuf_iterator<char>(file), {}};
  token.erase(token.find_last_not_of(" \t\r\n") + 1);
  if (token.empty() || token.find_first_of(" \t\r\n") != std::string::npos)
    throw Problem(kExitFailed, "VG1073", fmt::format("{} holds no token", path), "");
  return token;
}

// What another source says of events and changes, written down as well: a line each.
class Logged final : public tui::DataSource {
 public:
  Logged(std::unique_ptr<DataSource> of, const std::string& path) : of_(std::move(of)) {
    file_ = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file_ < 0) {
      throw Problem(kExitFailed, "VG1074",
                    fmt::format("--log-path {}: {}", path, std::strerror(errno)),
                    "a file that you can write");
    }
  }
  ~Logged() override { close(file_); }
  Logged(const Logged&) = delete;
  Logged& operator=(const Logged&) = delete;

  tui::Model look(const tui::Wanted& wanted) override {
    tui::Model model = of_->look(wanted);
    // What happened before its start is in the daemon's own log.
    const bool is_first = !std::exchange(begun_, true);
    for (const auto& event : model.events) {
      if (event.sequence <= written_) continue;
      written_ = event.sequence;
      if (!is_first) write_line(event.time_ns, event.kind, event.text);
    }
    if (model.trouble != trouble_ && !model.trouble.empty())
      write_line(model.time_ns, "source", model.trouble);
    trouble_ = model.trouble;
    return model;
  }

  tui::ChangeResult change(const tui::Change& change) override {
    tui::ChangeResult result = of_->change(change);
    write_line(platform::realtime_ns(), result.done ? "change" : "refused",
               fmt::format("{}: {}", change.row.tenant, result.text));
    return result;
  }

 private:
  void write_line(std::uint64_t time_ns, std::string_view kind, std::string_view text) const {
    const std::string line =
        fmt::format("{} {} {}\n", time_text(time_ns), kind, survey::visible(text));
    (void)!write(file_, line.data(), line.size());  // a full disk ends no interface
  }

  const std::unique_ptr<DataSource> of_;
  int file_ = -1;
  bool begun_ = false;
  std::uint64_t written_ = 0;
  std::string trouble_;
};

// A flag of the predecessor that only one value can be kept of.
void refuse_other_values(const std::string& name, const std::string& typed) {
  for (const auto& row : settings::foreign()) {
    if (row.what != settings::ForeignWhat::tui_flag || row.name != name || typed == row.only)
      continue;
    throw Problem(
        kExitUsage, "VG2201",
        fmt::format("{} \"{}\": only {} can be kept. {}", name, typed, row.only, row.text),
        "hypervisor tui");
  }
}

std::unique_ptr<tui::DataSource> source_for(const TuiOptions& options) {
  tui::SourceOptions wanted;
  wanted.addresses = options.url.empty()
                         ? client::usual_addresses()
                         : std::vector<client::Address>{client::parse_address(options.url)};
  wanted.token = token_in(options.token_file);
  wanted.simulated = survey::simulation_wanted(options.simulated);
  wanted.segments_will_do = options.url.empty();
  wanted.say_so = true;
  auto source = tui::open_source(wanted);
  if (options.log_path.empty()) return source;
  return std::make_unique<Logged>(std::move(source), options.log_path);
}

int show(const TuiOptions& options) {
  tui::State state;
  state.title = "hypervisor tui";
  state.interval_s = tui::interval_of(options.interval, "--refresh-interval",
                                      "hypervisor tui --refresh-interval 2");
  if (!options.glob.empty()) refuse_other_values("--glob", options.glob);
  const auto source = source_for(options);
  std::string why = "this is no terminal";
  if (tui::is_terminal()) {
    if (const auto status = tui::watch(*source, state)) return *status;
    why = tui::no_terminal_text();
  }
  const tui::Model model = source->look({});
  fmt::print(stderr, "hypervisor: {}: one table only\n", why);
  if (!model.trouble.empty()) fmt::print(stderr, "hypervisor: {}\n", model.trouble);
  if (!model.no_driver.empty()) fmt::print(stderr, "hypervisor: {}\n", model.no_driver);
  tui::print_table(model, state);
  return 0;
}

}  // namespace

void add_tui_command(CLI::App& app, Run& run) {
  const auto options = std::make_shared<TuiOptions>();
  CLI::App* command = app.add_subcommand("tui",
                                         "Shows GPUs, tenants, processes, histories and events, "
                                         "live, in a terminal, and changes quotas.");
  command
      ->add_option("--url", options->url,
                   "The daemon: http://HOST:PORT or unix:/PATH. Without it the usual sockets are "
                   "tried, and where no daemon answers the tenants' segments are read.")
      ->type_name("URL");
  command
      ->add_option("--token-file", options->token_file,
                   "File of a token, for a daemon that wants one over TCP.")
      ->type_name("PATH");
  command
      ->add_option("--refresh-interval", options->interval, "Seconds between two looks, 0.1 to 60.")
      ->type_name("SECONDS")
      ->capture_default_str();
  command
      ->add_option("--log-path", options->log_path,
                   "File that events and changes are added to. Default: none.")
      ->type_name("PATH");
  command->add_flag("--simulated", options->simulated,
                    "Of the simulated GPU (also VGPU_SIMULATED=1).");
  command->add_option("--glob", options->glob, "Of the predecessor.")->group("");
  command->footer(
      "Keys are on its help page: ?. It works over ssh, in 80 columns, without colours.");
  command->callback([options, &run] { run = [options] { return show(*options); }; });
}

}  // namespace vgpu::hypervisor
