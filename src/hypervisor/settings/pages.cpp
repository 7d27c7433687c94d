// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vgpu/survey/text.h"

#ifndef VGPU_VERSION
#define VGPU_VERSION "0"
#endif

namespace vgpu::hypervisor::settings {

using survey::roff;

namespace {

std::string wrapped(std::string_view text, std::string_view indent) {
  constexpr std::size_t kWidth = 96;
  std::string out, line(indent);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (line.size() + (end - at) > kWidth && line.size() > indent.size()) {
      out += line.substr(0, line.size() - 1) + "\n";
      line = indent;
    }
    line += std::string(text.substr(at, end - at)) + " ";
    at = end + 1;
  }
  return out + line.substr(0, line.size() - 1) + "\n";
}

std::string section_of(std::string_view key) {
  const std::size_t dot = key.find('.');
  return dot == std::string_view::npos ? "" : std::string(key.substr(0, dot));
}

std::string form_text(const Row& row) {
  std::string text = placeholder(row);
  if ((row.kind == Kind::count || row.kind == Kind::duration) && !row.form.empty()) {
    const std::size_t dots = row.form.find("..");
    text += fmt::format(", {} to {}", row.form.substr(0, dots), row.form.substr(dots + 2));
  }
  return text;
}

// In a cell of a Markdown table.
std::string cell(std::string text) {
  for (auto at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2))
    text.insert(at, 1, '\\');
  return text;
}

std::string_view effect_text(Effect effect) {
  switch (effect) {
    case Effect::works:
      return "works";
    case Effect::changed:
      return "works, other default";
    case Effect::same:
      return "only this value";
    case Effect::refused:
      return "refused";
    case Effect::said:
      return "no effect, said at start";
    case Effect::apart:
      return "not read";
  }
  return "";
}

std::string_view role_text(RuleRole role) {
  switch (role) {
    case RuleRole::label:
      return "";
    case RuleRole::match:
      return "match";
    case RuleRole::quota:
      return "quota";
  }
  return "";
}

std::string foreign_table(ForeignWhat what) {
  std::string out = "| name | effect | |\n|---|---|---|\n";
  for (const Foreign& row : foreign()) {
    if (row.what != what) continue;
    out += fmt::format("| `{}` | {}{} | {} |\n", row.name, effect_text(row.effect),
                       row.only.empty() ? "" : fmt::format(": `{}`", row.only),
                       cell(std::string(row.text)));
  }
  return out;
}

std::string default_toml(const Row& wanted_row) {
  std::string out;
  Values defaults;
  for_each_setting(defaults, [&](std::size_t, const Row& row, auto& value) {
    if (row.key != wanted_row.key) return;
    std::string unused;
    if (!row.fallback.empty()) parse(row, row.fallback, value, unused);
    out = toml_text(row, value);
  });
  return out;
}

}  // namespace

std::string example_toml() {
  std::string out =
      "# Settings of `hypervisor daemon`, each at its default. Made by: hypervisor config example\n"
      "# A flag wins over a variable, a variable over this file. SIGHUP reads the file again.\n";
  std::string section;
  for (const Row& row : rows()) {
    if (const std::string own = section_of(row.key); own != section) {
      section = own;
      out += fmt::format("\n[{}]\n", section);
    }
    const std::string name(row.key.substr(section.empty() ? 0 : section.size() + 1));
    out += "\n" + wrapped(row.text, "# ");
    out +=
        fmt::format("# {}; {}.\n", form_text(row),
                    row.change == Change::reload ? "SIGHUP takes it over" : "taken at the start");
    out += fmt::format("#{} = {}\n", name, default_toml(row));
  }
  out +=
      "\n# Pods of the predecessor's API that are tenants under another name than NAMESPACE.POD.\n";
  out += "#[[pod]]\n";
  for (const PodRow& row : pod_rows())
    out += wrapped(row.text, "# ") + fmt::format("#{} = \"...\"\n", row.key);
  out +=
      "\n# What a tenant gets where the request doesn't say it: of the first rule all of whose "
      "matches hold.\n";
  out += "#[[rule]]\n";
  for (const RuleRow& row : rule_rows())
    out += wrapped(row.text, "# ") + fmt::format("#{} = \"...\"\n", row.key);
  return out;
}

