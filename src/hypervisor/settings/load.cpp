// SPDX-License-Identifier: Apache-2.0
// Four layers into one: defaults, the TOML file, variables, flags. Every fault is kept with its
// place, so that one look at the list mends them all.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <type_traits>

#define TOML_ENABLE_FORMATTERS 0
// Its assertions hold for good files alone (a key that begins with no letter trips one); it reports
// what they are about by itself.
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>

#include "settings.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor::settings {
namespace {

// Where a byte that isn't ASCII stands between tokens, or after a line's continuation in a string:
// there toml++ 3.3 reaches __builtin_unreachable() in looking whether it is a blank. Settings have
// no use for one. npos: nowhere.
std::size_t stray_non_ascii(std::string_view text) {
  const auto is_stray = [&](std::size_t at) {
    return at < text.size() && static_cast<unsigned char>(text[at]) >= 0x80;
  };
  std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;  // a mark of the byte order
  while (at < text.size()) {
    const char c = text[at];
    if (is_stray(at)) return at;
    if (c == '#') {
      at = std::min(text.find('\n', at), text.size());
    } else if (c == '"' || c == '\'') {
      const std::string three(3, c);
      const bool is_long = text.substr(at).starts_with(three);
      at += is_long ? 3 : 1;
      while (at < text.size()) {
        if (c == '"' && text[at] == '\\') {
          at = std::min(at + 2, text.size());
          const bool continues = std::isspace(static_cast<unsigned char>(text[at - 1])) != 0;
          while (continues && at < text.size() &&
                 std::isspace(static_cast<unsigned char>(text[at])) != 0)
            ++at;
          if (continues && is_stray(at)) return at;
        } else if (is_long ? text.substr(at).starts_with(three) : text[at] == c) {
          at += is_long ? 3 : 1;
          break;
        } else if (!is_long && text[at] == '\n') {
          break;  // unfinished
        } else {
          ++at;
        }
      }
    } else {
      ++at;
    }
  }
  return std::string_view::npos;
}

constexpr std::size_t kMostFileBytes = 1 << 20;
constexpr std::size_t kMostFaults = 100;
constexpr std::size_t kMostSyntaxFaults = 20;  // each of them reads the text once more
constexpr std::size_t kMostTables = 4096;      // of one name
constexpr std::size_t kMostShown = 300;

// Puts blanks in place of a line (from 1), and of what is lost with it: the keys below a table's
// name, the rest of a list. False: nothing is there.
bool blank_out(std::string& text, std::size_t line) {
  std::size_t at = 0;
  for (std::size_t i = 1; i < line; ++i) {
    at = text.find('\n', at);
    if (at == std::string::npos) return false;
    ++at;
  }
  bool is_first = true, is_table = false;
  int open = 0;  // brackets
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::size_t begin = std::min(text.find_first_not_of(" \t\r", at), end);
    const bool is_name = begin < end && text[begin] == '[' && open == 0;
    if (is_first && begin == end) return false;
    if (is_first) is_table = is_name;
    if (!is_first && (is_name || (!is_table && open <= 0))) break;
    for (std::size_t i = is_name ? end : begin; i < end; ++i) {
      open += text[i] == '[' || text[i] == '{' ? 1 : text[i] == ']' || text[i] == '}' ? -1 : 0;
    }
    std::fill(text.begin() + static_cast<std::ptrdiff_t>(at),
              text.begin() + static_cast<std::ptrdiff_t>(end), ' ');
    is_first = false;
    at = end + 1;
  }
  return true;
}

class Reader {
 public:
  Reader(const GivenFlags& flags, const vgpu::settings::Environment& environment)
      : flags_(flags), environment_(environment) {
    loaded_.origins.resize(rows().size());
  }

  Loaded read(const std::optional<std::string>& toml, const std::string& name) {
    take_defaults();
    if (toml) read_file(*toml, name);
    read_variables();
    read_flags();
    return std::move(loaded_);
  }

