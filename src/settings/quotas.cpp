// SPDX-License-Identifier: Apache-2.0
// From the table's rows to one quota for each GPU. First every variable states what it says about
// each GPU (a Choice); the strongest choice wins, for each GPU and each quantity; then the
// quantities are combined and held against each other. Nothing is guessed: whatever can't be read
// or met is one line in `errors`.
#include "gpu_names.h"
#include "vgpu/settings/json_object.h"

namespace vgpu::settings {
namespace {

enum class Named : std::uint8_t { uuid, index, all };  // the order is the precedence

// An indexed variable is looked for as NAME_0 to NAME_31.
constexpr int kNoSuffix = -1;

struct Choice {
  const Variable* variable = nullptr;  // nullptr: nobody said anything
  int suffix = kNoSuffix;
  Named named = Named::all;
  std::uint64_t value = 0;
  std::size_t at = 0;  // where in the variable's value

  bool is_set() const { return variable != nullptr; }
  Family family() const { return variable->family; }
  bool stronger_than(const Choice& other) const {
    if (!other.is_set()) return true;
    if (family() != other.family()) return family() < other.family();
    return named < other.named;
  }
};

constexpr std::size_t kQuantities = 5;  // memory, share, limit, policy, priority

struct GpuChoices {
  Choice by_quantity[kQuantities];
  Choice& operator[](Quantity quantity) { return by_quantity[static_cast<std::size_t>(quantity)]; }
};

bool decides_quota(const Variable& variable) {
  return static_cast<std::size_t>(variable.quantity) < kQuantities;
}

using VariableName = FixedString<80>;
VariableName full_name(const Variable& variable, int suffix) {
  VariableName name{std::string_view(variable.name)};
  if (suffix != kNoSuffix) name.append('_').append_number(static_cast<std::uint64_t>(suffix));
  return name;
}

std::string_view value_of(const Environment& environment, const Variable& variable, int suffix) {
  return settings::value_of(environment, full_name(variable, suffix).c_str());
}

bool makes_a_tenant(const Variable& variable) {
  switch (variable.quantity) {
    case Quantity::memory:
    case Quantity::share:
    case Quantity::limit:
    case Quantity::gpu_set:
      return true;
    case Quantity::policy:
    case Quantity::priority:
      return variable.family == Family::vgpu;
    case Quantity::log:
    case Quantity::hooks:
    case Quantity::on_error:
    case Quantity::none:
      break;
  }
  return variable.effect == Effect::refused;
}

template <class Function>  // bool(int suffix, string_view value): false stops
bool for_each_value(const Environment& environment, const Variable& variable, Function&& function) {
  const int last = variable.shape == Shape::indexed ? static_cast<int>(kMaxGpus) - 1 : kNoSuffix;
  for (int suffix = kNoSuffix; suffix <= last; ++suffix) {
    const std::string_view value = value_of(environment, variable, suffix);
    if (!value.empty() && !function(suffix, value)) return false;
  }
  return true;
}

bool is_set(const Environment& environment, const Variable& variable) {
  return !for_each_value(environment, variable, [](int, std::string_view) { return false; });
}

Source source_of(Family family) {
  switch (family) {
    case Family::vgpu:
      return Source::vgpu;
    case Family::tensor_fusion:
      return Source::tensor_fusion;
    case Family::hami:
      return Source::hami;
    case Family::vgpu_manager:
      return Source::vgpu_manager;
    case Family::nvidia:
      break;
  }
  return Source::none;
}

Fault fault_at(std::size_t at, std::string_view why) { return Fault{at, Line(why)}; }

// One variable that names GPUs may name each once by UUID and once by index.
class NamesSeen {
 public:
  bool add(const GpuName& name, Piece piece, Fault& fault) {
    for (const GpuName& seen : names_) {
      if (same_gpu_name(seen, name)) return fail(piece, fault);
    }
    if (names_.push_back(name)) return true;
    fault = fault_at(piece.at, "more names of GPUs than there can be GPUs");
    return false;
  }
  bool add_position(const GpuName& name, std::uint32_t position, Piece piece, Fault& fault) {
    std::uint64_t& seen = name.is_index ? by_index_ : by_uuid_;
    if ((seen >> position & 1) != 0) return fail(piece, fault);
    seen |= std::uint64_t{1} << position;
    return true;
  }