std::string settings_page() {
  std::string out = R"(# Settings of the daemon

Written by `write_hypervisor_settings_page` from `src/hypervisor/settings/settings.def`; a test holds this page to it.

`hypervisor daemon` needs none of these. Each can be a flag, an environment variable, or a key of one TOML file; a flag wins
over a variable, a variable over the file, the file over the default. `hypervisor config show` says what holds and where it
comes from.

The file is the one that `--config` names, else `VGPU_HYPERVISOR_CONFIG`, else the first that exists of
`/etc/vgpu/hypervisor.toml` and `~/.config/vgpu/hypervisor.toml` (below `$XDG_CONFIG_HOME` where that is set).
`hypervisor config example` prints one with every key; `hypervisor config check [FILE]` lists every fault of a file with its line and
column, and those of variables and of the daemon's flags, which it takes too; keys and certificates are read as the daemon reads them. A line that is
no TOML is left out, so that the others are judged. A daemon doesn't start with a faulty setting; on SIGHUP it keeps what it has.

Sizes, and GPU names, are written as in [settings.md](settings.md). Times are a whole number with `ms`, `s`, `m`, `h` or `d`.
Lists stand in brackets in the file and between commas in a flag or variable. An empty variable counts as unset.

## Settings

| key | flag | variable | value | default | SIGHUP | |
|---|---|---|---|---|---|---|
)";
  for (const Row& row : rows()) {
    out += fmt::format("| `{}` | `{}` | {} | {} | {} | {} | {} |\n", row.key, row.flag,
                       row.variable.empty() ? "" : fmt::format("`{}`", row.variable),
                       cell(form_text(row)),
                       row.fallback.empty() ? "" : fmt::format("`{}`", row.fallback),
                       row.change == Change::reload ? "yes" : "", cell(std::string(row.text)));
  }
  out += R"(
The state directory is `VGPU_STATE_DIR`, as for `vgpu`.

## Pods

Each `[[pod]]` of the file says which tenant a pod of the predecessor's API is. With `pod-files.base-path`, a file is kept for each of them while
its tenant is there ([page](predecessor-files.md)); a tenant is one pod then. The usage log calls the tenant by its pod ([page](predecessor-files.md#the-usage-log)).

| key | |
|---|---|
)";
  for (const PodRow& row : pod_rows()) out += fmt::format("| `{}` | {} |\n", row.key, row.text);
  out += R"(
## Rules

Each `[[rule]]` of the file gives a quota to tenants that are asked for without one: to whoever asks from a certain user, control group
or container. The first rule counts all of whose matches hold; it has one match at least, and one quantity. What a request says wins over
it. SIGHUP reads rules again. TFLOPS become percent by the [table of GPU models](predecessor-files.md#the-table-of-gpu-models).

A process that has the limiter and says nothing at all belongs to the tenant of its rule: `rule-NAME`, one for each user, and `rule-NAME-CONTAINER`, one for each
[container](hypervisor.md#containers). It is there as long as somebody is in it, and keeps its quota meanwhile.

| key | | |
|---|---|---|
)";
  for (const RuleRow& row : rule_rows())
    out += fmt::format("| `{}` | {} | {} |\n", row.key, role_text(row.role), row.text);
  out += R"(
```toml
[[rule]]
name = "notebooks"
cgroup = "/user.slice"
memory = "8GiB"
compute = 10
```

## Flags of the predecessor's daemon

"Works" is a flag of the first table. What is refused stops the start with this reason.

)" + foreign_table(ForeignWhat::flag) +
         R"(
## Variables of the predecessor's daemon

)" + foreign_table(ForeignWhat::variable) +
         R"(
## Flags of the predecessor's `show-shm`

)" + foreign_table(ForeignWhat::show_shm_flag) +
         R"(
## Flags of the predecessor's `mount-shm`

)" + foreign_table(ForeignWhat::mount_shm_flag) +
         R"(
## Flags of the predecessor's `tui`

)" + foreign_table(ForeignWhat::tui_flag);
  return out;
}

