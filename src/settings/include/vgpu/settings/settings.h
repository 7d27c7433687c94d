// SPDX-License-Identifier: Apache-2.0
// From environment variables to quotas. Pure: the environment and the list of GPUs come in, quotas
// and messages go out; nothing is read, printed or allocated. Used by the limiter (inside a user's
// process), `vgpu` and the tests. The variables themselves are one table: settings.def.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vgpu/base/fixed_string.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/base/quota.h"

namespace vgpu::settings {

inline constexpr std::size_t kMaxGpus = 32;

using Line = FixedString<400>;

// Where variables come from: the real environment, /proc/1/environ, or a test's table.
class Environment {
 public:
  virtual const char* get(const char* name) const = 0;  // nullptr: unset

 protected:
  ~Environment() = default;
};

// --- the table
// ---------------------------------------------------------------------------------------------------

enum class Family : std::uint8_t { vgpu, tensor_fusion, hami, vgpu_manager, nvidia };
enum class Shape : std::uint8_t { plain, per_gpu, json, indexed, list };
enum class Value : std::uint8_t {
  size,             // "4GiB", "none"
  size_or_zero,     // HAMi's: 0 limits nothing
  bytes,            // a JSON number of bytes
  percent,          // 1-100, "none"
  percent_off,      // 1-100, of which 100 limits nothing
  percent_lenient,  // HAMi's: 0 and 100 or more limit nothing
  policy,
  hami_policy,
  priority,
  hami_priority,
  gpu,
  boolean,
  ratio,
  on_error,
  isolation,
  log,
  log_level,
  path,
  text,
};
enum class Quantity : std::uint8_t {
  memory,
  share,
  limit,
  policy,
  priority,
  gpu_set,
  log,
  hooks,
  on_error,
  none
};
enum class Effect : std::uint8_t {
  works,
  refused,       // set at all, it stops GPU initialisation
  ignored_said,  // no effect, said once
  ignored,       // no effect; `vgpu doctor` and docs/settings.md say so
};

struct Variable {
  const char* name;  // of an indexed variable, without its _<i>
  Family family;
  Shape shape;
  Value value;
  Quantity quantity;
  Effect effect;
  std::string_view fallback;  // what holds when it isn't set
  std::string_view text;      // one line for people
};

std::span<const Variable> variables();
// The row of `name`; "CUDA_MEM_LIMIT_3" finds CUDA_MEM_LIMIT. nullptr: not a variable of ours.
const Variable* find_variable(std::string_view name);
std::string_view describe(Family family);
std::string_view describe(Effect effect);
// "SIZE or GPU=SIZE,...": how the value of a row is written.
Line describe_form(const Variable& variable);

// --- quotas
// ------------------------------------------------------------------------------------------------------

struct GpuIdentity {
  GpuUuid uuid;
  std::uint32_t nvml_index = 0;
  std::uint64_t total_bytes = 0;  // 0: unknown, limits are then not checked against it
};

struct Messages {
  FixedVector<Line, 16>
      errors;  // refuse: each names the variable, the text, the place in it and what would be right
  FixedVector<Line, 16> notices;  // said once: what is ignored, and why
};

// Which quantities of one GPU somebody set, `none` included.
struct SetQuantities {
  bool memory = false;
  bool share = false;
  bool limit = false;
  bool policy = false;
  bool priority = false;
};

struct ResolvedQuotas {
  FixedVector<Quota, kMaxGpus> per_gpu;      // parallel to the list of GPUs that was passed in
  FixedVector<SetQuantities, kMaxGpus> set;  // likewise
};

// True when any variable that sets a limit or a GPU set is present and not empty (what HAMi and
// vgpu-manager qualify a limit with, a policy say, doesn't make a tenant by itself): this process,
// or the one it inherited the variable from, is a tenant. Cheap (a handful of look-ups): the
// library's constructor calls it in every program.
bool any_limit_set(const Environment& environment);
// The same of an `environ`, in one pass over it: a microsecond even where hundreds of variables are
// set. nullptr: false.
bool any_limit_set(const char* const* entries);

// Everything that can be said without knowing the GPUs (syntax, ranges, switches, logs), notices
// included. For `vgpu doctor` and early refusal; resolve_quotas and resolve_gpu_set say it again.
void check_syntax(const Environment& environment, Messages& messages);

// The quotas of `gpus`. With errors, `quotas` must not be used. `minimum_bytes`: what one context
// takes on each GPU (0: unknown); a limit below it is refused because it can't be met. Indices are
// NVML's; an `_<i>` of vgpu-manager means the GPU that MANAGER_VISIBLE_DEVICE_<i> names, where that
// is set. Precedence, for each GPU and each quantity: VGPU_*, TENSOR_FUSION_*, HAMi's,
// vgpu-manager's; within each UUID before index before all GPUs.
void resolve_quotas(const Environment& environment, std::span<const GpuIdentity> gpus,
                    std::uint64_t minimum_bytes, ResolvedQuotas& quotas, Messages& messages);

// The GPUs (positions in `gpus`) that the tenant's environment restricts it to (VGPU_GPUS,
// MANAGER_VISIBLE_DEVICES); all of them when nothing does.
void resolve_gpu_set(const Environment& environment, std::span<const GpuIdentity> gpus,
                     FixedVector<std::uint32_t, kMaxGpus>& positions, Messages& messages);

// "4GiB", "1.5G", "512m", "1073741824". False and a reason in `why` when it isn't a size of at
// least one byte below 2^63; "none" gives kNoLimit.
bool parse_size(std::string_view text, std::uint64_t& bytes, Line& why);
// "30": a whole number from 1 to 100; "none" gives 0.
bool parse_percent(std::string_view text, std::uint8_t& percent, Line& why);

// Shown as nvidia-smi and docker do: "4 GiB", "1536 MiB", "4097 MiB", "1000 B"; never rounded, so
// that it reads back as the same number; "none" for kNoLimit.
FixedString<24> format_size(std::uint64_t bytes);

// VGPU_ON_ERROR: refuse (default) or open.
bool opens_on_error(const Environment& environment);

// CUDA_VISIBLE_DEVICES as the driver reads it, seen from inside a tenant whose GPUs are `gpus` in
// CUDA order: the positions that stay visible, in order. `value` nullptr: unset, all are visible.
//  * Empty or blank: none.
//  * A list that begins with "GPU-": UUIDs or prefixes of them that only one GPU has; one that none
//  or several have,
//    or an entry of another kind, ends the list.
//  * A list that begins with "MIG-": names of MIG instances. A tenant holds whole GPUs, so none.
//  * Anything else: ordinals, read as far as digits go ("1x" is 1); one that isn't there, an empty
//  or a negative one
//    ends the list, what stands before it counts.
//  * Spaces around an entry don't matter otherwise. A GPU that is named twice leaves none (the
//  driver's cuInit fails with
//    INVALID_DEVICE then, and with NO_DEVICE where a list names none).
// Driver 580 on an H200 answers so (tests/conformance/answers, "visible."); lists that need two
// GPUs follow what frameworks assume.
void visible_devices(const char* value, std::span<const GpuUuid> gpus,
                     FixedVector<std::uint32_t, kMaxGpus>& positions);

// --- switches and logs
// -------------------------------------------------------------------------------------------

// ENABLE_CUDA_HOOKS and ENABLE_NVML_HOOKS: for bare variables only, `vgpu run` refuses what isn't
// `true`.
struct HookSwitches {
  bool cuda = true;
  bool nvml = true;
};
HookSwitches hook_switches(const Environment& environment);

enum class LogLevel : std::uint8_t { off, error, warning, info, debug };
struct LogSettings {
  LogLevel level = LogLevel::off;
  FixedString<255> path;  // empty: standard error. Standard output is never written to
  bool may_be_directory =
      false;  // TF_LOG_PATH: where `path` turns out to be a directory, `path`/tf.log
};
// VGPU_LOG, else TF_ENABLE_LOG, TF_LOG_LEVEL, TF_LOG_PATH. What can't be read is off; check_syntax
// says why.
LogSettings log_settings(const Environment& environment);

}  // namespace vgpu::settings
