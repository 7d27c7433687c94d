// SPDX-License-Identifier: Apache-2.0
// The command line's grammar, and the help that teaches it.
#include "options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

#ifndef VGPU_VERSION
#define VGPU_VERSION "0"
#endif

namespace vgpu::cli {

using survey::kExitNotStarted, survey::kExitUsage, survey::nearest, survey::Problem,
    survey::QuotaFlags;

namespace {

constexpr const char* kRunExit =
    "The program's own status. 125: could not start it as asked, or ended it because one of its "
    "processes would have "
    "escaped the limit. 126: not executable. 127: not found. 128+n: ended by signal n.";
constexpr const char* kPlainExit = "0: done. 1: failed. 2: not understood.";

const std::map<std::string, Lesson>& lessons() {
  static const std::map<std::string, Lesson> all = {
      {"",
       {"Gives a program a part of a GPU: so much memory and no more, whatever path it takes to "
        "allocate it, and so much of its time. "
        "The program sees a GPU of that size; nvidia-smi inside shows it too. No root, no daemon, "
        "no kernel module.",
        {{"a GPU of 4 GiB for a training", "vgpu run --memory 4GiB -- python train.py"},
         {"half of its time too, when others want it",
          "vgpu run --memory 4GiB --compute 50 -- python train.py"},
         {"who has what", "vgpu ls"},
         {"who gets what, live", "vgpu top"},
         {"what holds a tenant back", "vgpu why train"},
         {"more of it, while it runs", "vgpu set train --memory 8GiB --compute 70"},
         {"a shell inside a running tenant", "vgpu exec train -- bash"},
         {"why something does not work here", "vgpu doctor"},
         {"without any GPU", "vgpu run --simulated --memory 4GiB -- nvidia-smi"}},
        kPlainExit}},
      {"run",
       {"Runs PROGRAM as a tenant of its own: it and all processes that it starts share one quota "
        "on each GPU. An "
        "allocation that would pass the memory limit fails at once with the error that its API "
        "documents for out of "
        "memory; what is freed can be had again at once.\n\n"
        "Sizes are a number with B, K, M, G or T, with or without iB: 4GiB, 1.5G, 512m; bare "
        "numbers are bytes, all "
        "of it binary. Percents are whole numbers from 1 to 100. `none` means no limit. Either one "
        "value for all GPUs or "
        "GPU=VALUE with commas between. A GPU is named by its index in nvidia-smi -L, by its UUID, "
        "or by the UUID's "
        "beginning.\n\n"
        "--compute is the share of the GPU's time that the tenant is owed while others want it "
        "too; "
        "it may also have what "
        "they leave, up to --compute-limit (none unless given). --policy fixed makes the limit "
        "equal the "
        "share, also on an idle "
        "GPU. --priority high goes first while it is within its share; time left over goes by "
        "priority, then by share. "
        "Tenants without a share split what is left.\n\n"
        "Shares on a GPU that would add up to more than 100 are refused; with --oversubscribe all "
        "of them are scaled "
        "down while everybody wants the GPU. --require-share starts the program only if its share "
        "can be kept: it is "
        "refused also where a process is on the GPU that none of your limiters holds (without the "
        "flag that is said, and "
        "the share is best effort).\n\n"
        "--gpus takes so many GPUs where the quota fits, the fullest first, so that whole ones "
        "stay "
        "free. --wait waits where there is no "
        "room: with a daemon in the order of priority and arrival, without one by looking "
        "again.\n\n"
        "Where a daemon looks after this machine's GPUs, it decides: memory limits on a GPU never "
        "add "
        "up to more than it has, and a user has an "
        "allowance. VGPU_SOCKET=none starts without it.\n\n"
        "What can't be held to a limit is refused before it starts: static, setuid and "
        "foreign-libc programs, sudo, "
        "docker, tmux and the like (the message says how to do it instead). A process of the run "
        "that opens the GPU "
        "without the limiter in it ends the run.\n\n"
        "The same quantities can be given as variables (VGPU_MEMORY_LIMIT, VGPU_COMPUTE, "
        "VGPU_COMPUTE_LIMIT, "
        "VGPU_POLICY, VGPU_PRIORITY, VGPU_GPUS); a flag wins over its variable.",
        {{"4 GiB of every GPU", "vgpu run --memory 4GiB -- python train.py"},
         {"one GPU, 8 GiB of it and a quarter of its time",
          "vgpu run --gpu 0 --memory 8GiB --compute 25 -- python serve.py"},
         {"different limits on two GPUs",
          "vgpu run --gpu 0,1 --memory 0=4GiB,1=16GiB -- ./simulate"},
         {"never more than a fifth of the time, also when it is idle",
          "vgpu run --compute 20 --policy fixed -- python train.py"},
         {"goes first, and only where its share is sure",
          "vgpu run --compute 30 --priority high --require-share -- python serve.py"},
         {"two GPUs with room for it, whichever they are; wait up to an hour for them",
          "vgpu run --gpus 2 --memory 40GiB --compute 50 --wait=1h -- python train.py"},
         {"a name to find it by", "vgpu run --name chat --memory 20GiB -- python serve.py"},
         {"see the virtual GPU", "vgpu run --memory 4GiB -- nvidia-smi"}},
        kRunExit}},
      {"exec",
       {"Runs PROGRAM as one more process of a running tenant, under the same quota. TENANT is a "
        "name, an id, or the "
        "beginning of one, as vgpu ls shows them.",
        {{"look at the GPU as the tenant sees it", "vgpu exec train -- nvidia-smi"},
         {"a shell that shares the tenant's limit", "vgpu exec train -- bash"}},
        kRunExit}},
      {"set",
       {"Changes a running tenant's quota, live. What isn't named stays. "
        "Values are as with vgpu "
        "run: one for all of the tenant's GPUs, or GPU=VALUE with commas between; `none` lifts a "
        "limit or a share.\n\n"
        "A memory limit below what the tenant holds is refused, with the figure. --when-free waits "
        "instead: the limit comes "
        "down with what is held, so that use can only fall, until the wanted one is reached. "
        "Ctrl-C ends the wait and puts "
        "the old limit back.\n\n"
        "Raising a share so that those on a GPU add up to more than 100 is refused, unless "
        "--oversubscribe is given: then all of "
        "them are scaled down while everybody wants the GPU.",
        {{"half of the GPU's time", "vgpu set train --compute 50"},
         {"never more than its share", "vgpu set train --policy fixed"},
         {"less memory, as soon as it lets go of some", "vgpu set train --memory 2GiB --when-free"},
         {"one of its GPUs", "vgpu set train --gpu 1 --compute none --compute-limit 20"}},
        "0: changed. 1: refused or failed. 2: not understood. 128+n: the wait was ended by signal "
        "n; "
        "all is as it was."}},
      {"ls",
       {"Shows each GPU with its tenants: their processes, what they hold, their limits and "
        "shares, and who set them. "
        "Processes on a GPU without a limiter are listed as UNLIMITED; beside them shares are best "
        "effort, and the line "
        "below says so. What isn't known is \"-\", in JSON null.",
        {{"everything", "vgpu ls"},
         {"one tenant or one GPU", "vgpu ls train"},
         {"for scripts", "vgpu ls --json | jq '.tenants[].gpus[].memory.used_bytes'"}},
        kPlainExit}},
      {"top",
       {"Shows live what each tenant is owed of each GPU and what it gets: averages over the last "
        "second and the last ten, how "
        "long it waited for turns and for its own limit, its debt, memory, and a line of the last "
        "seconds. OWED is what it is "
        "due while it wants the GPU. TURN and CAP are the parts of the "
        "last second, in percent, in which its launches waited for their turn, and for its own "
        "compute limit.\n\n"
        "Where a daemon answers (VGPU_SOCKET, else hypervisor.sock in the state directory, else "
        "/run/vgpu/hypervisor.sock) it is asked, else the tenants' segments are read; the first "
        "line says which.\n\n"
        "Keys: 1 tenants, 2 GPUs, 3 processes, 4 events, Tab the next of these; arrows, PgUp, "
        "PgDn, Home, End move; Enter shows a tenant's quota, history, processes and what held it "
        "back, Esc leads back; c changes a quota, and shows before and after first; space, + and - "
        "open and close a tenant's processes, * all of them; < "
        "and > choose the column to sort by, I turns the order round; P, M, W, D, N sort by got, "
        "memory, wait, debt, name; / or F4 "
        "filters by name, Esc clears it; Z pauses; ? or F1 helps; q quits.\n\n"
        "Without a terminal, or with --once, it prints one table and exits.",
        {{"", "vgpu top"},
         {"one tenant or one GPU", "vgpu top train"},
         {"twice a second", "vgpu top --interval 0.5"},
         {"for scripts", "vgpu top --json | jq '.gpus[].tenants[] | {name, got_1s_percent}'"}},
        kPlainExit}},
      {"why",
       {"Says in words, with figures, what held a tenant back in the last seconds: its compute "
        "limit, waiting for its turn and "
        "behind whom, debt, refused memory, work of its own in flight, a neighbour that never "
        "yields, having no share, or its "
        "own idleness. Looks twice, one second apart.",
        {{"", "vgpu why train"},
         {"for scripts", "vgpu why train --json | jq -r '.gpus[].causes[].kind'"}},
        kPlainExit}},
      {"doctor",
       {"Checks what vgpu needs and what it can enforce here: driver, GPUs, how the limiter gets "
        "into programs, the state "
        "directory, each variable that is set and its effect. Every line that isn't ok says what "
        "to do.",
        {{"", "vgpu doctor"}, {"for scripts", "vgpu doctor --json"}},
        "0: all is well, warnings included. 1: something does not work. 2: not understood."}},
      {"completion",
       {"Prints the completion script for a shell. Packages install them; this is for a copy of "
        "your own.",
        {{"bash", "source <(vgpu completion bash)"},
         {"zsh", "vgpu completion zsh > ~/.zfunc/_vgpu"},
         {"fish", "vgpu completion fish > ~/.config/fish/completions/vgpu.fish"}},
        kPlainExit}},
  };
  return all;
}

void declare_quota(CLI::App& app, QuotaFlags& quota, std::string& gpus, const char* which_gpus,
                   const char* memory_text) {
  app.add_option("--gpu", gpus, which_gpus)->type_name("LIST")->group("Quota");
  app.add_option("--memory", quota.memory, memory_text)->type_name("SIZE")->group("Quota");
  app.add_option("--compute", quota.compute,
                 "share of the GPU's time that it is owed when others want it, 1-100")
      ->type_name("PERCENT")
      ->group("Quota");
  app.add_option("--compute-limit", quota.compute_limit,
                 "most of the GPU's time, also when it is idle")
      ->type_name("PERCENT")
      ->group("Quota");
  app.add_option("--policy", quota.policy,
                 "elastic: more than the share when others leave time; fixed: never more")
      ->type_name("POLICY")
      ->group("Quota");
  app.add_option("--priority", quota.priority, "high, normal or low: who goes first")
      ->type_name("PRIORITY")
      ->group("Quota");
}

void declare_run(CLI::App& app, RunOptions& run) {
  declare_quota(app, run, run.gpus, "only these GPUs: indexes, UUIDs or their beginnings, or all",
                "most device memory (default: all of it)");
  app.add_option("--gpus", run.gpu_count, "so many GPUs, where the quota fits")
      ->type_name("NUMBER")
      ->group("Quota");
  app.add_option_function<std::string>(
         "--wait",
         [&run](const std::string& time) {
           run.wait = true;
           run.wait_time = time;
         },
         "where there is no room, wait for it; at most so long, as 90s, 10m, 2h")
      ->expected(0, 1)
      ->type_name("TIME")
      ->group("Quota");
  app.add_flag("--require-share", run.require_share, "start only if the share can be kept")
      ->group("Quota");
  app.add_flag("--oversubscribe", run.oversubscribe,
               "let shares add up to more than 100; all are scaled down then")
      ->group("Quota");
  app.add_option("--name", run.name, "name to find it by in ls, top, set, why and exec")
      ->type_name("NAME")
      ->group("Run");
  app.add_flag("--simulated", run.simulated, "use the simulated GPU (also VGPU_SIMULATED=1)")
      ->group("Run");
  app.add_flag("-q,--quiet", run.quiet, "don't print the resulting quota")->group("Run");
}

void declare_set(CLI::App& app, SetOptions& set) {
  app.add_option("tenant", set.tenant)->type_name("TENANT");
  declare_quota(app, set, set.gpus, "only on these of its GPUs (default: all of them)",
                "most device memory");
  app.add_flag("--when-free", set.when_free,
               "wait until the memory in use has fallen below the new limit")
      ->group("Quota");
  app.add_flag("--oversubscribe", set.oversubscribe,
               "let shares add up to more than 100; all are scaled down then")
      ->group("Quota");
  app.add_flag("--json", set.json, "machine-readable")->group("Output");
}

void declare_top(CLI::App& app, TopOptions& top) {
  app.add_option("only", top.only)->type_name("TENANT|GPU");
  app.add_flag("--once", top.once, "print one table and exit")->group("Output");
  app.add_flag("--json", top.json, "one snapshot, machine-readable")->group("Output");
  app.add_option("--interval", top.interval, "seconds between two looks, 0.1 to 60 (default: 1)")
      ->type_name("SECONDS")
      ->group("Output");
  app.add_option("--sort", top.sort, "column to sort by: name, share, got, wait, debt or memory")
      ->type_name("COLUMN")
      ->group("Output");
  app.add_flag("--simulated", top.simulated, "of the simulated GPU (also VGPU_SIMULATED=1)")
      ->group("Output");
}

void declare_why(CLI::App& app, WhyOptions& why) {
  app.add_option("tenant", why.tenant)->type_name("TENANT");
  app.add_flag("--json", why.json, "machine-readable")->group("Output");
  app.add_flag("--simulated", why.simulated, "on the simulated GPU (also VGPU_SIMULATED=1)")
      ->group("Output");
}

CLI::App* add_verb(CLI::App& app, const std::string& name, const std::string& summary, Verb verb,
                   Request& request) {
  CLI::App* sub = app.add_subcommand(name, summary);
  sub->fallthrough(false);
  sub->callback([&request, verb] { request.verb = verb; });
  sub->set_help_flag("-h,--help", "this text");
  sub->get_help_ptr()->group("Other");
  return sub;
}

std::string wrapped(std::string_view text, std::size_t width, std::string_view indent) {
  std::string out, line(indent);
  std::size_t at = 0;
  auto flush = [&] {
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    line = indent;
  };
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find_first_of(" \n", at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (line.size() + word.size() > width && line.size() > indent.size()) flush();
    line.append(word);
    if (end < text.size() && text[end] == '\n') {
      flush();
    } else {
      line += ' ';
    }
    at = end + 1;
  }
  flush();
  return out;
}

std::string flag_names(const CLI::Option& option) {
  std::string names;
  for (const auto& name : option.get_snames()) names += (names.empty() ? "-" : ", -") + name;
  for (const auto& name : option.get_lnames()) names += (names.empty() ? "--" : ", --") + name;
  if (option.get_expected_min() > 0) {
    names += " " + option.get_type_name();
  } else if (option.get_items_expected_max() > 0) {
    names += "[=" + option.get_type_name() + "]";
  }
  return names;
}

std::string usage_of(const std::string& verb) {
  if (verb.empty()) return "vgpu COMMAND [options]";
  if (verb == "run") return "vgpu run [options] -- PROGRAM [ARGUMENT...]";
  if (verb == "exec") return "vgpu exec [options] TENANT -- PROGRAM [ARGUMENT...]";
  if (verb == "ls" || verb == "top") return "vgpu " + verb + " [options] [TENANT|GPU]";
  if (verb == "set" || verb == "why") return "vgpu " + verb + " [options] TENANT";
  if (verb == "completion") return "vgpu completion bash|zsh|fish";
  return "vgpu " + verb + " [options]";
}

std::string render_help(const CLI::App& app, const std::string& verb) {
  constexpr std::size_t kWidth = 96;
  const Lesson& taught = lesson(verb);
  std::string out = "Usage: " + usage_of(verb) + "\n\n" + wrapped(taught.description, kWidth, "");
  if (verb.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto* sub : app.get_subcommands({}))
      rows.push_back({sub->get_name(), sub->get_description()});
    out += "\nCommands (vgpu COMMAND --help says more)\n" + survey::table(rows, "  ");
  }
  auto groups = app.get_groups();
  std::stable_partition(groups.begin(), groups.end(),
                        [](const auto& group) { return group != "Other"; });
  for (const auto& group : groups) {
    std::vector<std::vector<std::string>> rows;
    for (const auto* option : app.get_options()) {
      if (option->get_group() == group && option->nonpositional())
        rows.push_back({flag_names(*option), option->get_description()});
    }
    if (!rows.empty()) out += "\n" + group + "\n" + survey::table(rows, "  ");
  }
  out += "\nExamples\n";
  for (const auto& [purpose, command] : taught.examples) {
    if (!purpose.empty()) out += "  # " + purpose + "\n";
    out += "  " + command + "\n";
  }
  return out + "\nExit status\n" + wrapped(taught.exit_codes, kWidth, "  ");
}

// run and exec: everything from the program on belongs to the program, with or without "--" in
// front.
struct Split {
  std::vector<std::string> ours;
  std::vector<std::string> command;
};

bool takes_value(const CLI::App& app, const std::string& word) {
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) {
      if (word == "--" + name) return option->get_expected_min() > 0;
    }
    for (const auto& name : option->get_snames()) {
      if (word == "-" + name) return option->get_expected_min() > 0;
    }
  }
  return false;
}

