// SPDX-License-Identifier: Apache-2.0
// Shell completion and man pages, made of the declared commands, so that neither can forget a flag.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cstdio>
#include <vector>

#include "verbs.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

#ifndef VGPU_VERSION
#define VGPU_VERSION "0"
#endif

namespace vgpu::cli {

using survey::kExitUsage, survey::Problem, survey::roff;

namespace {

struct Flag {
  std::string long_name;   // "memory"
  std::string short_name;  // "q", may be empty
  std::string value;       // "SIZE", empty: needs none
  std::string optional;    // "TIME" of --wait[=TIME]
  std::string text;
};

struct VerbText {
  std::string name;
  std::string text;
  std::vector<Flag> flags;
};

std::vector<Flag> described_flags(const CLI::App& app) {
  std::vector<Flag> flags;
  for (const auto* option : app.get_options()) {
    if (!option->nonpositional() || option->get_lnames().empty()) continue;
    flags.push_back({option->get_lnames().front(),
                     option->get_snames().empty() ? "" : option->get_snames().front(),
                     option->get_expected_min() > 0 ? option->get_type_name() : "",
                     option->get_expected_min() == 0 && option->get_items_expected_max() > 0
                         ? option->get_type_name()
                         : "",
                     option->get_description()});
  }
  return flags;
}

std::vector<VerbText> verbs() {
  Request unused;
  const auto app = declare_commands(unused);
  std::vector<VerbText> all;
  for (const auto* sub : app->get_subcommands({}))
    all.push_back({sub->get_name(), sub->get_description(), described_flags(*sub)});
  return all;
}

std::string names(const std::vector<VerbText>& all) {
  std::string out;
  for (const auto& verb : all) out += (out.empty() ? "" : " ") + verb.name;
  return out;
}

// The words that a flag's value is one of; empty: free.
std::string choices(const std::string& flag) {
  if (flag == "policy") return "elastic fixed";
  if (flag == "priority") return "high normal low";
  if (flag == "sort") return "name share got wait debt memory";
  return "";
}

// Prints the tenants' names, one a line; has no single quote in it.
const std::string kTenantsCommand =
    R"(vgpu ls --json 2>/dev/null | sed -n "/^  \"tenants\": /,\$s/^ *\"name\": \"\(.*\)\",\{0,1\}$/\1/p")";

bool takes_tenant(const std::string& verb) {
  return verb == "exec" || verb == "set" || verb == "ls" || verb == "top" || verb == "why";
}

std::string bash_completion() {
  const auto all = verbs();
  std::string out =
      "# bash completion of vgpu; printed by: vgpu completion bash\n_vgpu() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} i\n"
      "  COMPREPLY=()\n"
      "  if [[ $COMP_CWORD -eq 1 ]]; then\n";
  out += fmt::format(
      "    COMPREPLY=($(compgen -W '{} --help --version' -- \"$current\"))\n    return\n  fi\n",
      names(all));
  out +=
      "  # Behind -- it is another program's command line.\n"
      "  for ((i = 2; i < COMP_CWORD; i++)); do\n"
      "    if [[ ${COMP_WORDS[i]} == -- ]]; then\n"
      "      if declare -F _command_offset >/dev/null && ((COMP_CWORD > i)); then _command_offset "
      "$((i + 1)); fi\n"
      "      return\n    fi\n  done\n"
      "  local tenants='" +
      kTenantsCommand +
      "'\n"
      "  case ${COMP_WORDS[1]} in\n";
  for (const auto& verb : all) {
    std::string flags, cases;
    for (const auto& flag : verb.flags) {
      flags += "--" + flag.long_name + " ";
      if (!flag.short_name.empty()) flags += "-" + flag.short_name + " ";
      if (!flag.value.empty() && choices(flag.long_name).empty())
        cases += fmt::format("        --{}) return ;;\n", flag.long_name);
      if (!choices(flag.long_name).empty()) {
        cases +=
            fmt::format("        --{}) COMPREPLY=($(compgen -W '{}' -- \"$current\")); return ;;\n",
                        flag.long_name, choices(flag.long_name));
      }
    }
    out += fmt::format("    {})\n      case $previous in\n{}        *) ;;\n      esac\n", verb.name,
                       cases);
    std::string words = flags;
    if (verb.name == "completion") words += "bash zsh fish";
    if (verb.name == "run" || verb.name == "exec") words += "--";
    if (takes_tenant(verb.name)) {
      out +=
          "      if [[ $current != -* ]]; then COMPREPLY=($(compgen -W \"$(eval \"$tenants\")\" -- "
          "\"$current\")); return; fi\n";
    }
    out += fmt::format("      COMPREPLY=($(compgen -W '{}' -- \"$current\")) ;;\n", words);
  }
  return out + "  esac\n}\ncomplete -F _vgpu vgpu\n";
}

std::string quoted(std::string text, char escaped) {
  for (auto at = text.find(escaped); at != std::string::npos; at = text.find(escaped, at + 2))
    text.insert(at, 1, '\\');
  return text;
}

// Inside a zsh _arguments specification brackets and colons have a meaning, and so has our own
// single quote.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      if (c == '[' || c == ']' || c == ':') out += '\\';
      out += c;
    }
  }
  return out;
}

