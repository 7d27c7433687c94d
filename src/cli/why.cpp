// SPDX-License-Identifier: Apache-2.0
// vgpu why: what held a tenant back, in words. Two looks a second apart; the rest is causes.h.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "look.h"
#include "verbs.h"
#include "vgpu/survey/causes.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::explain, survey::explanation_json, survey::Explanation, survey::find_tenant,
    survey::Json, survey::kExitFailed, survey::kExitUsage, survey::KnownTenant, survey::print_json,
    survey::Problem, survey::simulation_wanted, survey::Snapshot, survey::state_directory,
    survey::Style;

namespace {

constexpr unsigned kBetweenLooksS = 1;

std::string explanation_text(const std::string& name, const Explanation& explanation,
                             const Style& style) {
  std::string out = fmt::format("{}{} on GPU {}{}: {}\n", style.bold, name, explanation.gpu_index,
                                style.plain, explanation.summary);
  if (explanation.causes.empty()) out += "  nothing held it back\n";
  for (const auto& cause : explanation.causes) {
    out += fmt::format("  - {}\n", cause.text);
    if (!cause.next.empty())
      out += fmt::format("    {}do: {}{}\n", style.dim, cause.next, style.plain);
  }
  return out;
}

}  // namespace

int why_verb(const WhyOptions& options) {
  if (options.tenant.empty())
    throw Problem(kExitUsage, "VG1003", "vgpu why wants a tenant", "vgpu why TENANT");
  const bool simulated = simulation_wanted(options.simulated);
  const KnownTenant known =
      find_tenant(state_directory(true, kExitFailed), options.tenant, kExitFailed, "vgpu why {}");
  const Snapshot before = look(simulated);
  sleep(kBetweenLooksS);
  const Snapshot now = look(simulated);
  const std::string name(known.spec.name.view());
  const auto explanations = explain(before, now, known.spec.id.view());
  if (explanations.empty())
    throw Problem(kExitFailed, "VG1022", fmt::format("tenant {} has ended", name), "vgpu ls");
  if (options.json) {
    Json gpus = Json::array();
    for (const auto& explanation : explanations) gpus.push_back(explanation_json(explanation));
    const Json all = {{"version", 1},
                      {"tenant", {{"id", std::string(known.spec.id.view())}, {"name", name}}},
                      {"gpus", gpus}};
    print_json(all);
    return 0;
  }
  const Style style = Style::for_descriptor(STDOUT_FILENO);
  for (const auto& note : now.notes) fmt::print(stderr, "vgpu: note: {}\n", note);
  for (const auto& explanation : explanations)
    fmt::print("{}", explanation_text(name, explanation, style));
  return 0;
}

}  // namespace vgpu::cli