 private:
  void fault(Place place, std::string what) {
    if (loaded_.faults.size() >= kMostFaults) return;
    if (what.size() > kMostShown) what = what.substr(0, kMostShown) + "...";
    place.name = survey::visible(place.name);
    loaded_.faults.push_back({std::move(place), survey::visible(what)});
  }

  // Sets one setting from text; a fault with the place where it doesn't go.
  template <class Value>
  void take(std::size_t i, const Row& row, Value& value, std::string_view text, Source source,
            const Place& place) {
    std::string why;
    Value parsed{};
    if (!parse(row, text, parsed, why)) {
      loaded_.origins[i].is_unread = true;
      fault(place, source == Source::file ? fmt::format("{}: {}", row.key, why) : why);
      return;
    }
    value = std::move(parsed);
    put_origin(i, source, place);
  }

  void put_origin(std::size_t i, Source source, const Place& place) {
    loaded_.origins[i].source = source;
    loaded_.origins[i].place = place;
  }

  void take_defaults() {
    for_each_setting(loaded_.values, [&](std::size_t, const Row& row, auto& value) {
      std::string unused;
      if (!row.fallback.empty()) parse(row, row.fallback, value, unused);
    });
  }

  void read_variables() {
    for_each_setting(loaded_.values, [&](std::size_t i, const Row& row, auto& value) {
      const char* text =
          row.variable.empty() ? nullptr : environment_.get(std::string(row.variable).c_str());
      if (text == nullptr || *text == '\0') return;
      take(i, row, value, text, Source::variable, {std::string(row.variable)});
    });
    for (const Foreign& row : foreign()) {
      if (row.what != ForeignWhat::variable) continue;
      const char* text = environment_.get(std::string(row.name).c_str());
      if (text != nullptr && *text != '\0') judge(row, text);
    }
  }

  void read_flags() {
    for_each_setting(loaded_.values, [&](std::size_t i, const Row& row, auto& value) {
      const auto given = flags_.find(row.flag);
      if (given == flags_.end()) return;
      take(i, row, value, given->second, Source::flag, {std::string(row.flag)});
    });
    for (const Foreign& row : foreign()) {
      if (row.what != ForeignWhat::flag) continue;
      const auto given = flags_.find(row.name);
      if (given != flags_.end()) judge(row, given->second);
    }
  }

  // A flag or variable of the predecessor that is none of ours.
  void judge(const Foreign& row, std::string_view text) {
    const auto is_yes = [](std::string_view word) { return word == "true" || word == "1"; };
    const auto is_no = [](std::string_view word) { return word == "false" || word == "0"; };
    switch (row.effect) {
      case Effect::works:
      case Effect::changed:
      case Effect::apart:
        return;
      case Effect::same:
        if (text == row.only || (row.only == "true" && is_yes(text)) ||
            (row.only == "false" && is_no(text)))
          return;
        fault({std::string(row.name)},
              fmt::format("\"{}\": only {} can be kept. {}", text, row.only, row.text));
        return;
      case Effect::refused:
        fault({std::string(row.name)}, fmt::format("not taken. {}", row.text));
        return;
      case Effect::said:
        loaded_.notices.push_back(fmt::format("{} has no effect. {}", row.name, row.text));
        return;
    }
  }

  // --- the file

  Place place_of(const toml::source_region& region) const {
    return {loaded_.file, static_cast<unsigned>(region.begin.line),
            static_cast<unsigned>(region.begin.column)};
  }

  void read_file(const std::string& text, const std::string& name) {
    loaded_.file = name;
    const std::size_t faults = loaded_.faults.size();
    if (const auto table = table_of(text, name)) {
      loaded_.is_partial = loaded_.faults.size() != faults;
      read_table(*table, "");
    } else {
      loaded_.is_partial = true;
    }
  }

