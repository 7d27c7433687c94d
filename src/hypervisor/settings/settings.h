// SPDX-License-Identifier: Apache-2.0
// From flags, variables and one TOML file to the daemon's settings, each with its source, and to
// faults, each with its place. Nothing here reads the machine but load(), which opens the file.
// Precedence: flag, then variable, then file, then default. The settings are one table:
// settings.def.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/settings/settings.h"

namespace vgpu::hypervisor::settings {

enum class Kind : unsigned char {
  boolean,
  text,
  path,
  choice,
  count,     // a whole number
  size,      // bytes: "64MiB"
  duration,  // "500ms", "5s", "10m", "1h", "7d"
  texts,     // a list; with commas in a flag or variable
};

// What each kind is in C++.
namespace kinds {
using boolean = bool;
using text = std::string;
using path = std::string;
using choice = std::string;
using count = std::uint64_t;
using size = std::uint64_t;
using duration = std::chrono::milliseconds;
using texts = std::vector<std::string>;
}  // namespace kinds

enum class Change : unsigned char { reload, restart };

struct Row {
  std::string_view key;  // "guard.grace"
  std::string_view flag;
  std::string_view variable;  // may be empty
  Kind kind;
  std::string_view form;
  std::string_view fallback;
  Change change;
  std::string_view text;
};
std::span<const Row> rows();

enum class ForeignWhat : unsigned char {
  flag,
  variable,
  show_shm_flag,  // these are of other commands, which have them by themselves
  mount_shm_flag,
  tui_flag
};
enum class Effect : unsigned char { works, changed, same, refused, said, apart };
struct Foreign {
  ForeignWhat what;
  std::string_view name;
  Effect effect;
  std::string_view only;
  std::string_view text;
};
std::span<const Foreign> foreign();

struct PodRow {
  std::string_view key;
  bool needed;
  std::string_view text;
};
std::span<const PodRow> pod_rows();

// Where something stands. `line` 0: not in a file.
struct Place {
  std::string name;  // the file, the flag or the variable
  unsigned line = 0;
  unsigned column = 0;
  std::string text() const;  // "/etc/vgpu/hypervisor.toml:3:9", "--guard-grace"
};

// One [[pod]] of the file.
struct Pod {
  Place place;
  bool is_partial = false;  // something of it can't be read, and has its fault
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(field, key, kind, needed, text) \
  kinds::kind field{};                                  \
  Place field##_place{};
#include "settings.def"
#undef VGPU_DAEMON_POD
  // Wherever it stands.
  friend bool operator==(const Pod& a, const Pod& b) {
#define VGPU_DAEMON_POD(field, ...) \
  if (a.field != b.field) return false;
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
    return true;
  }
};

enum class RuleRole : unsigned char { label, match, quota };
struct RuleRow {
  std::string_view key;
  RuleRole role;
  std::string_view text;
};
std::span<const RuleRow> rule_rows();

// One [[rule]] of the file.
struct Rule {
  Place place;
  bool is_partial = false;  // as a pod
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#define VGPU_DAEMON_RULE(field, ...) std::string field{};
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
};

struct Values {
  std::vector<Pod> pods;
  std::vector<Rule> rules;
#define VGPU_DAEMON_SETTING(field, key, flag, variable, kind, ...) kinds::kind field{};
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
};

// visit(i, row, field) for every setting; `values` may be const.
template <class AnyValues, class Visit>
void for_each_setting(AnyValues& values, Visit&& visit) {
  std::size_t i = 0;
#define VGPU_DAEMON_SETTING(field, ...) \
  visit(i, rows()[i], values.field);    \
  ++i;
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
}

struct Fault {
  Place place;
  std::string what;  // one line: the setting, the value, what would be right
  std::string text() const;
};

enum class Source : unsigned char { fallback, file, variable, flag };
std::string_view source_name(Source source);

struct Origin {
  Source source = Source::fallback;
  Place place;
  bool is_unread = false;  // something was given for it that can't be read, and has its fault
};

struct Loaded {
  Values values;
  std::vector<Origin> origins;  // parallel to rows()
  std::string file;             // the TOML file that was read; empty: none
  bool is_partial = false;      // there is a file of which not all could be read
  std::vector<Fault> faults;    // with any, `values` must not be used
  std::vector<std::string> notices;
};

// Flags as typed, by name ("--guard-grace"); those of the predecessor too.
using GivenFlags = std::map<std::string, std::string, std::less<>>;

// Pure: `toml` is the text of the file `name`. Every fault is listed.
Loaded read(const GivenFlags& flags, const vgpu::settings::Environment& environment,
            const std::optional<std::string>& toml, const std::string& name);

// The file: `flag` (--config) if given, else VGPU_HYPERVISOR_CONFIG, else the first that exists of
// /etc/vgpu/hypervisor.toml and ~/.config/vgpu/hypervisor.toml (below $XDG_CONFIG_HOME).
inline constexpr const char* kConfigVariable = "VGPU_HYPERVISOR_CONFIG";
inline constexpr const char* kSystemFile = "/etc/vgpu/hypervisor.toml";
Loaded load(const std::string& flag, const GivenFlags& flags,
            const vgpu::settings::Environment& environment);

// Of the settings that differ, those that SIGHUP can't change: their keys. `after` gets their old
// values back.
std::vector<std::string> keep_unreloadable(const Loaded& before, Loaded& after);

// --- values as text
bool parse(const Row& row, std::string_view text, bool& value, std::string& why);
bool parse(const Row& row, std::string_view text, std::string& value, std::string& why);
bool parse(const Row& row, std::string_view text, std::uint64_t& value, std::string& why);
bool parse(const Row& row, std::string_view text, std::chrono::milliseconds& value,
           std::string& why);
bool parse(const Row& row, std::string_view text, std::vector<std::string>& value,
           std::string& why);

// As it stands in a TOML file: "5s" with its quotes.
std::string toml_text(const Row& row, bool value);
std::string toml_text(const Row& row, const std::string& value);
std::string toml_text(const Row& row, std::uint64_t value);
std::string toml_text(const Row& row, std::chrono::milliseconds value);
std::string toml_text(const Row& row, const std::vector<std::string>& value);

// "DURATION", "report|signal|kill": what a value looks like, in a usage line.
std::string placeholder(const Row& row);
std::string duration_text(std::chrono::milliseconds value);

}  // namespace vgpu::hypervisor::settings
