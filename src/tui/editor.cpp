// SPDX-License-Identifier: Apache-2.0
#include "editor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "pages.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/text.h"

namespace vgpu::tui {

using survey::limit_text, survey::policy_name, survey::priority_name, survey::QuotaFlags,
    survey::size_text;

namespace {

constexpr std::size_t kMostTyped = 40;

struct Field {
  std::string_view title;
  std::string QuotaFlags::*flag;
  std::string (*text)(const Quota&);
  std::array<std::string_view, 3> words;  // that it is one of; none: it is typed
  std::string_view hint;
};

std::string percent_text(std::uint8_t value) {
  return value == 0 ? "none" : fmt::format("{} %", value);
}

const std::array<Field, Editor::kFields>& fields() {
  static const std::array<Field, Editor::kFields> all = {
      {{"share",
        &QuotaFlags::compute,
        [](const Quota& quota) { return percent_text(quota.compute_share_percent); },
        {},
        "percent owed when others want it, 1-100, or none"},
       {"limit",
        &QuotaFlags::compute_limit,
        [](const Quota& quota) { return percent_text(quota.compute_limit_percent); },
        {},
        "percent never passed, 1-100, or none"},
       {"policy",
        &QuotaFlags::policy,
        [](const Quota& quota) { return std::string(policy_name(quota.policy)); },
        {"elastic", "fixed", ""},
        "elastic or fixed (the limit is the share)"},
       {"memory",
        &QuotaFlags::memory,
        [](const Quota& quota) { return limit_text(quota.memory_limit_bytes); },
        {},
        "a size as 8GiB or 512M, or none"},
       {"priority",
        &QuotaFlags::priority,
        [](const Quota& quota) { return std::string(priority_name(quota.priority)); },
        {"high", "normal", "low"},
        "high, normal or low"}}};
  return all;
}

QuotaFlags flags_of(const Editor& editor) {
  QuotaFlags flags;
  for (std::size_t i = 0; i < Editor::kFields; ++i) flags.*fields()[i].flag = editor.typed[i];
  return flags;
}

// What the words make of the quota, by the same rules as `vgpu set`. Not whether it fits: that is
// the source's to say.
void look_ahead(Editor& editor) {
  editor.fault.clear();
  if (std::all_of(editor.typed.begin(), editor.typed.end(),
                  [](const std::string& text) { return text.empty(); })) {
    editor.fault = "nothing is typed: a field that is left empty stays as it is";
    return;
  }
  shm::TenantSpec spec;
  spec.gpus.push_back({editor.row.gpu, editor.gpu_index, editor.total_bytes, editor.before, true});
  try {
    const auto changes = survey::plan_change(flags_of(editor), "", spec);
    editor.after = changes.front().after;
    editor.step = Editor::Step::confirming;
  } catch (const survey::Problem& problem) {
    editor.fault = problem.what;
  }
}

// The next of the words, or the one before; after the last comes the empty one, which changes
// nothing.
void turn_word(std::string& typed, const Field& field, int by) {
  std::vector<std::string_view> words{""};
  for (const auto word : field.words) {
    if (!word.empty()) words.push_back(word);
  }
  const auto at = std::find(words.begin(), words.end(), typed);
  const auto size = static_cast<std::ptrdiff_t>(words.size());
  const std::ptrdiff_t place = at == words.end() ? 0 : at - words.begin();
  typed = words[static_cast<std::size_t>((place + by + size) % size)];
}

void type(Editor& editor, int key) {
  const Field& field = fields()[editor.field];
  std::string& typed = editor.typed[editor.field];
  const std::size_t last = Editor::kFields - 1;
  editor.fault.clear();
  switch (key) {
    case kKeyUp:
    case kKeyBackTab:
      editor.field = editor.field == 0 ? last : editor.field - 1;
      return;
    case kKeyDown:
    case kKeyTab:
      editor.field = editor.field == last ? 0 : editor.field + 1;
      return;
    case kKeyLeft:
    case kKeyRight:
      if (!field.words[0].empty()) turn_word(typed, field, key == kKeyLeft ? -1 : 1);
      return;
    case kKeyBackspace:
      if (!typed.empty()) typed.pop_back();
      return;
    case kKeyEnter:
      look_ahead(editor);
      return;
    default:
      break;
  }
  if (key == ' ' && !field.words[0].empty()) {
    turn_word(typed, field, 1);
  } else if (key > ' ' && key < 127 && typed.size() < kMostTyped) {
    typed += static_cast<char>(key);
  }
}

EditorStep press_answered(Editor& editor, int key) {
  if (editor.result.done) return EditorStep::closes;
  if (key == 'o' && editor.result.rule == "share_room" && !editor.oversubscribe) {
    editor.oversubscribe = true;
    return EditorStep::asks;
  }
  if (key == kKeyEscape || key == 'q') return EditorStep::closes;
  if (key == kKeyEnter) editor.step = Editor::Step::typing;
  return EditorStep::stays;
}

void add_confirmation(const Editor& editor, Page& page) {
  page.add(line_of("This will be changed:", Ink::bold));
  for (const Field& field : fields()) {
    const std::string before = field.text(editor.before), after = field.text(editor.after);
    if (before == after) {
      page.add({{{on_the_left("  " + std::string(field.title), 12), Ink::dim},
                 {before + ", as it was", Ink::dim}},
                false});
      continue;
    }
    page.add({{{on_the_left("  " + std::string(field.title), 12), Ink::plain},
               {before + " -> ", Ink::plain},
               {after, Ink::warning}},
              false});
  }
}

std::string room_text(const Room& room) {
  std::vector<std::string> parts;
  if (room.share_percent) parts.push_back(fmt::format("a share of {} %", *room.share_percent));
  if (room.memory_bytes) parts.push_back(size_text(room.memory_bytes));
  return fmt::format("GPU {}: {}", room.gpu_index, fmt::join(parts, ", "));
}

void add_result(const Editor& editor, std::size_t columns, Page& page) {
  const ChangeResult& result = editor.result;
  const auto add = [&](std::string_view title, std::string_view text, Ink ink) {
    const std::size_t width = columns > 14 ? columns - 12 : 2;
    bool first = true;
    for (auto& line : wrapped(shown(text), width)) {
      page.add({{{on_the_left(first ? title : "", 12), Ink::dim}, {std::move(line), ink}}, false});
      first = false;
    }
  };
  if (result.done) {
    add("changed", result.text, Ink::good);
    return;
  }
  add("refused", result.text, Ink::bad);
  if (!result.rule.empty() || !result.code.empty())
    add("rule",
        fmt::format("{} {}", result.rule, result.code.empty() ? "" : "(" + result.code + ")"),
        Ink::plain);
  for (const Room& room : result.room) {
    if (room.gpu_index == editor.gpu_index && (room.share_percent || room.memory_bytes))
      add("would fit", room_text(room), Ink::plain);
  }
  if (!result.next.empty()) add("try", result.next, Ink::dim);
}

void add_form(const Editor& editor, std::size_t columns, Page& page) {
  page.add(line_of(on_the_left("", 12) + on_the_left("NOW", 12) + "NEW", Ink::title));
  for (std::size_t i = 0; i < Editor::kFields; ++i) {
    const Field& field = fields()[i];
    const bool here = i == editor.field;
    page.add({{{on_the_left((here ? "> " : "  ") + std::string(field.title), 12),
                here ? Ink::bold : Ink::plain},
               {on_the_left(field.text(editor.before), 12), Ink::plain},
               {editor.typed[i] + (here ? "_" : ""), Ink::warning}},
              false});
  }
  page.add({});
  page.add(line_of("  " + std::string(fields()[editor.field].title) + ": " +
                       std::string(fields()[editor.field].hint),
                   Ink::dim));
  for (auto& line : wrapped(editor.fault, columns)) page.add(line_of(std::move(line), Ink::bad));
}

}  // namespace

std::optional<Editor> editor_for(const Model& model, const RowKey& row) {
  const auto* gpu = model.gpu(row.gpu);
  const auto* tenant = model.row(row);
  if (gpu == nullptr || tenant == nullptr) return std::nullopt;
  Editor editor;
  editor.row = row;
  editor.name = tenant->name;
  editor.gpu_index = gpu->gpu.nvml_index;
  editor.total_bytes = gpu->gpu.total_bytes.value_or(0);
  editor.before = tenant->quota;
  return editor;
}

bool refresh_editor(Editor& editor, const Model& model) {
  const auto* tenant = model.row(editor.row);
  if (tenant == nullptr || editor.step == Editor::Step::answered) return false;
  const bool is_same = survey::change_text(editor.before, tenant->quota) == "as it was";
  editor.before = tenant->quota;
  if (is_same || editor.step == Editor::Step::typing) return false;
  editor.step = Editor::Step::typing;
  editor.fault = "the quota was changed meanwhile: look at it again";
  return true;
}

EditorStep press_editor(Editor& editor, int key) {
  switch (editor.step) {
    case Editor::Step::typing:
      if (key == kKeyEscape) return EditorStep::closes;
      type(editor, key);
      break;
    case Editor::Step::confirming:
      if (key == 'y' || key == 'Y') return EditorStep::asks;
      if (key == 'n' || key == 'N' || key == kKeyEscape || key == kKeyBackspace)
        editor.step = Editor::Step::typing;
      break;
    case Editor::Step::answered:
      return press_answered(editor, key);
  }
  return EditorStep::stays;
}

Change editor_change(const Editor& editor) {
  return {editor.row, flags_of(editor), editor.oversubscribe};
}

Page editor_page(const Editor& editor, std::size_t columns) {
  Page page;
  page.heads.push_back(line_of(
      fmt::format("QUOTA of {} on GPU {}", shown(editor.name), editor.gpu_index), Ink::title));
  switch (editor.step) {
    case Editor::Step::typing:
      add_form(editor, columns, page);
      break;
    case Editor::Step::confirming:
      add_confirmation(editor, page);
      break;
    case Editor::Step::answered:
      add_result(editor, columns, page);
      break;
  }
  return page;
}

}  // namespace vgpu::tui
