// SPDX-License-Identifier: Apache-2.0
#include "command_pages.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "commands.h"
#include "settings.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor::settings {
using survey::roff;

namespace {

struct Flag {
  std::string name;   // "--guard-grace"
  std::string value;  // "DURATION"; empty: takes none
  std::string text;
};

struct Command {
  std::string name;  // "config check"
  std::string text;
  std::vector<Flag> flags;
  std::vector<std::string> positionals;  // "FILE"
};

// Those without a group are of the predecessor, refused or without effect: nobody is offered them.
void collect(const CLI::App& app, const std::string& name, std::vector<Command>& all) {
  const auto below = app.get_subcommands([](const CLI::App*) { return true; });
  if (below.empty()) {
    Command command{name, app.get_description(), {}, {}};
    for (const auto* option : app.get_options()) {
      if (!option->nonpositional()) {
        command.positionals.push_back(option->get_type_name());
      } else if (!option->get_lnames().empty() && !option->get_group().empty()) {
        command.flags.push_back(
            {"--" + option->get_lnames().front(),
             option->get_items_expected_max() > 0 ? option->get_type_name() : "",
             option->get_description()});
      }
    }
    all.push_back(std::move(command));
  }
  for (const auto* sub : below)
    collect(*sub, name.empty() ? sub->get_name() : name + " " + sub->get_name(), all);
}

std::vector<Command> commands() {
  Run unused;
  const auto app = declare_commands(unused);
  std::vector<Command> all;
  collect(*app, "", all);
  return all;
}

// The words that a flag's value is one of, with blanks between; empty: free.
std::string choices(const Flag& flag) {
  for (const Row& row : rows()) {
    if (row.flag != flag.name) continue;
    std::string words(row.kind == Kind::choice    ? row.form
                      : row.kind == Kind::boolean ? std::string_view("true|false")
                                                  : std::string_view());
    std::replace(words.begin(), words.end(), '|', ' ');
    return words;
  }
  return "";
}

bool takes_file(const Flag& flag) { return flag.value == "PATH" || flag.value == "FILE"; }

// For what stands in single quotes.
std::string in_quotes(std::string text, const std::string& instead) {
  for (auto at = text.find('\''); at != std::string::npos;
       at = text.find('\'', at + instead.size()))
    text.replace(at, 1, instead);
  return text;
}

std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':') out += '\\';
    out += c;
  }
  return in_quotes(out, "'\\''");
}

}  // namespace

std::string command_man_page() {
  std::string out = fmt::format(
      ".TH HYPERVISOR 8 \"\" \"vgpu {}\" \"vgpu\"\n.SH NAME\nhypervisor \\- looks after the GPUs "
      "of "
      "this machine\n.SH SYNOPSIS\n.B hypervisor\n.I COMMAND\n[options]\n.SH DESCRIPTION\n"
      "The daemon sees every process on every GPU, hosts the arbiter of its user's tenants, "
      "changes "
      "their quotas, keeps history and serves an API, a page and metrics. It needs no settings.\n"
      ".PP\nSIGTERM and SIGINT end it; tenants go on. SIGHUP reads the settings again.\n"
      ".SH COMMANDS\n",
      VGPU_VERSION);
  for (const Command& command : commands()) {
    out += fmt::format(".SS hypervisor {}", roff(command.name));
    for (const std::string& positional : command.positionals) out += " [" + roff(positional) + "]";
    out += "\n" + roff(command.text) + "\n";
    for (const Flag& flag : command.flags) {
      out += fmt::format(".TP\n\\fB{}\\fR{}\n{}\n", roff(flag.name),
                         flag.value.empty() ? "" : " \\fI" + roff(flag.value) + "\\fR",
                         roff(flag.text));
    }
  }
  return out +
         ".SH EXIT STATUS\n0: ended as asked. 1: failed. 2: not understood.\n.SH FILES\n.I "
         "/etc/vgpu/hypervisor.toml\n.br\n.I ~/.config/vgpu/hypervisor.toml\n.SH SEE ALSO\n.BR "
         "hypervisor.toml (5),\n.BR vgpu (1)\n";
}