std::string zsh_completion() {
  const auto all = verbs();
  std::string out =
      "#compdef vgpu\n# zsh completion of vgpu; printed by: vgpu completion zsh\n"
      "_vgpu_tenants() {\n  local -a names\n  names=(${(f)\"$(" +
      kTenantsCommand +
      ")\"})\n  compadd -a names\n}\n"
      "_vgpu() {\n  local -a commands\n  commands=(\n";
  for (const auto& verb : all) out += fmt::format("    '{}:{}'\n", verb.name, zsh_text(verb.text));
  out +=
      "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    _arguments "
      "'--help[this text]' '--version[print the version]'\n    return\n  fi\n"
      "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n";
  for (const auto& verb : all) {
    out += fmt::format("    {})\n      _arguments -S", verb.name);
    for (const auto& flag : verb.flags) {
      const std::string list = choices(flag.long_name);
      const std::string value =
          flag.value.empty()
              ? ""
              : fmt::format(":{}:{}", flag.value, list.empty() ? "" : "(" + list + ")");
      out += fmt::format(" \\\n        '--{}[{}]{}'", flag.long_name, zsh_text(flag.text), value);
      if (!flag.short_name.empty())
        out += fmt::format(" \\\n        '-{}[{}]{}'", flag.short_name, zsh_text(flag.text), value);
    }
    if (takes_tenant(verb.name)) out += " \\\n        '1:tenant:_vgpu_tenants'";
    if (verb.name == "run" || verb.name == "exec") out += " \\\n        '*::program:_normal'";
    if (verb.name == "completion") out += " \\\n        ':shell:(bash zsh fish)'";
    out += " ;;\n";
  }
  return out + "  esac\n}\n_vgpu \"$@\"\n";
}

std::string fish_completion() {
  const auto all = verbs();
  std::string out = "# fish completion of vgpu; printed by: vgpu completion fish\n";
  out += "complete -c vgpu -f\n";
  out += "complete -c vgpu -n __fish_use_subcommand -l help -s h -d 'this text'\n";
  out += "complete -c vgpu -n __fish_use_subcommand -l version -d 'print the version'\n";
  out += "function __vgpu_tenants; sh -c '" + kTenantsCommand + "'; end\n";
  for (const auto& verb : all) {
    if (takes_tenant(verb.name))
      out += fmt::format(
          "complete -c vgpu -n '__fish_seen_subcommand_from {}' -a '(__vgpu_tenants)'\n",
          verb.name);
    out += fmt::format("complete -c vgpu -n __fish_use_subcommand -a {} -d '{}'\n", verb.name,
                       quoted(verb.text, '\''));
    for (const auto& flag : verb.flags) {
      out += fmt::format("complete -c vgpu -n '__fish_seen_subcommand_from {}' -l {}", verb.name,
                         flag.long_name);
      if (!flag.short_name.empty()) out += " -s " + flag.short_name;
      if (!flag.value.empty()) out += " -x";
      if (!choices(flag.long_name).empty()) out += fmt::format(" -a '{}'", choices(flag.long_name));
      out += fmt::format(" -d '{}'\n", quoted(flag.text, '\''));
    }
  }
  out += "complete -c vgpu -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n";
  return out +
         "complete -c vgpu -n '__fish_seen_subcommand_from run exec; and __fish_seen_argument -l "
         "--' -a '(__fish_complete_subcommand)'\n";
}

