// SPDX-License-Identifier: Apache-2.0
// The table as data, and how one of its rows is described to people. Messages are composed here
// too, so that every refusal has one shape: NAME="text", column N: what is wrong; what would be
// right.
#include "vgpu/settings/text.h"

namespace vgpu::settings {
namespace {

#define VGPU_SETTING(name, family, shape, value, quantity, effect, fallback, text)         \
  Variable{#name,          Family::family, Shape::shape, Value::value, Quantity::quantity, \
           Effect::effect, fallback,       text},
constexpr Variable kVariables[] = {
#include "vgpu/settings/settings.def"
};
#undef VGPU_SETTING

std::string_view describe(Value value) {
  switch (value) {
    case Value::size:
      return "SIZE";
    case Value::size_or_zero:
      return "SIZE or 0";
    case Value::bytes:
      return "BYTES";
    case Value::percent:
    case Value::percent_off:
    case Value::percent_lenient:
      return "PERCENT";
    case Value::policy:
      return "elastic|fixed";
    case Value::hami_policy:
      return "force|default|disable";
    case Value::priority:
      return "high|normal|low";
    case Value::hami_priority:
      return "0|1";
    case Value::gpu:
      return "GPU";
    case Value::boolean:
      return "true|false";
    case Value::ratio:
      return "NUMBER";
    case Value::on_error:
      return "refuse|open";
    case Value::isolation:
      return "soft|shared";
    case Value::log:
      return "LEVEL[:FILE]";
    case Value::log_level:
      return "LEVEL";
    case Value::path:
      return "PATH";
    case Value::text:
      return "TEXT";
  }
  return "";
}

// What may follow NAME_: 0 to 31, as it is looked for.
bool is_suffix(std::string_view text) {
  if (text.empty() || text.size() > 2 ||
      text.find_first_not_of("0123456789") != std::string_view::npos)
    return false;
  if (text.size() == 1) return true;
  return text[0] != '0' && (text[0] - '0') * 10 + (text[1] - '0') < static_cast<int>(kMaxGpus);
}

}  // namespace

std::span<const Variable> variables() { return kVariables; }

const Variable* find_variable(std::string_view name) {
  for (const Variable& variable : kVariables) {
    const std::string_view own = variable.name;
    if (name == own) return &variable;
    if (variable.shape == Shape::indexed && name.size() > own.size() + 1 &&
        part(name, 0, own.size()) == own && name[own.size()] == '_' &&
        is_suffix(part(name, own.size() + 1))) {
      return &variable;
    }
  }
  return nullptr;
}

std::string_view describe(Family family) {
  switch (family) {
    case Family::vgpu:
      return "vgpu";
    case Family::tensor_fusion:
      return "vgpu.rs (TensorFusion)";
    case Family::hami:
      return "HAMi";
    case Family::vgpu_manager:
      return "vgpu-manager";
    case Family::nvidia:
      return "NVIDIA";
  }
  return "";
}

std::string_view describe(Effect effect) {
  switch (effect) {
    case Effect::works:
      return "works";
    case Effect::refused:
      return "refused";
    case Effect::ignored_said:
      return "ignored, and said";
    case Effect::ignored:
      return "ignored";
  }
  return "";
}

Line describe_form(const Variable& variable) {
  const std::string_view value = describe(variable.value);
  Line form(value);
  switch (variable.shape) {
    case Shape::plain:
    case Shape::indexed:
      break;
    case Shape::per_gpu:
      form.append(" or GPU=").append(value).append(",...");
      break;
    case Shape::json:
      form = Line("{\"GPU\": ");
      form.append(value).append(", ...}");
      break;
    case Shape::list:
      form.append(",...");
      break;
  }
  return form;
}

std::string_view value_of(const Environment& environment, const char* name) {
  const char* value = environment.get(name);
  return value == nullptr ? std::string_view() : Piece{value, 0}.trimmed().text;
}

void append_excerpt(Line& line, std::string_view text, std::size_t at, std::size_t most) {
  std::size_t begin = 0;
  if (text.size() > most && at > most / 2)
    begin = at - most / 2 < text.size() - most ? at - most / 2 : text.size() - most;
  if (begin > 0) line.append("...");
  for (const char c : part(text, begin, most)) line.append(c >= 0x20 && c < 0x7f ? c : '?');
  if (begin + most < text.size()) line.append("...");
}

void report(FixedVector<Line, 16>& lines, std::string_view name, std::string_view text,
            const Fault& fault) {
  Line line(name);
  line.append("=\"");
  append_excerpt(line, text, fault.at);
  line.append("\", column ").append_number(fault.at + 1).append(": ").append(fault.why.view());
  for (const Line& said : lines) {
    if (said == line.view()) return;  // one fault that concerns several GPUs
  }
  lines.push_back(line);  // more than 16 faults: the first 16 are enough to go on with
}

}  // namespace vgpu::settings