Split split_command(const CLI::App& app, const std::vector<std::string>& arguments,
                    std::size_t positionals) {
  Split split;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const bool flag = word.size() > 1 && word.front() == '-';
    if (word == "--" || (!flag && positionals == 0)) {
      split.command.assign(
          arguments.begin() + static_cast<std::ptrdiff_t>(i + (word == "--" ? 1 : 0)),
          arguments.end());
      break;
    }
    split.ours.push_back(word);
    if (!flag) {
      --positionals;
    } else if (takes_value(app, word) && i + 1 < arguments.size()) {
      split.ours.push_back(arguments[++i]);
    }
  }
  return split;
}

CLI::App* find_verb(CLI::App& app, const std::string& name) {
  for (auto* sub : app.get_subcommands([](CLI::App*) { return true; })) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

[[noreturn]] void explain(const CLI::App& app, const std::string& verb,
                          const std::vector<std::string>& arguments, const CLI::ParseError& error) {
  const int exit_code = verb == "run" || verb == "exec" ? kExitNotStarted : kExitUsage;
  const std::string help = verb.empty() ? "vgpu --help" : "vgpu " + verb + " --help";
  const auto flags = flags_of(app);
  for (const auto& argument : arguments) {
    if (!argument.starts_with('-')) continue;
    const std::string flag = argument.substr(0, argument.find('='));
    if (std::find(flags.begin(), flags.end(), flag) != flags.end() || !flag.starts_with("--"))
      continue;
    const std::string_view guess = nearest(flag, flags);
    const bool is_of_gpus = flag == "--simulated" && guess.empty();
    throw Problem(exit_code, "VG1002",
                  fmt::format("{} is no option of vgpu{}{}", flag, verb.empty() ? "" : " ", verb),
                  is_of_gpus      ? "without it: a tenant knows its GPUs"
                  : guess.empty() ? help
                                  : std::string(guess));
  }
  std::string what = error.what();
  std::replace(what.begin(), what.end(), '\n', ' ');
  throw Problem(exit_code, "VG1002", what, help);
}

}  // namespace