 private:
  static bool fail(Piece piece, Fault& fault) {
    fault.at = piece.at;
    fault.why = Line("\"");
    append_excerpt(fault.why, piece.text, 0, 60);
    fault.why.append("\" names a GPU for the second time; name each once");
    return false;
  }

  FixedVector<GpuName, 2 * kMaxGpus> names_;
  std::uint64_t by_uuid_ = 0;
  std::uint64_t by_index_ = 0;
};

class Resolver {
 public:
  // `gpus_known` false: syntax only, names are not looked up.
  Resolver(const Environment& environment, std::span<const GpuIdentity> gpus, bool gpus_known,
           Messages& messages)
      : environment_(environment),
        gpus_(gpus.first(gpus.size() < kMaxGpus ? gpus.size() : kMaxGpus)),
        gpus_known_(gpus_known),
        messages_(messages) {}

  void read_variables();
  void combine(std::uint64_t minimum_bytes, ResolvedQuotas& quotas);
  void resolve_gpu_set(FixedVector<std::uint32_t, kMaxGpus>& positions);

 private:
  void refuse(const Variable& variable, int suffix, std::string_view value, const Fault& fault) {
    report(messages_.errors, full_name(variable, suffix).view(), value, fault);
  }
  void refuse(const Choice& choice, const Fault& fault) {
    refuse(*choice.variable, choice.suffix, value_of(environment_, *choice.variable, choice.suffix),
           fault);
  }
  void choose(std::uint32_t gpu, const Choice& choice) {
    Choice& current = choices_[gpu][choice.variable->quantity];
    if (choice.stronger_than(current)) current = choice;
  }
  bool choose_named(const Variable& variable, const GpuName& name, Piece piece, std::uint64_t value,
                    std::size_t at, NamesSeen& seen, Fault& fault);
  bool read_plain(const Variable& variable, int suffix, std::string_view value, Fault& fault);
  bool read_per_gpu(const Variable& variable, std::string_view value, Fault& fault);
  bool read_json(const Variable& variable, std::string_view value, Fault& fault);
  bool read_list(const Variable& variable, std::string_view value, std::uint64_t& set,
                 Fault& fault);
  void read_variable(const Variable& variable);
  void say_ignored(const Variable& variable);
  bool find_by_suffix(const Variable& variable, int suffix, std::uint32_t& gpu, Fault& fault);
  void combine_memory(GpuChoices& choices, std::uint64_t minimum_bytes, Quota& quota);
  void combine_compute(GpuChoices& choices, Quota& quota);