  // What of the text is TOML; none, with a fault: it isn't even that in parts.
  std::optional<toml::table> table_of(const std::string& text, const std::string& name) {
    if (text.size() > kMostFileBytes) {
      fault({name}, fmt::format("{} bytes; {} at most", text.size(), kMostFileBytes));
      return std::nullopt;
    }
    // toml++ takes a NUL for the end.
    if (const std::size_t nul = text.find('\0'); nul != std::string::npos) {
      const auto lines =
          std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(nul), '\n');
      fault({name, static_cast<unsigned>(lines) + 1, 1}, "a NUL byte; this is no text");
      return std::nullopt;
    }
    if (const std::size_t at = stray_non_ascii(text); at != std::string::npos) {
      const auto end = text.begin() + static_cast<std::ptrdiff_t>(at);
      const auto lines = std::count(text.begin(), end, '\n');
      const std::size_t line_begin = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;
      fault({name, static_cast<unsigned>(lines) + 1, static_cast<unsigned>(at - line_begin) + 1},
            "a character that isn't ASCII, outside of strings and comments");
      return std::nullopt;
    }
    // Lines that are no TOML are left out, so that the others' faults are listed too.
    std::string rest = text;
    for (std::size_t tries = 0; tries < kMostSyntaxFaults; ++tries) {
      try {
        return toml::parse(rest, name);
      } catch (const toml::parse_error& error) {
        const Place place = place_of(error.source());
        const bool is_left_out = blank_out(rest, place.line);
        if (tries == 0 || is_left_out) fault(place, std::string(error.description()));
        // What was in a string before may stand between tokens now.
        if (!is_left_out || stray_non_ascii(rest) != std::string::npos) return std::nullopt;
      }
    }
    return std::nullopt;
  }

  static bool is_section(const std::string& name) {
    return std::any_of(rows().begin(), rows().end(),
                       [&](const Row& row) { return row.key.starts_with(name + "."); });
  }

  void unknown(const toml::key& key, const std::string& full,
               const std::vector<std::string>& known) {
    const std::string_view guess = survey::nearest(full, known);
    fault(place_of(key.source()), guess.empty()
                                      ? fmt::format("{} is no setting", full)
                                      : fmt::format("{} is no setting; {}?", full, guess));
  }

  void read_table(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      const std::string full = prefix + std::string(key.str());
      if (prefix.empty() && full == "pod") {
        read_pods(node);
      } else if (prefix.empty() && full == "rule") {
        for (const toml::table* one : tables_of(node, "rule")) read_rule(*one);
      } else if (is_section(full)) {
        if (const toml::table* section = node.as_table()) {
          read_table(*section, full + ".");
        } else {
          fault(place_of(node.source()), fmt::format("{} is a table: [{}]", full, full));
        }
      } else if (!read_setting(full, node)) {
        std::vector<std::string> known{"pod", "rule"};
        for (const Row& row : rows()) known.emplace_back(row.key);
        unknown(key, full, known);
      }
    }
  }

  bool read_setting(const std::string& full, const toml::node& node) {
    bool found = false;
    for_each_setting(loaded_.values, [&](std::size_t i, const Row& row, auto& value) {
      if (row.key != full) return;
      found = true;
      take_node(i, row, value, node);
    });
    return found;
  }

  // The types that a kind may have in the file, in words.
  static std::string wanted(Kind kind) {
    switch (kind) {
      case Kind::boolean:
        return "true or false";
      case Kind::count:
        return "a whole number";
      case Kind::size:
        return "a size in quotes, as \"64MiB\", or a number of bytes";
      case Kind::duration:
        return "a time in quotes, as \"5s\"";
      case Kind::texts:
        return "a list of texts, as [\"one\", \"two\"]";
      case Kind::text:
      case Kind::path:
      case Kind::choice:
        return "a text in quotes";
    }
    return "";
  }

  static std::optional<std::string> scalar(Kind kind, const toml::node& node) {
    if (kind == Kind::boolean) {
      if (const auto value = node.value_exact<bool>()) return *value ? "true" : "false";
      return std::nullopt;
    }
    if (kind == Kind::count || kind == Kind::size) {
      if (const auto value = node.value_exact<std::int64_t>()) return std::to_string(*value);
      if (kind == Kind::count) return std::nullopt;
    }
    return node.value_exact<std::string>();
  }

  template <class Value>
  void take_node(std::size_t i, const Row& row, Value& value, const toml::node& node) {
    const Place place = place_of(node.source());
    if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
      take_list(i, row, value, node, place);
    } else if (const auto text = scalar(row.kind, node)) {
      take(i, row, value, *text, Source::file, place);
    } else {
      loaded_.origins[i].is_unread = true;
      fault(place, fmt::format("{}: {} is wanted", row.key, wanted(row.kind)));
    }
  }

  void take_list(std::size_t i, const Row& row, std::vector<std::string>& value,
                 const toml::node& node, const Place& place) {
    const toml::array* array = node.as_array();
    loaded_.origins[i].is_unread = true;  // until all of it is
    if (array == nullptr) {
      fault(place, fmt::format("{}: {} is wanted", row.key, wanted(row.kind)));
      return;
    }
    std::vector<std::string> items;
    for (const toml::node& one : *array) {
      const auto text = one.value_exact<std::string>();
      std::vector<std::string> parsed;
      std::string why = wanted(row.kind) + " is wanted";
      if (!text || !parse(row, *text, parsed, why) || parsed.size() != 1) {
        fault(place_of(one.source()), fmt::format("{}: {}", row.key, why));
        return;
      }
      items.push_back(*text);
    }
    value = std::move(items);
    loaded_.origins[i].is_unread = false;
    put_origin(i, Source::file, place);
  }

  // The tables of a [[name]]; none, with a fault, where it is something else.
  std::vector<const toml::table*> tables_of(const toml::node& node, std::string_view name) {
    std::vector<const toml::table*> tables;
    const toml::array* array = node.as_array();
    if (array == nullptr || !array->is_homogeneous(toml::node_type::table)) {
      if (array == nullptr || !array->empty())
        fault(place_of(node.source()), fmt::format("{} is a list of tables: [[{}]]", name, name));
      return tables;
    }
    if (array->size() > kMostTables) {
      fault(place_of(node.source()),
            fmt::format("{} of [[{}]]; {} at most", array->size(), name, kMostTables));
      return tables;
    }
    for (const toml::node& one : *array) tables.push_back(one.as_table());
    return tables;
  }

  void read_pods(const toml::node& node) {
    std::set<std::pair<std::string, std::string>> seen;
    for (const toml::table* table : tables_of(node, "pod")) {
      const std::size_t faults = loaded_.faults.size();
      Pod pod = read_pod(*table);
      pod.is_partial = loaded_.faults.size() != faults;
      if (!pod.is_partial && !seen.emplace(pod.name_space, pod.name).second) {
        fault(place_of(table->source()),
              fmt::format("pod {}/{} is declared twice", pod.name_space, pod.name));
      }
      loaded_.values.pods.push_back(std::move(pod));
    }
  }

  void read_rule(const toml::table& table) {
    Rule rule;
    rule.place = place_of(table.source());
    const std::size_t faults = loaded_.faults.size();
    for (const auto& [key, node] : table) {
      std::string* field = nullptr;
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#define VGPU_DAEMON_RULE(member, name, role, text) \
  if (key.str() == name) field = &rule.member;
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
      const std::string full = "rule." + std::string(key.str());
      if (field == nullptr) {
        std::vector<std::string> known;
        for (const RuleRow& row : rule_rows()) known.push_back("rule." + std::string(row.key));
        unknown(key, full, known);
      } else {
        take_table_text(full, node, *field);
      }
    }
    rule.is_partial = loaded_.faults.size() != faults;
    loaded_.values.rules.push_back(std::move(rule));
  }

  // A text of a [[table]], or a whole number as one.
  void take_table_text(const std::string& full, const toml::node& node, std::string& field) {
    const Row as_text{full, "", "", Kind::text, "", "", Change::restart, ""};
    std::string why = wanted(Kind::text) + " is wanted";
    std::optional<std::string> text = node.value_exact<std::string>();
    if (const auto number = node.value_exact<std::int64_t>()) text = std::to_string(*number);
    if (text && text->empty()) {
      fault(place_of(node.source()), full + " is empty");
    } else if (!text || !parse(as_text, *text, field, why)) {
      fault(place_of(node.source()), fmt::format("{}: {}", full, why));
    }
  }

  Pod read_pod(const toml::table& table) {
    Pod pod;
    pod.place = place_of(table.source());
    for (const auto& [key, node] : table) {
      std::string* field = nullptr;
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(member, name, kind, needed, text) \
  if (key.str() == name) {                                \
    field = &pod.member;                                  \
    pod.member##_place = place_of(node.source());         \
  }
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
      const std::string full = "pod." + std::string(key.str());
      if (field == nullptr) {
        std::vector<std::string> known;
        for (const PodRow& row : pod_rows()) known.push_back("pod." + std::string(row.key));
        unknown(key, full, known);
        continue;
      }
      take_table_text(full, node, *field);
    }
    for (const PodRow& row : pod_rows()) {
      if (row.needed && !table.contains(row.key))
        fault(place_of(table.source()), fmt::format("a pod without {}", row.key));
    }
    return pod;
  }

  const GivenFlags& flags_;
  const vgpu::settings::Environment& environment_;
  Loaded loaded_;
};

