// SPDX-License-Identifier: Apache-2.0
// vgpu doctor: one line for each thing that limits rest on, and what to do where it isn't as it
// should be. Looks, and starts one harmless child (to see whether the loader takes the limiter);
// changes nothing.
#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "look.h"
#include "tenant_environment.h"
#include "verbs.h"
#include "vgpu/client/address.h"
#include "vgpu/client/daemon.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/survey/gpus.h"
#include "vgpu/survey/process_tree.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/snapshot.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/survey/text.h"

extern char** environ;

namespace vgpu::cli {

using survey::Driver, survey::find_installation, survey::Installation, survey::nearest,
    survey::ProcessEnvironment, survey::share_notes, survey::shares_on, survey::simulation_wanted,
    survey::size_text, survey::Snapshot, survey::state_directory, survey::Style;

namespace {

using Json = nlohmann::ordered_json;

enum class Health : unsigned char { ok, info, warning, problem };

struct Check {
  std::string about;
  Health health = Health::ok;
  std::string text;
  std::string next;  // what to do
};

struct SetVariable {
  std::string name;
  std::string value;
  std::string effect;
  std::string text;
};

struct Report {
  std::vector<Check> checks;
  std::vector<SetVariable> variables;
  void add(std::string about, Health health, std::string text, std::string next = "") {
    checks.push_back({std::move(about), health, std::move(text), std::move(next)});
  }
};

std::string_view health_name(Health health) {
  switch (health) {
    case Health::ok:
      return "ok";
    case Health::info:
      return "info";
    case Health::warning:
      return "warning";
    case Health::problem:
      return "problem";
  }
  return "problem";
}

void check_driver(const Installation& installation, const Driver& driver, Report& report) {
  if (!driver.available) {
    report.add("driver", Health::problem, driver.why,
               driver.simulated ? "install vgpu with its simulated GPU"
                                : "install NVIDIA's driver (in a container: run it with --gpus "
                                  "all), or use --simulated");
    return;
  }
  report.add("driver", Health::ok,
             driver.simulated
                 ? fmt::format("simulated, as driver {}", driver.version)
                 : fmt::format("{} (CUDA {})", driver.version,
                               driver.cuda_version.empty() ? "-" : driver.cuda_version));
  const std::string library =
      driver.simulated ? installation.simulated_folder + "/libcuda.so.1" : "libcuda.so.1";
  if (dlopen(library.c_str(), RTLD_LAZY | RTLD_LOCAL) == nullptr) {
    report.add("driver", Health::problem, fmt::format("{} can't be loaded: {}", library, dlerror()),
               "install the driver's CUDA library (in a container: "
               "NVIDIA_DRIVER_CAPABILITIES=compute,utility)");
  }
}

void check_gpus(const Driver& driver, Report& report) {
  if (!driver.available) return;
  for (const auto& gpu : driver.gpus) {
    report.add(
        "gpu", Health::ok,
        fmt::format("{} {} {}, {} of {} used", gpu.nvml_index, gpu.name.empty() ? "-" : gpu.name,
                    gpu.uuid_text(), size_text(gpu.used_bytes), size_text(gpu.total_bytes)));
    if (gpu.mig_enabled) {
      report.add("gpu", Health::warning,
                 fmt::format("{} is in {}: {}", gpu.nvml_index, survey::mig_text(gpu),
                             survey::kEnforcedOnMig.why));
    }
  }
  if (driver.gpus.empty()) {
    report.add("gpu", Health::problem, "the driver shows none",
               "check nvidia-smi -L; in a container: run it with --gpus all");
  }
  if (driver.gpus.size() > shm::kMaxGpus) {
    report.add("gpu", Health::warning,
               fmt::format("{} of them; limits hold on the first {} only", driver.gpus.size(),
                           shm::kMaxGpus),
               "split the machine into containers with fewer GPUs");
  }
}

// Runs this very tool with the limiter preloaded; the loader complains on stderr if it can't.
std::string loader_complaint(const std::string& limiter) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return "";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    const int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, STDOUT_FILENO);
    const std::string preload = "LD_PRELOAD=" + limiter;
    char* const argv[] = {const_cast<char*>("vgpu"), const_cast<char*>("--version"), nullptr};
    char* const environment[] = {const_cast<char*>(preload.c_str()), nullptr};
    execve("/proc/self/exe", argv, environment);
    _exit(0);
  }
  close(ends[1]);
  std::string said;
  std::array<char, 1024> chunk{};
  ssize_t got = 0;
  while ((got = read(ends[0], chunk.data(), chunk.size())) > 0)
    said.append(chunk.data(), static_cast<std::size_t>(got));
  close(ends[0]);
  int status = 0;
  if (child > 0) waitpid(child, &status, 0);
  if (said.empty() && status != 0) said = "a program with it preloaded does not run";
  return said.substr(0, said.find('\n'));
}