  const Environment& environment_;
  std::span<const GpuIdentity> gpus_;
  bool gpus_known_;
  Messages& messages_;
  GpuChoices choices_[kMaxGpus];
};

bool Resolver::choose_named(const Variable& variable, const GpuName& name, Piece piece,
                            std::uint64_t value, std::size_t at, NamesSeen& seen, Fault& fault) {
  if (!seen.add(name, piece, fault)) return false;
  if (!gpus_known_) return true;
  std::uint32_t gpu = 0;
  if (!find_gpu(name, piece, gpus_, gpu, fault)) return false;
  if (!seen.add_position(name, gpu, piece, fault)) return false;
  choose(gpu, Choice{&variable, kNoSuffix, name.is_index ? Named::index : Named::uuid, value, at});
  return true;
}

// Which GPU NAME_<suffix> means: the NVML index, except where vgpu-manager's own variables say
// which it is.
bool Resolver::find_by_suffix(const Variable& variable, int suffix, std::uint32_t& gpu,
                              Fault& fault) {
  if (variable.family == Family::vgpu_manager) {
    const Variable& device = *find_variable("MANAGER_VISIBLE_DEVICE");
    const std::string_view uuid = value_of(environment_, device, suffix);
    GpuName name;
    Fault own;
    if (!uuid.empty()) {
      if (parse_gpu_name(Piece{uuid, 0}, name, own) &&
          find_gpu(name, Piece{uuid, 0}, gpus_, gpu, own))
        return true;
      fault = fault_at(0, "is for the GPU that MANAGER_VISIBLE_DEVICE");
      fault.why.append('_')
          .append_number(static_cast<std::uint64_t>(suffix))
          .append(" names, and ");
      fault.why.append(own.why.view());
      return false;
    }
  }
  GpuName name;
  name.is_index = true;
  name.index = static_cast<std::uint32_t>(suffix);
  FixedString<16> text;
  text.append_number(name.index);
  return find_gpu(name, Piece{text.view(), 0}, gpus_, gpu, fault);
}

bool Resolver::read_plain(const Variable& variable, int suffix, std::string_view value,
                          Fault& fault) {
  std::uint64_t number = 0;
  if (!parse_value(variable.value, Piece{value, 0}, number, fault)) return false;
  if (!decides_quota(variable) || !gpus_known_) return true;
  if (suffix == kNoSuffix) {
    for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) {
      choose(gpu, Choice{&variable, suffix, Named::all, number, 0});
    }
    return true;
  }
  std::uint32_t gpu = 0;
  if (!find_by_suffix(variable, suffix, gpu, fault)) return false;
  choose(gpu, Choice{&variable, suffix, Named::index, number, 0});
  return true;
}

bool Resolver::read_per_gpu(const Variable& variable, std::string_view value, Fault& fault) {
  if (value.find_first_of("=,") == std::string_view::npos)
    return read_plain(variable, kNoSuffix, value, fault);
  NamesSeen seen;
  Entries entries(value);
  for (Piece entry; entries.next(entry);) {
    if (entry.text.empty()) {
      fault = fault_at(entry.at, "an empty entry; write GPU=VALUE between commas");
      return false;
    }
    const std::size_t equals = entry.text.find('=');
    if (equals == std::string_view::npos) {
      fault = fault_at(entry.at, "\"");
      append_excerpt(fault.why, entry.text, 0, 40);
      fault.why.append(
          "\" names no GPU; write GPU=VALUE for each, or one value alone for all GPUs");
      return false;
    }
    const Piece name_piece = Piece{part(entry.text, 0, equals), entry.at}.trimmed();
    const Piece value_piece = entry.from(equals + 1).trimmed();
    GpuName name;
    std::uint64_t number = 0;
    if (!parse_gpu_name(name_piece, name, fault) ||
        !parse_value(variable.value, value_piece, number, fault) ||
        !choose_named(variable, name, name_piece, number, value_piece.at, seen, fault)) {
      return false;
    }
  }
  return true;
}

bool Resolver::read_json(const Variable& variable, std::string_view value, Fault& fault) {
  NamesSeen seen;
  JsonObject object(value);
  for (JsonMember member; object.next(member);) {
    GpuName name;
    std::uint64_t number = 0;
    if (!parse_gpu_name(member.name, name, fault)) return false;
    if (member.kind == JsonMember::Kind::string && same_word(member.value.text, "none")) {
      number = variable.quantity == Quantity::memory ? kNoLimit : 0;
    } else if (member.kind == JsonMember::Kind::string) {
      fault = fault_at(member.value.at - 1, "a number in quotes");
      std::uint64_t unquoted = 0;
      Fault ignored;
      const bool is_number = parse_value(variable.value, member.value.trimmed(), unquoted, ignored);
      if (!is_number) fault = fault_at(member.value.at - 1, "a string");
      fault.why.append(is_number ? "; drop the quotes" : "; write a plain number, or \"none\"");
      if (!is_number && variable.quantity == Quantity::memory)
        fault.why.append(", sizes such as 4GiB go into VGPU_MEMORY_LIMIT");
      return false;
    } else if (!parse_value(variable.value, member.value, number, fault)) {
      return false;
    }
    if (!choose_named(variable, name, member.name, number, member.value.at, seen, fault))
      return false;
  }
  if (object.failed()) fault = object.fault();
  return !object.failed();
}

// Adds the GPUs of a comma-separated list to `set`, a bit for each position.
bool Resolver::read_list(const Variable& variable, std::string_view value, std::uint64_t& set,
                         Fault& fault) {
  static_cast<void>(variable);
  if (same_word(value, "all")) {
    for (std::size_t gpu = 0; gpu < gpus_.size(); ++gpu) set |= std::uint64_t{1} << gpu;
    return true;
  }
  Entries entries(value);
  for (Piece entry; entries.next(entry);) {
    GpuName name;
    if (!parse_gpu_name(entry, name, fault)) return false;
    if (!gpus_known_) continue;
    std::uint32_t gpu = 0;
    if (!find_gpu(name, entry, gpus_, gpu, fault)) return false;
    if ((set >> gpu & 1) != 0) {
      NamesSeen twice;
      return twice.add_position(name, gpu, entry, fault) &&
             twice.add_position(name, gpu, entry, fault);
    }
    set |= std::uint64_t{1} << gpu;
  }
  return true;
}

void Resolver::say_ignored(const Variable& variable) {
  for_each_value(environment_, variable, [&](int suffix, std::string_view value) {
    std::uint64_t number = 1;
    Fault fault;
    if (variable.value == Value::boolean &&
        parse_value(Value::boolean, Piece{value, 0}, number, fault) && number == 0) {
      return true;  // switched off: there is nothing that we don't do
    }
    if (variable.value == Value::ratio && (value == "1" || value == "1.0")) return true;
    Line line(full_name(variable, suffix).view());
    line.append("=\"");
    append_excerpt(line, value, 0);
    line.append("\" is ignored: ").append(variable.text);
    messages_.notices.push_back(line);
    return false;  // once for all its indices
  });
}

void Resolver::read_variable(const Variable& variable) {
  if (variable.effect == Effect::ignored) return;
  if (variable.effect == Effect::ignored_said) return say_ignored(variable);
  for_each_value(environment_, variable, [&](int suffix, std::string_view value) {
    Fault fault;
    bool good = true;
    std::uint64_t set = 0;
    if (variable.effect == Effect::refused) {
      good = false;
      fault = fault_at(0, "is refused: ");
      fault.why.append(variable.text);
    } else if (variable.value == Value::gpu && suffix == kNoSuffix &&
               variable.shape == Shape::indexed) {
      good = false;
      fault = fault_at(0, "needs the index in its name; write ");
      fault.why.append(variable.name).append("_0=GPU-..., or use VGPU_GPUS");
    } else if (variable.value == Value::gpu) {
      good = read_list(variable, value, set, fault);
    } else if (variable.shape == Shape::per_gpu) {
      good = read_per_gpu(variable, value, fault);
    } else if (variable.shape == Shape::json) {
      good = read_json(variable, value, fault);
    } else {
      good = read_plain(variable, suffix, value, fault);
    }
    if (!good) refuse(variable, suffix, value, fault);
    return true;
  });
}

void Resolver::read_variables() {
  for (const Variable& variable : variables()) read_variable(variable);
}

void Resolver::combine_memory(GpuChoices& choices, std::uint64_t minimum_bytes, Quota& quota) {
  const Choice& memory = choices[Quantity::memory];
  if (!memory.is_set()) return;
  quota.memory_limit_bytes = memory.value;
  quota.memory_source = source_of(memory.family());
  if (memory.value >= minimum_bytes) return;
  Fault fault = fault_at(memory.at, "");
  fault.why.append(format_size(memory.value).view()).append(" can't be met: one context needs ");
  fault.why.append(format_size(minimum_bytes).view()).append("; write a larger size");
  refuse(memory, fault);
}

void Resolver::combine_compute(GpuChoices& choices, Quota& quota) {
  const Choice& share = choices[Quantity::share];
  const Choice& policy = choices[Quantity::policy];
  Choice limit = choices[Quantity::limit];
  std::uint64_t percent = share.is_set() ? share.value : 0;
  bool fixed = false;

  // vgpu-manager's soft limit belongs to vgpu-manager's limit: it says nothing about a share that
  // somebody else set.
  if (limit.is_set() && limit.family() == Family::vgpu_manager && share.is_set() &&
      share.family() != Family::vgpu_manager) {
    limit = Choice{};
  }
  const bool own_policy = policy.is_set() && policy.family() == Family::vgpu;
  if (own_policy) {
    fixed = policy.value == static_cast<std::uint64_t>(Policy::fixed);
  } else if (share.is_set() && share.family() != Family::vgpu && percent != 0) {
    fixed = !limit.is_set() || limit.value == percent;  // what others call a limit is hard
    if (share.family() == Family::hami && policy.is_set()) {
      constexpr std::uint64_t kDefault = 1;
      constexpr std::uint64_t kDisable = 2;
      if (policy.value == kDefault) fixed = false;
      if (policy.value == kDisable) percent = 0;
      if (policy.value == kDisable) fixed = false;
    }
  }
  const std::uint64_t most = limit.is_set() ? limit.value : 0;
  if (most != 0 && most < percent) {
    Fault fault = fault_at(limit.at, "");
    fault.why.append_number(most)
        .append(" percent is below the compute share of ")
        .append_number(percent);
    fault.why.append(" percent (")
        .append(share.variable->name)
        .append("); write at least ")
        .append_number(percent);
    return refuse(limit, fault);
  }
  if (fixed && most != 0 && most != percent) {
    Fault fault = fault_at(policy.at, "fixed means that share and limit are equal, and ");
    fault.why.append(limit.variable->name).append(" is ").append_number(most);
    fault.why.append("; leave that out and set the share (VGPU_COMPUTE), or write elastic");
    return refuse(policy, fault);
  }
  quota.compute_share_percent = static_cast<std::uint8_t>(percent);
  quota.compute_limit_percent = static_cast<std::uint8_t>(fixed ? percent : most);
  quota.policy = fixed && percent != 0 ? Policy::fixed : Policy::elastic;
  if (share.is_set()) {
    quota.compute_source = source_of(share.family());
  } else if (limit.is_set()) {
    quota.compute_source = source_of(limit.family());
  }
  if (const Choice& priority = choices[Quantity::priority]; priority.is_set()) {
    quota.priority = static_cast<Priority>(priority.value);
  }
}

void Resolver::combine(std::uint64_t minimum_bytes, ResolvedQuotas& quotas) {
  quotas.per_gpu.clear();
  quotas.set.clear();
  for (std::size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    Quota quota;
    combine_memory(choices_[gpu], minimum_bytes, quota);
    combine_compute(choices_[gpu], quota);
    quotas.per_gpu.push_back(quota);
    GpuChoices& choices = choices_[gpu];
    quotas.set.push_back({choices[Quantity::memory].is_set(), choices[Quantity::share].is_set(),
                          choices[Quantity::limit].is_set(), choices[Quantity::policy].is_set(),
                          choices[Quantity::priority].is_set()});
  }
}

void Resolver::resolve_gpu_set(FixedVector<std::uint32_t, kMaxGpus>& positions) {
  positions.clear();
  std::uint64_t set = 0;
  bool restricted = false;
  Family strongest = Family::nvidia;
  for (const Variable& variable : variables()) {
    if (variable.quantity != Quantity::gpu_set || (restricted && variable.family != strongest))
      continue;
    std::uint64_t own = 0;  // MANAGER_VISIBLE_DEVICES and its _<i> may name the same GPU
    for_each_value(environment_, variable, [&](int suffix, std::string_view value) {
      if (variable.shape == Shape::indexed && suffix == kNoSuffix) return true;
      restricted = true;
      strongest = variable.family;
      Fault fault;
      if (!read_list(variable, value, own, fault)) refuse(variable, suffix, value, fault);
      return true;
    });
    set |= own;
  }
  for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    if (!restricted || (set >> gpu & 1) != 0) positions.push_back(gpu);
  }
}

}  // namespace