std::string roff_paragraphs(const std::string& text) {
  std::string out = roff(text);
  for (auto at = out.find("\n\n"); at != std::string::npos; at = out.find("\n\n", at + 5))
    out.replace(at, 2, "\n.PP\n");
  return out;
}

std::string synopsis(const std::string& verb) {
  if (verb.empty()) return ".B vgpu\n.I COMMAND\n[options]\n";
  if (verb == "run") return ".B vgpu run\n[options] \\-\\-\n.I PROGRAM\n[\\fIARGUMENT\\fR...]\n";
  if (verb == "exec")
    return ".B vgpu exec\n[options]\n.I TENANT\n\\-\\-\n.I PROGRAM\n[\\fIARGUMENT\\fR...]\n";
  if (verb == "ls" || verb == "top")
    return ".B vgpu " + verb + "\n[options] [\\fITENANT\\fR|\\fIGPU\\fR]\n";
  if (verb == "set" || verb == "why") return ".B vgpu " + verb + "\n[options]\n.I TENANT\n";
  if (verb == "completion") return ".B vgpu completion\nbash|zsh|fish\n";
  return ".B vgpu " + verb + "\n[options]\n";
}

}  // namespace

std::vector<std::string> verb_names() {
  std::vector<std::string> all;
  for (const auto& verb : verbs()) all.push_back(verb.name);
  return all;
}

std::string completion_script(const std::string& shell) {
  if (shell == "bash") return bash_completion();
  if (shell == "zsh") return zsh_completion();
  if (shell == "fish") return fish_completion();
  throw Problem(kExitUsage, "VG1008",
                shell.empty() ? "vgpu completion wants a shell: bash, zsh or fish"
                              : fmt::format("no completion for \"{}\"; bash, zsh or fish", shell),
                "vgpu completion bash");
}

int completion_verb(const CompletionOptions& options) {
  fmt::print("{}", completion_script(options.shell));
  return 0;
}

std::string man_page(const std::string& verb) {
  Request unused;
  const auto app = declare_commands(unused);
  const CLI::App& declared = verb.empty() ? *app : *app->get_subcommand(verb);
  const Lesson& taught = lesson(verb);
  const std::string title = verb.empty() ? "vgpu" : "vgpu-" + verb;
  std::string upper = title;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  std::string out = fmt::format(
      ".TH {} 1 \"\" \"vgpu {}\" \"vgpu\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n{}.SH "
      "DESCRIPTION\n{}\n",
      roff(upper), VGPU_VERSION, roff(title), roff(declared.get_description()), synopsis(verb),
      roff_paragraphs(taught.description));
  if (verb.empty()) {
    out += ".SH COMMANDS\n";
    for (const auto& one : verbs())
      out += fmt::format(".TP\n.BR vgpu\\-{} (1)\n{}\n", one.name, roff(one.text));
  }
  out += ".SH OPTIONS\n";
  for (const auto& flag : described_flags(declared)) {
    out += fmt::format(".TP\n\\fB{}{}\\fR{}\n{}\n",
                       flag.short_name.empty() ? "" : "\\-" + flag.short_name + ", ",
                       roff("--" + flag.long_name),
                       !flag.optional.empty() ? "[=\\fI" + roff(flag.optional) + "\\fR]"
                       : flag.value.empty()   ? ""
                                              : " \\fI" + roff(flag.value) + "\\fR",
                       roff(flag.text));
  }
  out += ".SH EXAMPLES\n";
  for (const auto& [purpose, command] : taught.examples) {
    out += fmt::format(".TP\n{}\n.B {}\n", purpose.empty() ? roff(verb) : roff(purpose),
                       roff(command));
  }
  out += fmt::format(".SH EXIT STATUS\n{}\n", roff(taught.exit_codes));
  return out +
         ".SH SEE ALSO\n.BR vgpu (1),\n.BR vgpu\\-run (1),\n.BR vgpu\\-exec (1),\n.BR vgpu\\-set "
         "(1),\n.BR vgpu\\-ls (1),\n.BR vgpu\\-top (1),\n.BR vgpu\\-why (1),\n.BR "
         "vgpu\\-doctor (1)\n";
}

}  // namespace vgpu::cli
