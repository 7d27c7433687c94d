// SPDX-License-Identifier: Apache-2.0
#include "refusals.h"

#include <array>
#include <utility>

namespace vgpu::hypervisor {
namespace {

struct RefusalRow {
  std::string_view code;
  RefusalKind kind;
  std::string_view rule;
};
constexpr std::array<RefusalRow, 18> kRows = {{
    {"VG1003", RefusalKind::bad_request, "request"},
    {"VG1004", RefusalKind::bad_request, "quota"},
    {"VG1005", RefusalKind::bad_request, "name"},
    {"VG1010", RefusalKind::bad_request, "quota"},
    {"VG1011", RefusalKind::bad_request, "gpu"},
    {"VG1012", RefusalKind::bad_request, "gpu"},
    {"VG1013", RefusalKind::bad_request, "gpu"},
    {"VG1014", RefusalKind::no_room, "share_room"},
    {"VG1017", RefusalKind::conflict, "memory_in_use"},
    {"VG1018", RefusalKind::conflict, "changed_meanwhile"},
    {"VG1021", RefusalKind::unavailable, "state_directory"},
    {"VG1022", RefusalKind::not_found, "tenant"},
    {"VG1023", RefusalKind::bad_request, "tenant"},
    {"VG1024", RefusalKind::conflict, "name_taken"},
    {"VG1025", RefusalKind::unavailable, "shares_lock"},
    {"VG1041", RefusalKind::unavailable, "driver"},
    {"VG1069", RefusalKind::unavailable, "quota_page"},
    {"VG1075", RefusalKind::bad_request, "state_directory"},
}};

struct Said {
  RefusalKind kind;
  const char* code;
  const char* next;
};

Said said_of(admission::Rule rule) {
  using admission::Rule;
  switch (rule) {
    case Rule::nothing_asked:
    case Rule::gpu_twice:
    case Rule::share_above_100:
    case Rule::more_memory_than_a_gpu:
      return {RefusalKind::bad_request, "VG1004", ""};
    case Rule::unknown_gpu:
      return {RefusalKind::unavailable, "VG1011", "vgpu ls"};
    case Rule::oversubscription_off:
      return {RefusalKind::forbidden, "VG1066", "without --oversubscribe"};
    case Rule::memory_limit_needed:
    case Rule::memory_allowance:
    case Rule::share_allowance:
      return {RefusalKind::no_room, "VG1065", "less, or ask who may raise it"};
    case Rule::more_gpus_than_there_are:
      return {RefusalKind::no_room, "VG1064", "fewer GPUs"};
    case Rule::memory_room:
    case Rule::gpus_held:
      return {RefusalKind::no_room, "VG1064", "less, another GPU, or vgpu run --wait"};
    case Rule::gpu_closed:
      return {RefusalKind::no_room, "VG1064", "another GPU, or vgpu run --wait"};
    case Rule::share_room:
      return {RefusalKind::no_room, "VG1014", "less, another GPU, or vgpu run --wait"};
    case Rule::not_yours:
      return {RefusalKind::forbidden, "VG1062", "ask as its owner, or as root"};
  }
  return {RefusalKind::no_room, "VG1064", ""};
}

}  // namespace

Refusal refusal_of(const survey::Problem& problem) {
  Refusal refusal{RefusalKind::unavailable, problem.code, "failed", problem.what, problem.next, {}};
  for (const RefusalRow& row : kRows) {
    if (row.code != problem.code) continue;
    refusal.kind = row.kind;
    refusal.rule = row.rule;
  }
  return refusal;
}

Refusal refusal_of(const admission::Refusal& refusal, const admission::Node& node) {
  const Said said = said_of(refusal.rule);
  Refusal out{said.kind,
              said.code,
              std::string(admission::rule_name(refusal.rule)),
              admission::describe(refusal, node),
              said.next,
              {}};
  out.waiting_helps = refusal.waiting_helps;
  return out;
}

Refusal refuse_request(std::string what, std::string next) {
  return {RefusalKind::bad_request, "VG1003", "request", std::move(what), std::move(next), {}};
}

}  // namespace vgpu::hypervisor