const Lesson& lesson(const std::string& verb) { return lessons().at(verb); }

std::shared_ptr<CLI::App> declare_commands(Request& request) {
  auto app = std::make_shared<CLI::App>("a part of a GPU for anything that runs CUDA", "vgpu");
  app->set_help_flag("-h,--help", "this text");
  app->get_help_ptr()->group("Options");
  app->set_version_flag("--version", std::string("vgpu ") + VGPU_VERSION, "print the version");
  app->require_subcommand(0, 1);

  declare_run(*add_verb(*app, "run", "run a program with a part of a GPU", Verb::run, request),
              request.run);

  CLI::App* exec = add_verb(*app, "exec", "run one more program in a tenant", Verb::exec, request);
  exec->add_option("tenant", request.exec.tenant)->type_name("TENANT");
  exec->add_flag("-q,--quiet", request.exec.quiet, "don't print the quota")->group("Run");

  declare_set(*add_verb(*app, "set", "change a running tenant's quota", Verb::set, request),
              request.set);

  CLI::App* list =
      add_verb(*app, "ls", "list GPUs, tenants and their processes", Verb::ls, request);
  list->add_option("only", request.list.only)->type_name("TENANT|GPU");
  list->add_flag("--json", request.list.json, "machine-readable")->group("Output");
  list->add_flag("--simulated", request.list.simulated,
                 "of the simulated GPU (also VGPU_SIMULATED=1)")
      ->group("Output");

  declare_top(*add_verb(*app, "top", "show live who is owed and gets what", Verb::top, request),
              request.top);
  declare_why(*add_verb(*app, "why", "say what held a tenant back", Verb::why, request),
              request.why);

  CLI::App* doctor = add_verb(*app, "doctor", "say what works here, what doesn't, and what to do",
                              Verb::doctor, request);
  doctor->add_flag("--json", request.doctor.json, "machine-readable")->group("Output");
  doctor
      ->add_flag("--simulated", request.doctor.simulated,
                 "for the simulated GPU (also VGPU_SIMULATED=1)")
      ->group("Output");

  CLI::App* completion =
      add_verb(*app, "completion", "print shell completion", Verb::completion, request);
  completion->add_option("shell", request.completion.shell)->type_name("SHELL");
  return app;
}