bool names_limiter(const std::string& text) {
  return text.find("libcuda_limiter.so") != std::string::npos;
}

void check_preload(const Installation& installation, Report& report) {
  if (installation.limiter.empty()) {
    report.add("limiter", Health::problem,
               fmt::format("libcuda_limiter.so is not found (looked at {})", installation.searched),
               "set VGPU_LIBRARY to its path");
  } else if (const std::string complaint = loader_complaint(installation.limiter);
             !complaint.empty()) {
    report.add("limiter", Health::problem, complaint, "use a build for this machine and this libc");
  } else {
    report.add("limiter", Health::ok,
               fmt::format("{}; vgpu run puts it into LD_PRELOAD", installation.limiter));
  }
  if (!installation.add_path.empty()) report.add("add_path", Health::ok, installation.add_path);
  std::ifstream file("/etc/ld.so.preload");
  std::string listed, entry;
  while (file >> entry) {
    if (names_limiter(entry)) listed = entry;
  }
  if (!listed.empty() && access(listed.c_str(), R_OK) != 0) {
    report.add(
        "preload", Health::problem,
        fmt::format(
            "/etc/ld.so.preload names {}, which can't be read: nothing has the limiter by it",
            listed),
        "correct the path, or make the file readable for all (chmod a+r)");
  } else if (!listed.empty()) {
    report.add(
        "preload", Health::ok,
        fmt::format("/etc/ld.so.preload holds {}: every dynamic program here has it", listed));
  } else {
    report.add("preload", Health::info,
               "/etc/ld.so.preload does not hold the limiter: only what vgpu run or LD_PRELOAD "
               "starts is limited",
               "for a whole container: put its path into /etc/ld.so.preload there");
  }
  const char* preload = std::getenv("LD_PRELOAD");
  if (preload != nullptr && *preload != '\0') {
    report.add("preload", Health::info,
               fmt::format("LD_PRELOAD={}: {}", preload,
                           names_limiter(preload) ? "programs started from here have the limiter"
                                                  : "stays, behind the limiter"));
  }
}

void check_state(const Snapshot& snapshot, Report& report) {
  const shm::StateDir dir = state_directory(false);
  if (dir.error != 0) {
    report.add("state", Health::problem,
               fmt::format("{} can't be used: {}", dir.path.view(), std::strerror(dir.error)),
               "set VGPU_STATE_DIR to a directory that you can write (on a memory file system, if "
               "there is one)");
    return;
  }
  report.add("state", Health::ok, fmt::format("{}", dir.path.view()));
  if (!snapshot.seats_unreadable.empty()) {
    report.add("state", Health::problem,
               fmt::format("{}/node.seats is {}: compute shares and limits can't be kept",
                           dir.path.view(), snapshot.seats_unreadable),
               "end all tenants and remove the file");
  }
}

