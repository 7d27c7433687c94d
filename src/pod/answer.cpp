// SPDX-License-Identifier: Apache-2.0
#include "vgpu/pod/answer.h"

#include <cstdint>

#include "vgpu/settings/json_object.h"

namespace vgpu::pod {
namespace {

using settings::JsonArray;
using settings::JsonMember;
using settings::JsonObject;
using Kind = JsonMember::Kind;

constexpr std::string_view kNoAnswer = "the answer isn't what such a daemon says: ";

bool refuse(Why& why, std::string_view what) {
  why = Why(kNoAnswer);
  why.append(what);
  return false;
}

bool is_null(const JsonMember& member) {
  return member.kind == Kind::word && member.value.text == "null";
}
bool is_true(const JsonMember& member) {
  return member.kind == Kind::word && member.value.text == "true";
}

// The members of an object, as far as `each` wants them: false at its first refusal and where the
// object is broken.
template <class Each>
bool for_each_member(std::string_view text, Why& why, Each each) {
  JsonObject object(text, JsonObject::Values::nested);
  for (JsonMember member; object.next(member);) {
    if (!each(member)) return false;
  }
  return !object.failed() || refuse(why, "broken JSON");
}

template <class Each>
bool for_each_element(const JsonMember& list, Why& why, Each each) {
  if (list.kind != Kind::array) return refuse(why, "a list is expected");
  JsonArray array(list.value.text);
  for (JsonMember element; array.next(element);) {
    if (!each(element)) return false;
  }
  return !array.failed() || refuse(why, "broken JSON");
}

bool read_bytes(const JsonMember& member, std::uint64_t& bytes) {
  settings::Fault fault;
  return member.kind == Kind::number && settings::parse_bytes(member.value, bytes, fault) &&
         bytes != 0;
}

bool read_percent(const JsonMember& member, std::uint8_t& percent) {
  settings::Fault fault;
  std::uint64_t number = 0;
  if (is_null(member)) {
    percent = 0;
    return true;
  }
  if (member.kind != Kind::number || !settings::parse_percent(member.value, number, fault))
    return false;
  percent = static_cast<std::uint8_t>(number);
  return true;
}

template <class Enum>
bool read_word(const JsonMember& member, settings::Value kind, Enum& value) {
  settings::Fault fault;
  std::uint64_t number = 0;
  if (member.kind != Kind::string || !settings::parse_value(kind, member.value, number, fault))
    return false;
  value = static_cast<Enum>(number);
  return true;
}

bool add_gpu(const JsonMember& name, const Quota& quota, Limits& limits, Why& why) {
  const auto uuid = name.kind == Kind::string ? GpuUuid::parse(name.value.text) : std::nullopt;
  if (!uuid.has_value()) return refuse(why, "a GPU is named by its UUID");
  if (find(limits, *uuid) != nullptr) return refuse(why, "a GPU twice");
  return limits.gpus.push_back({*uuid, quota}) || refuse(why, "more GPUs than a tenant can have");
}

// {"memory_limit_bytes": ..., "share_percent": ..., "limit_percent": ..., "policy": ...,
//  "priority": ...}, as our own daemon writes quotas everywhere.
bool read_quota(const JsonMember& object, Quota& quota, Why& why) {
  if (object.kind != Kind::object) return refuse(why, "a quota is expected");
  const bool read = for_each_member(object.value.text, why, [&](const JsonMember& member) {
    const std::string_view name = member.name.text;
    bool good = true;
    if (name == "memory_limit_bytes")
      good = is_null(member) || read_bytes(member, quota.memory_limit_bytes);
    if (name == "share_percent") good = read_percent(member, quota.compute_share_percent);
    if (name == "limit_percent") good = read_percent(member, quota.compute_limit_percent);
    if (name == "policy") good = read_word(member, settings::Value::policy, quota.policy);
    if (name == "priority") good = read_word(member, settings::Value::priority, quota.priority);
    return good || refuse(why, name);
  });
  if (!read) return false;
  const std::uint8_t share = quota.compute_share_percent;
  const std::uint8_t limit = quota.compute_limit_percent;
  if ((limit != 0 && limit < share) || (quota.policy == Policy::fixed && limit != share))
    return refuse(why, "a compute limit that doesn't fit its share");
  if (quota.limits_memory()) quota.memory_source = Source::daemon;
  if (quota.limits_compute()) quota.compute_source = Source::daemon;
  return true;
}

// {"gpus": [{"uuid": ..., "quota": {...}}]}
bool read_own(const JsonMember& own, Limits& limits, Why& why) {
  if (own.kind != Kind::object) return refuse(why, "vgpu");
  return for_each_member(own.value.text, why, [&](const JsonMember& member) {
    if (member.name.text != "gpus") return true;
    return for_each_element(member, why, [&](const JsonMember& gpu) {
      if (gpu.kind != Kind::object) return refuse(why, "vgpu.gpus");
      JsonMember uuid;
      uuid.kind = Kind::word;
      bool has_quota = false;
      Quota quota;
      const bool read = for_each_member(gpu.value.text, why, [&](const JsonMember& field) {
        if (field.name.text == "uuid") uuid = field;
        if (field.name.text != "quota") return true;
        has_quota = true;
        return read_quota(field, quota, why);
      });
      if (read && !has_quota) return refuse(why, "a GPU without a quota");
      return read && add_gpu(uuid, quota, limits, why);
    });
  });
}

bool check_isolation(const JsonMember& member, Why& why) {
  if (is_null(member)) return true;
  std::uint64_t ignored = 0;
  settings::Fault fault;
  if (member.kind == Kind::string &&
      settings::parse_value(settings::Value::isolation, member.value, ignored, fault))
    return true;
  why = Why("the pod is to have isolation \"");
  for (const char c : settings::part(member.value.text, 0, 40))
    why.append(c >= 0x20 && c < 0x7f ? c : '?');
  why.append("\", which a library can't keep; soft is what this limiter does");
  return false;
}

struct PodFields {
  JsonMember gpu_uuids, own;  // of kind word: they aren't there
  Quota quota;                // what holds for each GPU
  bool has_tflops = false;
};

bool read_data(std::string_view data, PodFields& fields, Why& why) {
  return for_each_member(data, why, [&](const JsonMember& member) {
    const std::string_view name = member.name.text;
    if (name == "gpu_uuids") fields.gpu_uuids = member;
    if (name == "vgpu") fields.own = member;
    if (name == "tflops_limit") fields.has_tflops = !is_null(member);
    if (name == "isolation") return check_isolation(member, why);
    if (name == "vram_limit" && !is_null(member)) {
      if (!read_bytes(member, fields.quota.memory_limit_bytes)) return refuse(why, "vram_limit");
      fields.quota.memory_source = Source::tensor_fusion;
    }
    if (name == "qos_level" && member.kind == Kind::string) {
      const std::string_view level = member.value.text;
      if (level == "Low") fields.quota.priority = Priority::low;
      if (level == "High" || level == "Critical") fields.quota.priority = Priority::high;
    }
    return true;
  });
}

// {"success": ..., "data": ..., "message": ...}; `data` of kind word where there is none.
bool read_envelope(std::string_view body, JsonMember& data, Why& why) {
  bool succeeded = false;
  bool is_whole = false;
  JsonMember message;
  data.kind = Kind::word;
  const bool read = for_each_member(body, why, [&](const JsonMember& member) {
    if (member.name.text == "success") {
      is_whole = member.kind == Kind::word;
      succeeded = is_true(member);
    }
    if (member.name.text == "message" && member.kind == Kind::string) message = member;
    if (member.name.text == "data") data = member;
    return true;
  });
  if (!read) return false;
  if (!is_whole) return refuse(why, "success");
  if (succeeded) return true;
  why = Why("the daemon says \"");
  for (const char c : settings::part(message.value.text, 0, 120))
    why.append(c >= 0x20 && c < 0x7f ? c : '?');
  why.append("\"");
  return false;
}

}  // namespace

bool parse_answer(std::string_view body, Limits& limits, Why& why) {
  limits = Limits();
  JsonMember data;
  if (!read_envelope(body, data, why)) return false;
  if (data.kind != Kind::object) return refuse(why, "data");
  PodFields fields;
  fields.gpu_uuids.kind = fields.own.kind = Kind::word;
  if (!read_data(data.value.text, fields, why)) return false;
  limits.has_tflops = fields.has_tflops;
  if (fields.own.kind != Kind::word) {
    if (!read_own(fields.own, limits, why)) return false;
    return !limits.gpus.empty() || refuse(why, "vgpu.gpus");
  }
  limits.has_compute = false;
  const bool read = for_each_element(fields.gpu_uuids, why, [&](const JsonMember& name) {
    return add_gpu(name, fields.quota, limits, why);
  });
  return read && (!limits.gpus.empty() || refuse(why, "gpu_uuids"));
}

bool parse_success(std::string_view body, Why& why) {
  JsonMember data;
  return read_envelope(body, data, why);
}

}  // namespace vgpu::pod