std::string help_text(const std::string& verb) {
  Request unused;
  const auto app = declare_commands(unused);
  return render_help(verb.empty() ? *app : *app->get_subcommand(verb), verb);
}

Parsed parse_arguments(const std::vector<std::string>& arguments) {
  Parsed parsed;
  const auto app = declare_commands(parsed.request);
  if (arguments.empty() || arguments.front() == "-h" || arguments.front() == "--help" ||
      arguments.front() == "help") {
    const std::string verb =
        arguments.size() > 1 && arguments.front() == "help" ? arguments[1] : "";
    if (lessons().count(verb) != 0) {
      parsed.text = help_text(verb);
      parsed.exit_code = arguments.empty() ? kExitUsage : 0;
      return parsed;
    }
  }
  if (arguments.front() == "--version") {
    parsed.text = std::string("vgpu ") + VGPU_VERSION + "\n";
    return parsed;
  }
  const std::string& verb = arguments.front();
  CLI::App* sub = find_verb(*app, verb);
  if (sub == nullptr) {
    std::vector<std::string> verbs;
    for (const auto* known : app->get_subcommands({})) verbs.push_back(known->get_name());
    const std::string_view guess = nearest(verb, verbs);
    const std::string what = verb.starts_with('-') ? "option" : "command";
    throw Problem(kExitUsage, "VG1001", fmt::format("{} is no {} of vgpu", verb, what),
                  guess.empty() ? "vgpu --help" : fmt::format("vgpu {}", guess));
  }
  Split split{{arguments.begin() + 1, arguments.end()}, {}};
  if (verb == "run" || verb == "exec")
    split = split_command(*sub, split.ours, verb == "exec" ? 1 : 0);
  if (std::any_of(split.ours.begin(), split.ours.end(),
                  [](const auto& word) { return word == "-h" || word == "--help"; })) {
    parsed.text = help_text(verb);
    return parsed;
  }
  try {
    std::vector<std::string> reversed(split.ours.rbegin(), split.ours.rend());
    reversed.push_back(verb);
    app->parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    explain(*sub, verb, split.ours, error);
  }
  parsed.request.run.command = split.command;
  parsed.request.exec.command = split.command;
  parsed.proceed = true;
  return parsed;
}

}  // namespace vgpu::cli
