// SPDX-License-Identifier: Apache-2.0
// The predecessor's table of GPU models (gpu-info.yaml): how many TFLOPS a model has, so that a
// quota in TFLOPS becomes percent. A model that isn't in it has no capacity: such a quota is
// refused, never taken for 100 percent. Pure but for load(). Any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::hypervisor {

struct GpuModel {
  std::string model;
  std::string full_name;
  std::string vendor;
  std::optional<double> cost_per_hour;
  double fp16_tflops = 0;  // above 0
};

// What can't be understood: one line with the row, the field, what stands there and what is right.
struct CapacityError {
  std::string what;
};

class GpuCapacity {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{1} << 20;

  // Throw CapacityError.
  static GpuCapacity parse(const std::string& yaml, const std::string& source);
  static GpuCapacity load(const std::string& path);

  const std::vector<GpuModel>& models() const { return models_; }
  // By `model` or `fullModelName`, exactly as NVML says it.
  std::optional<double> tflops_of(std::string_view nvml_name) const;

  // Percent of a GPU of that model, 1 to 100, rounded to the nearest. Throws CapacityError for a
  // model that isn't in the table and for what is no quantity or more than the GPU has.
  unsigned percent_of(std::string_view nvml_name, double tflops) const;

 private:
  std::string source_ = "the table of GPU models (gpu-info names none)";
  std::vector<GpuModel> models_;
  std::map<std::string, double, std::less<>> by_name_;
};

}  // namespace vgpu::hypervisor