// `silent`: those that are there and don't answer.
void check_daemon(Report& report, std::optional<client::Daemon> daemon,
                  const std::vector<std::string>& silent) {
  for (const std::string& why : silent)
    report.add("daemon", Health::problem, why, "look at its log, or start it again");
  if (!daemon && silent.empty()) {
    report.add("daemon", Health::info,
               "none: quotas hold among the processes of this user, who could change them",
               "where several users share the GPUs: hypervisor daemon, as root");
  }
  if (!daemon) return;
  const std::string directory(state_directory(false).path.view());
  const client::Json node = daemon->get("/api/v2/node");
  const std::string who = fmt::format("{}, version {}", daemon->address().text(),
                                      node.value("version", std::string("unknown")));
  if (client::looks_after(node, directory)) {
    report.add(
        "daemon", Health::ok,
        fmt::format("{}: looks after {}{}", who, directory,
                    node.value("hosts_arbiter", false) ? " and hosts the arbiter"
                                                       : "; a tenant's process hosts the arbiter"));
  } else {
    report.add("daemon", Health::warning,
               fmt::format("{}: doesn't look after {}, so what is started here is found by it as "
                           "a process without a tenant",
                           who, directory),
               "unset VGPU_STATE_DIR, or tenants.directories in the daemon's settings");
  }
  for (const auto& note : node.value("notes", client::Json::array()))
    report.add("daemon", Health::warning, note.get<std::string>());
}

void check_daemon(Report& report) {
  try {
    std::vector<std::string> silent;
    auto daemon = client::find_daemon(client::usual_addresses(), "", &silent);
    check_daemon(report, std::move(daemon), silent);
  } catch (const survey::Problem& problem) {  // VGPU_SOCKET
    report.add("daemon", Health::problem, problem.what, problem.next);
  } catch (const std::exception& trouble) {
    report.add("daemon", Health::problem, trouble.what(), "look at its log, or start it again");
  }
}

void check_watch(Report& report) {
  const int news = inotify_init1(IN_CLOEXEC);
  if (news < 0) {
    report.add("watch", Health::warning,
               "the kernel gives no more inotify instances, so escapes are looked for by polling",
               "raise fs.inotify.max_user_instances");
  } else {
    close(news);
  }
  const auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  if (pidfd < 0) {
    report.add("watch", Health::warning,
               fmt::format("no pidfd_open here ({}): deaths are seen by start times alone",
                           std::strerror(errno)),
               "Linux 5.3 or newer, and a sandbox that lets the call through");
  } else {
    close(pidfd);
    report.add("watch", Health::ok,
               "processes of a run that open the GPU without the limiter are seen");
  }
}

void check_variables(const Driver& driver, Report& report) {
  std::vector<std::string> known;
  for (const auto& variable : settings::variables()) known.emplace_back(variable.name);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string name(text.substr(0, text.find('=')));
    const std::string value(text.size() > name.size() ? text.substr(name.size() + 1) : "");
    if (const auto* variable = settings::find_variable(name)) {
      report.variables.push_back({name, value, std::string(settings::describe(variable->effect)),
                                  std::string(variable->text)});
    } else if (name.starts_with("VGPU_") && !name.starts_with("VGPU_SIM_")) {
      const std::string_view guess = nearest(name, known);
      report.add("variable", Health::warning,
                 fmt::format("{} is no variable of vgpu and has no effect", name),
                 guess.empty() ? "docs/settings.md lists them" : fmt::format("{}?", guess));
    }
  }
  const ProcessEnvironment environment;
  settings::Messages messages;
  if (driver.available && !driver.gpus.empty()) {
    std::vector<settings::GpuIdentity> gpus;
    for (const auto& gpu : driver.gpus)
      gpus.push_back({gpu.uuid, gpu.nvml_index, gpu.total_bytes.value_or(0)});
    settings::ResolvedQuotas quotas;
    settings::resolve_quotas(environment, gpus, driver_model::kLeastLimitBytes, quotas, messages);
    FixedVector<std::uint32_t, settings::kMaxGpus> positions;
    if (messages.errors.empty()) settings::resolve_gpu_set(environment, gpus, positions, messages);
  } else {
    settings::check_syntax(environment, messages);
  }
  for (const auto& error : messages.errors) {
    report.add("variable", Health::problem, std::string(error.view()),
               "GPU initialisation fails until it is right or unset");
  }
  for (const auto& notice : messages.notices)
    report.add("variable", Health::warning, std::string(notice.view()));
}