std::string bash_completion() {
  std::string out =
      "# bash completion of hypervisor\n_hypervisor() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local typed=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" words=''\n  COMPREPLY=()\n";
  std::string first, cases, values, files;
  std::vector<std::string> seen_values;
  std::string config;
  for (const Command& command : commands()) {
    const std::string head = command.name.substr(0, command.name.find(' '));
    if (first.find(head) == std::string::npos) first += head + " ";
    std::string flags = "--help";
    for (const Flag& flag : command.flags) {
      if (flag.name != "--help") flags += " " + flag.name;
      if (flag.value.empty() ||
          std::find(seen_values.begin(), seen_values.end(), flag.name) != seen_values.end())
        continue;
      seen_values.push_back(flag.name);
      if (takes_file(flag)) {
        files += (files.empty() ? "" : "|") + flag.name;
      } else {
        values += fmt::format("    {}) COMPREPLY=($(compgen -W '{}' -- \"$current\")); return ;;\n",
                              flag.name, choices(flag));
      }
    }
    if (head != command.name) config += command.name.substr(head.size() + 1) + " ";
    cases += fmt::format("    '{} '*) words='{}'{} ;;\n", command.name, flags,
                         command.positionals.empty() ? "" : "; compopt -o default 2>/dev/null");
  }
  out += "  if [[ $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W '" + first +
         "--help --version' -- \"$current\")); return; fi\n";
  out +=
      "  if [[ $COMP_CWORD -eq 2 && ${COMP_WORDS[1]} == config ]]; then COMPREPLY=($(compgen -W '" +
      config + "' -- \"$current\")); return; fi\n";
  out += "  case $previous in\n" + values;
  if (!files.empty()) out += "    " + files + ") compopt -o default 2>/dev/null; return ;;\n";
  out += "  esac\n  case \"$typed \" in\n" + cases + "  esac\n";
  return out +
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}\ncomplete -F _hypervisor "
         "hypervisor\n";
}

std::string zsh_completion() {
  std::string out = "#compdef hypervisor\n_hypervisor() {\n  local -a commands\n  commands=(\n";
  std::string last, below;
  for (const Command& command : commands()) {
    const std::size_t blank = command.name.find(' ');
    const std::string head = command.name.substr(0, blank);
    if (blank != std::string::npos) below += command.name.substr(blank + 1) + " ";
    if (head != last)
      out += fmt::format("    '{}:{}'\n", head,
                         blank == std::string::npos ? zsh_text(command.text) : "settings");
    last = head;
  }
  out +=
      "  )\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
      "  local command=$words[2]\n  shift words; (( CURRENT-- ))\n"
      "  if [[ $command == config ]]; then\n    if (( CURRENT == 2 )); then compadd " +
      below +
      "; return; fi\n    command=\"config $words[2]\"; shift words; (( CURRENT-- ))\n  fi\n"
      "  case $command in\n";
  for (const Command& command : commands()) {
    out += fmt::format("    '{}') _arguments -S", command.name);
    for (const Flag& flag : command.flags) {
      const std::string list = choices(flag);
      out += fmt::format(" \\\n      '{}[{}]{}'", flag.name, zsh_text(flag.text),
                         flag.value.empty() ? ""
                         : takes_file(flag) ? fmt::format(":{}:_files", flag.value)
                                            : fmt::format(":{}:{}", zsh_text(flag.value),
                                                          list.empty() ? "" : "(" + list + ")"));
    }
    if (!command.positionals.empty()) out += " \\\n      '::file:_files'";
    out += " ;;\n";
  }
  return out + "  esac\n}\n_hypervisor \"$@\"\n";
}

std::string fish_completion() {
  std::string out = "# fish completion of hypervisor\ncomplete -c hypervisor -f\n";
  for (const Command& command : commands()) {
    const std::size_t blank = command.name.find(' ');
    const std::string head = command.name.substr(0, blank);
    std::string condition = fmt::format("__fish_seen_subcommand_from {}", head);
    if (blank == std::string::npos) {
      out += fmt::format("complete -c hypervisor -n __fish_use_subcommand -a {} -d '{}'\n", head,
                         in_quotes(command.text, "\\'"));
    } else {
      const std::string tail = command.name.substr(blank + 1);
      out += fmt::format("complete -c hypervisor -n __fish_use_subcommand -a {}\n", head);
      out += fmt::format("complete -c hypervisor -n '{}' -a {} -d '{}'\n", condition, tail,
                         in_quotes(command.text, "\\'"));
      condition += fmt::format("; and __fish_seen_subcommand_from {}", tail);
    }
    for (const Flag& flag : command.flags) {
      const std::string list = choices(flag);
      out += fmt::format(
          "complete -c hypervisor -n '{}' -l {}{}{} -d '{}'\n", condition, flag.name.substr(2),
          flag.value.empty() ? ""
          : takes_file(flag) ? " -r -F"
                             : " -x",
          list.empty() ? "" : fmt::format(" -a '{}'", list), in_quotes(flag.text, "\\'"));
    }
    if (!command.positionals.empty())
      out += fmt::format("complete -c hypervisor -n '{}' -F\n", condition);
  }
  return out;
}

}  // namespace vgpu::hypervisor::settings