bool any_limit_set(const Environment& environment) {
  for (const Variable& variable : variables()) {
    if (makes_a_tenant(variable) && is_set(environment, variable)) return true;
  }
  return false;
}

bool any_limit_set(const char* const* entries) {
  if (entries == nullptr) return false;
  for (; *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    // What the names of all of them begin with: most variables of a program end here.
    if (entry.empty() || std::string_view("CMTV").find(entry[0]) == std::string_view::npos)
      continue;
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    if (Piece{part(entry, equals + 1), 0}.trimmed().text.empty()) continue;
    const Variable* variable = find_variable(part(entry, 0, equals));
    if (variable != nullptr && makes_a_tenant(*variable)) return true;
  }
  return false;
}

void check_syntax(const Environment& environment, Messages& messages) {
  Resolver(environment, {}, false, messages).read_variables();
}

void resolve_quotas(const Environment& environment, std::span<const GpuIdentity> gpus,
                    std::uint64_t minimum_bytes, ResolvedQuotas& quotas, Messages& messages) {
  Resolver resolver(environment, gpus, true, messages);
  resolver.read_variables();
  resolver.combine(minimum_bytes, quotas);
}

void resolve_gpu_set(const Environment& environment, std::span<const GpuIdentity> gpus,
                     FixedVector<std::uint32_t, kMaxGpus>& positions, Messages& messages) {
  Resolver(environment, gpus, true, messages).resolve_gpu_set(positions);
}

}  // namespace vgpu::settings
