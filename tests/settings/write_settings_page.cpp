// SPDX-License-Identifier: Apache-2.0
// Writes docs/settings.md from the table of variables; with --check FILE, says whether FILE is what
// it would write.
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "vgpu/settings/settings.h"

namespace {

using namespace vgpu::settings;

constexpr char kIntroduction[] = R"(# Settings

Written by `write_settings_page` from `src/settings/include/vgpu/settings/settings.def`; a test holds this page to it.

Limits come from the flags of `vgpu run`, or from environment variables in a program that runs with
`LD_PRELOAD=libcuda_limiter.so`. They are read once, when the tenant first uses a GPU.

## How values are written

* **Sizes**: a number, with a fraction if you like, and B, K, M, G or T with or without `iB` or `B`, any case: `4GiB`,
  `1.5G`, `512m`. All units are binary, as in nvidia-smi and docker. A bare number is bytes. At least one byte, below 2^63.
* **Percent**: whole numbers from 1 to 100, without a percent sign.
* **`none`** is no limit, also against a weaker setting. An empty value is the same as an unset variable.
* **GPU**: the index that `nvidia-smi -L` prints, whatever CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER say; or the UUID, any
  case, with or without `GPU-`, or as much of it as only one GPU has. Digits alone are an index: a prefix that consists of
  digits is written with `GPU-`. MIG instances can't be named.
* **`VALUE or GPU=VALUE,...`**: one value for all GPUs, or a list such as `0=4GiB,GPU-3430f7=8GiB`. A GPU that the list doesn't
  name is visible and unlimited.
* **JSON**: an object such as `{"0": 1073741824, "gpu-3430f778-7a25-704c-9090-8b0bb2478114": 2147483648}`. Values are plain
  whole numbers; only the word `"none"` may stand in quotes.
* **`NAME_<i>`** (`i` from 0 to 31): that GPU alone, by the same index. HAMi means CUDA's order by it and vgpu-manager the
  host's; here it is NVML's, except that an `_<i>` of vgpu-manager means the GPU that `MANAGER_VISIBLE_DEVICE_<i>` names
  where that is set.

## Which setting wins

For each GPU and each quantity by itself: `vgpu run`, then VGPU_*, then TENSOR_FUSION_*, then HAMi's, then vgpu-manager's.
Within one family a UUID beats an index, and an index beats a value for all GPUs. VGPU_POLICY and VGPU_COMPUTE_LIMIT also
qualify a compute limit that came from a weaker family. A GPU that nothing names is visible and unlimited.

## What happens to a bad value

GPU initialisation fails, with one line on standard error that names the variable, the text, the place in it and what would
be right:

    VGPU_MEMORY_LIMIT="0=4GiB,1=8Q", column 11: "Q" is not a unit; write B, K, M, G or T, with or without iB, as in 4GiB

The same goes for a GPU that isn't there or is named twice, a prefix that several GPUs have, a limit below one CUDA context,
a compute limit below the share, and `fixed` with a limit that differs from the share. `VGPU_ON_ERROR=open` runs the program
unlimited instead, with a warning. `vgpu doctor` lists the variables that are set and what each of them does.

## Effects

| effect | meaning |
|---|---|
| works | does what it says |
| refused | set at all, it stops GPU initialisation: it asks for something that can't be kept |
| ignored, and said | without effect, said once when the tenant first uses a GPU (unless switched off: `false`, a ratio of 1) |
| ignored | without effect and without harm; `vgpu doctor` says so where one is set |
)";

constexpr char kVisibleDevices[] = R"(
## CUDA_VISIBLE_DEVICES

Inside a tenant it selects among the tenant's GPUs, in CUDA's order, as the driver reads it:

* Unset: all. Empty: none.
* A list that begins with `GPU-` (capitals, no space before it): UUIDs in any case, or prefixes of at least one digit that
  only one GPU has. A prefix that none or several have, or an entry of another kind, ends the list. What follows a whole UUID
  doesn't matter.
* A list that begins with `MIG-`: instances of a partitioned GPU. A tenant holds whole GPUs, so none is visible.
* Anything else: ordinals, read as far as digits go (`1x` is 1). One that isn't there, an empty or a negative one ends the
  list; what stands before it counts.
* Spaces around an entry don't matter otherwise. A GPU that is named twice leaves none.

Driver 580 on an H200 answered so, as far as one GPU can tell; lists that need two follow what frameworks assume.
)";

void write_family(std::ostream& out, Family family, const char* heading, const char* before) {
  out << "\n## " << heading << "\n\n"
      << before
      << "| variable | form | effect | when unset | what it is |\n|---|---|---|---|---|\n";
  const auto escaped = [](std::string_view text) {
    std::string result;
    for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
    return result;
  };
  for (const Variable& variable : variables()) {
    if (variable.family != family) continue;
    out << "| `" << variable.name << "`";
    if (variable.shape == Shape::indexed) out << ", `" << variable.name << "_<i>`";
    out << " | `" << escaped(describe_form(variable).view()) << "` | " << describe(variable.effect)
        << " | " << variable.fallback << " | " << escaped(variable.text) << " |\n";
  }
}

std::string page() {
  std::ostringstream out;
  out << kIntroduction;
  write_family(out, Family::vgpu, "vgpu", "");
  write_family(out, Family::tensor_fusion, "vgpu.rs (TensorFusion)", "");
  write_family(out, Family::hami, "HAMi", "");
  write_family(out, Family::vgpu_manager, "vgpu-manager", "");
  write_family(out, Family::nvidia, "NVIDIA", "");
  out << kVisibleDevices;
  return out.str();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    std::cout << page();
    return std::cout.good() ? 0 : 1;
  }
  if (argc != 3 || std::string(argv[1]) != "--check") {
    std::cerr << "usage: write_settings_page [--check FILE]\n";
    return 2;
  }
  std::ifstream file(argv[2]);
  std::ostringstream committed;
  committed << file.rdbuf();
  if (file && committed.str() == page()) return 0;
  std::cerr
      << argv[2]
      << " is not what the table says; write it anew:\n  write_settings_page > docs/settings.md\n";
  return 1;
}