std::string toml_man_page() {
  std::string out = fmt::format(
      ".TH HYPERVISOR.TOML 5 \"\" \"vgpu {}\" \"vgpu\"\n.SH NAME\nhypervisor.toml \\- settings of "
      "the daemon that looks after the GPUs\n.SH SYNOPSIS\n.I {}\n.br\n.I "
      "~/.config/vgpu/hypervisor.toml\n.SH DESCRIPTION\nThe first of these that exists is read, "
      "unless \\-\\-config or {} names another. Every key may be left out. A flag wins over a "
      "variable, a variable over the file. Unknown keys are errors.\n.SH KEYS\n",
      VGPU_VERSION, kSystemFile, kConfigVariable);
  for (const Row& row : rows()) {
    out += fmt::format(".TP\n\\fB{}\\fR = \\fI{}\\fR\n{}\n.br\nDefault: {}. Flag: {}.{} {}\n",
                       roff(row.key), roff(placeholder(row)), roff(row.text),
                       roff(default_toml(row)), roff(row.flag),
                       row.variable.empty() ? "" : fmt::format(" Variable: {}.", row.variable),
                       row.change == Change::reload ? "SIGHUP takes it over." : "");
  }
  out += ".SH PODS\nEach [[pod]] says which tenant a pod of the predecessor's API is.\n";
  for (const PodRow& row : pod_rows())
    out += fmt::format(".TP\n\\fB{}\\fR = \\fITEXT\\fR\n{}\n", roff(row.key), roff(row.text));
  out +=
      ".SH RULES\nEach [[rule]] gives a quota to tenants that are asked for without one, where all "
      "of its matches hold; the first such rule counts.\n";
  for (const RuleRow& row : rule_rows())
    out += fmt::format(".TP\n\\fB{}\\fR = \\fITEXT\\fR\n{}\n", roff(row.key), roff(row.text));
  return out + ".SH SEE ALSO\n.BR hypervisor (8),\n.BR vgpu (1)\n";
}

std::string shown(const Loaded& loaded) {
  std::vector<std::vector<std::string>> lines;
  for_each_setting(loaded.values, [&](std::size_t i, const Row& row, const auto& value) {
    const Origin& origin = loaded.origins[i];
    lines.push_back(
        {std::string(row.key) + " = " + toml_text(row, value),
         origin.source == Source::fallback
             ? "# default"
             : fmt::format("# {} {}", source_name(origin.source), origin.place.text())});
  });
  std::string out = survey::table(lines, "");
  for (const Pod& pod : loaded.values.pods)
    out += fmt::format("# pod {}/{} is tenant {}{}\n", pod.name_space, pod.name, pod.tenant,
                       pod.user.empty() ? "" : fmt::format(", of user {}", pod.user));
  for (const Rule& rule : loaded.values.rules)
    out += fmt::format("# rule{}{} at {}\n", rule.name.empty() ? "" : " ", rule.name,
                       rule.place.text());
  return out;
}

std::string shown_json(const Loaded& loaded) {
  using Json = nlohmann::ordered_json;
  Json out;
  out["file"] = loaded.file.empty() ? Json() : Json(loaded.file);
  out["settings"] = Json::array();
  for_each_setting(loaded.values, [&](std::size_t i, const Row& row, const auto& value) {
    Json one;
    one["key"] = row.key;
    using Value = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<Value, std::chrono::milliseconds>) {
      one["value"] = duration_text(value);
    } else {
      one["value"] = value;
    }
    const Origin& origin = loaded.origins[i];
    one["source"] = source_name(origin.source);
    one["place"] = origin.source == Source::fallback ? Json() : Json(origin.place.text());
    out["settings"].push_back(one);
  });
  out["pods"] = Json::array();
  for (const Pod& pod : loaded.values.pods)
    out["pods"].push_back({{"namespace", pod.name_space},
                           {"name", pod.name},
                           {"tenant", pod.tenant},
                           {"user", pod.user.empty() ? Json() : Json(pod.user)},
                           {"workload", pod.workload.empty() ? Json() : Json(pod.workload)}});
  out["rules"] = Json::array();
  for (const Rule& rule : loaded.values.rules) {
    Json one;
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#define VGPU_DAEMON_RULE(field, key, ...) \
  if (!rule.field.empty()) one[key] = rule.field;
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
    one["place"] = rule.place.text();
    out["rules"].push_back(one);
  }
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace vgpu::hypervisor::settings