void check_enforcement(const Snapshot& snapshot, Report& report) {
  const Driver& driver = snapshot.driver;
  report.add("enforced", Health::ok,
             "memory limits: on every path of allocation, over all processes of a tenant");
  report.add("enforced", Health::ok,
             "compute limits, and shares among your tenants: over all processes of a tenant");
  for (const auto& gpu : driver.gpus) {
    for (const auto& note : share_notes(shares_on(snapshot, gpu.uuid)))
      report.add("enforced", Health::warning, fmt::format("GPU {}: {}", gpu.nvml_index, note),
                 "vgpu ls");
  }
  report.add("enforced", Health::info,
             "static, setuid and foreign-libc programs can't be limited: vgpu run refuses them, ls "
             "shows them as UNLIMITED");
  const bool has_daemon = std::any_of(
      report.checks.begin(), report.checks.end(),
      [](const Check& check) { return check.about == "daemon" && check.health == Health::ok; });
  if (!has_daemon) {
    report.add("enforced", Health::info,
               "other users' processes are not held by your limits: there is no daemon here");
  }
  std::size_t processes = 0;
  for (const auto& gpu : driver.gpus) processes += gpu.processes.size();
  if (processes > 0)
    report.add("enforced", Health::info, fmt::format("{} processes are on the GPUs now", processes),
               "vgpu ls");
}

std::string report_text(const Report& report, const Style& style) {
  std::string out;
  for (const auto& check : report.checks) {
    std::string_view color;
    switch (check.health) {
      case Health::ok:
        color = style.green;
        break;
      case Health::info:
        color = style.dim;
        break;
      case Health::warning:
        color = style.yellow;
        break;
      case Health::problem:
        color = style.red;
        break;
    }
    out += fmt::format("{}{:<8}{} {:<9} {}\n", color, health_name(check.health), style.plain,
                       check.about, check.text);
    if (!check.next.empty()) out += fmt::format("{:18} do: {}\n", "", check.next);
  }
  for (const auto& variable : report.variables) {
    out += fmt::format("{:<8} {:<9} {}={}\n{:18} {}: {}\n", "set", "variable", variable.name,
                       variable.value, "", variable.effect, variable.text);
  }
  return out;
}

Json report_json(const Report& report) {
  Json checks = Json::array(), variables = Json::array();
  for (const auto& check : report.checks) {
    checks.push_back({{"about", check.about},
                      {"status", std::string(health_name(check.health))},
                      {"text", check.text},
                      {"do", check.next.empty() ? Json(nullptr) : Json(check.next)}});
  }
  for (const auto& variable : report.variables) {
    variables.push_back({{"name", variable.name},
                         {"value", variable.value},
                         {"effect", variable.effect},
                         {"text", variable.text}});
  }
  return {{"version", 1},
          {"enforced", {{"memory", true}, {"compute", true}}},
          {"checks", checks},
          {"variables", variables}};
}

}  // namespace

int doctor_verb(const DoctorOptions& options) {
  Report report;
  const Installation installation = find_installation();
  const Snapshot snapshot = look(simulation_wanted(options.simulated));
  const Driver& driver = snapshot.driver;
  check_driver(installation, driver, report);
  check_gpus(driver, report);
  check_preload(installation, report);
  check_state(snapshot, report);
  check_daemon(report);
  check_watch(report);
  check_variables(driver, report);
  check_enforcement(snapshot, report);
  if (options.json) {
    fmt::print("{}\n", report_json(report).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}", report_text(report, Style::for_descriptor(STDOUT_FILENO)));
  }
  const bool well =
      std::none_of(report.checks.begin(), report.checks.end(),
                   [](const Check& check) { return check.health == Health::problem; });
  return well ? 0 : 1;
}

}  // namespace vgpu::cli
