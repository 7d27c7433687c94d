// SPDX-License-Identifier: Apache-2.0
// YAML by yaml-cpp; every field checked by hand, because the library's conversions don't say where.
#include "gpu_capacity.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>

#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

// As it stood there, short and harmless on a terminal.
std::string shown(const YAML::Node& node) {
  if (node.IsScalar()) return "\"" + survey::visible(node.Scalar().substr(0, 60)) + "\"";
  return node.IsMap() ? "a map" : node.IsSequence() ? "a list" : "nothing";
}

class Row {
 public:
  Row(const YAML::Node& node, const std::string& source, std::size_t number)
      : node_(node), where_(fmt::format("{}:{}: entry {}", source, node.Mark().line + 1, number)) {
    if (!node.IsMap())
      fail(fmt::format("is {}; a map with model and fp16TFlops is expected", shown(node)));
  }

  std::string text(const char* key) const {
    const YAML::Node field = node_[key];
    if (!field || field.IsNull()) return "";
    if (!field.IsScalar()) fail(fmt::format("{} is {}; a text is expected", key, shown(field)));
    return field.Scalar();
  }

  std::optional<double> number(const char* key, double least) const {
    const YAML::Node field = node_[key];
    if (!field || field.IsNull()) return std::nullopt;
    double value = 0;
    if (!field.IsScalar() || !YAML::convert<double>::decode(field, value) ||
        !std::isfinite(value) || value < least || value > 1e9) {
      fail(fmt::format("{} is {}; a number {} is expected", key, shown(field),
                       least > 0 ? "above 0" : "of 0 or more"));
    }
    return value;
  }

  [[noreturn]] void fail(const std::string& why) const { throw CapacityError{where_ + ": " + why}; }

 private:
  YAML::Node node_;
  std::string where_;
};

}  // namespace

GpuCapacity GpuCapacity::parse(const std::string& yaml, const std::string& source) {
  GpuCapacity capacity;
  capacity.source_ = source;
  if (yaml.size() > kMostBytes) {
    throw CapacityError{fmt::format("{}: larger than {} bytes", source, kMostBytes)};
  }
  // The library recurses into nested lists and maps without a bound, also on one line.
  std::size_t depth = 0;
  for (const char c : yaml) {
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') depth -= depth > 0;
    if (depth > 64)
      throw CapacityError{fmt::format("{}: nested more deeply than a table is", source)};
  }
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (!root.IsSequence()) {
      throw CapacityError{
          fmt::format("{}: holds {}; a list of GPU models is expected", source, shown(root))};
    }
    for (std::size_t i = 0; i < root.size(); ++i) {
      const Row row(root[i], source, i + 1);
      GpuModel model{row.text("model"), row.text("fullModelName"), row.text("vendor"),
                     row.number("costPerHour", 0), 0};
      if (model.model.empty() && model.full_name.empty()) {
        row.fail("has neither model nor fullModelName");
      }
      const auto tflops = row.number("fp16TFlops", 1e-6);
      if (!tflops) row.fail("has no fp16TFlops; a number above 0 is expected");
      model.fp16_tflops = *tflops;
      for (const std::string* name : {&model.model, &model.full_name}) {
        if (name->empty()) continue;
        const auto [known, is_new] = capacity.by_name_.emplace(*name, *tflops);
        if (!is_new && known->second != *tflops) {
          row.fail(fmt::format("\"{}\" has {} TFLOPS here and {} above", survey::visible(*name),
                               *tflops, known->second));
        }
      }
      capacity.models_.push_back(std::move(model));
    }
  } catch (const YAML::Exception& error) {
    throw CapacityError{fmt::format("{}:{}:{}: no YAML: {}", source, error.mark.line + 1,
                                    error.mark.column + 1, error.msg)};
  }
  return capacity;
}

GpuCapacity GpuCapacity::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw CapacityError{path + ": can't be read"};
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) throw CapacityError{path + ": can't be read"};
  text.resize(static_cast<std::size_t>(file.gcount()));
  return parse(text, path);
}

std::optional<double> GpuCapacity::tflops_of(std::string_view nvml_name) const {
  const auto found = by_name_.find(nvml_name);
  return found == by_name_.end() ? std::nullopt : std::optional(found->second);
}

unsigned GpuCapacity::percent_of(std::string_view nvml_name, double tflops) const {
  const auto capacity = tflops_of(nvml_name);
  const std::string model = survey::visible(nvml_name);
  if (!capacity) {
    throw CapacityError{
        fmt::format("\"{}\" isn't in {}: {} TFLOPS can't be turned into percent; add the model, or "
                    "give percent",
                    model, source_, tflops)};
  }
  if (!std::isfinite(tflops) || tflops <= 0) {
    throw CapacityError{fmt::format("{} TFLOPS: a number above 0 is expected", tflops)};
  }
  const long percent = std::lround(std::min(tflops / *capacity * 100, 1e6));
  if (percent > 100) {
    throw CapacityError{
        fmt::format("{} TFLOPS are more than the {} of \"{}\"", tflops, *capacity, model)};
  }
  return static_cast<unsigned>(std::max(percent, 1L));
}

}  // namespace vgpu::hypervisor
