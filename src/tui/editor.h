// SPDX-License-Identifier: Apache-2.0
// Changing a quota, step by step: typing, a look at before and after, the answer. Pure.
#pragma once

#include <optional>

#include "vgpu/tui/interface.h"

namespace vgpu::tui {

// None: there is no such row any more.
std::optional<Editor> editor_for(const Model& model, const RowKey& row);

// Takes what the quota is by now. True: it isn't what was to be confirmed, so it has to be looked
// at again; a key that came meanwhile confirms nothing.
bool refresh_editor(Editor& editor, const Model& model);

enum class EditorStep : unsigned char { stays, closes, asks };
// `asks`: what is confirmed is editor_change() and has to be carried out.
EditorStep press_editor(Editor& editor, int key);
Change editor_change(const Editor& editor);

}  // namespace vgpu::tui