struct Contents {
  std::optional<std::string> text;
  std::string error;  // empty: `text`, or there is no such file
};

Contents contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {std::nullopt, errno == ENOENT || errno == ENOTDIR ? "" : std::strerror(errno)};
  // One byte more than is allowed, so that too long shows; /dev/zero ends too.
  std::string text(kMostFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) return {std::nullopt, "it can't be read"};
  text.resize(static_cast<std::size_t>(file.gcount()));
  return {text, ""};
}

std::vector<std::string> usual_files(const vgpu::settings::Environment& environment) {
  std::vector<std::string> files{kSystemFile};
  const char* config = environment.get("XDG_CONFIG_HOME");
  const char* home = environment.get("HOME");
  if (config != nullptr && *config == '/') {
    files.push_back(std::string(config) + "/vgpu/hypervisor.toml");
  } else if (home != nullptr && *home == '/') {
    files.push_back(std::string(home) + "/.config/vgpu/hypervisor.toml");
  }
  return files;
}

}  // namespace

Loaded read(const GivenFlags& flags, const vgpu::settings::Environment& environment,
            const std::optional<std::string>& toml, const std::string& name) {
  return Reader(flags, environment).read(toml, name);
}

Loaded load(const std::string& flag, const GivenFlags& flags,
            const vgpu::settings::Environment& environment) {
  const char* variable = environment.get(kConfigVariable);
  std::string path = flag;
  if (path.empty() && variable != nullptr) path = variable;
  const bool asked_for = !path.empty();
  for (const std::string& candidate :
       asked_for ? std::vector<std::string>{path} : usual_files(environment)) {
    const Contents contents = contents_of(candidate);
    if (contents.text) return read(flags, environment, contents.text, candidate);
    if (contents.error.empty() && !asked_for) continue;
    Loaded loaded = read(flags, environment, std::nullopt, "");
    loaded.faults.insert(loaded.faults.begin(),
                         {{survey::visible(candidate)},
                          contents.error.empty() ? "there is no such file" : contents.error});
    loaded.is_partial = true;
    return loaded;
  }
  return read(flags, environment, std::nullopt, "");
}

std::vector<std::string> keep_unreloadable(const Loaded& before, Loaded& after) {
  std::vector<std::string> kept;
#define VGPU_DAEMON_SETTING(field, key, flag, variable, kind, form, fallback, change, text) \
  if (Change::change == Change::restart && before.values.field != after.values.field) {     \
    kept.emplace_back(key);                                                                 \
    after.values.field = before.values.field;                                               \
  }
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
  if (before.values.pods != after.values.pods) {
    kept.emplace_back("pod");
    after.values.pods = before.values.pods;
  }
  return kept;
}

}  // namespace vgpu::hypervisor::settings
