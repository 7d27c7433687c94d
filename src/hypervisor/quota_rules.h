// SPDX-License-Identifier: Apache-2.0
// What a tenant gets where nobody says it: quotas by who asks. Rules give quotas only, never
// authority: what a process says of itself by its control group decides nothing else.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tflops_quota.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {

// Matches that aren't given hold always; one at least is given.
struct QuotaRule {
  std::string name;  // for events; may be empty
  std::optional<uid_t> user;
  std::string cgroup;     // this one or any below it; empty: not given
  std::string container;  // the beginning of its id; "*": any; empty: not given
  survey::QuotaFlags quota;
  TflopsQuota tflops{};
};

// Who asks, as far as rules look.
struct AskingProcess {
  uid_t user = 0;
  std::vector<std::string> cgroups;  // its paths, one for each hierarchy; none: not known
};

// Of the process with that pid, if it is that user's; without one: the user alone.
AskingProcess asking_process(uid_t user, std::optional<pid_t> pid);

// The paths in the text of a /proc/PID/cgroup. Pure.
std::vector<std::string> cgroups_in(std::string_view text);

// The id of the container that a control group belongs to, as docker, podman, containerd and CRI-O
// name them: 64 hexadecimal digits. Empty: none. Pure.
std::string container_of(std::string_view cgroup);

// The part of a user's processes that share the rule's tenant: the container where the rule looks
// at containers, by the beginning of its id; empty: all of them. Pure.
std::string scope_of(const QuotaRule& rule, const AskingProcess& who);

// The first rule that matches; null: none. Pure.
const QuotaRule* matching_rule(const std::vector<QuotaRule>& rules, const AskingProcess& who);

// Lets a rule speak where nobody set a quantity; as fill_from(). Pure.
Quota with_rule(Quota quota, const Quota& by_rule);

// Fills what `flags` and `tflops` leave open from the rule. What belongs together stays together: a
// request with a share, a limit or a policy of its own gets none of the rule's. True: it is the
// rule's TFLOPS that are in `tflops` now. Pure.
bool fill_from(const QuotaRule& rule, survey::QuotaFlags& flags, TflopsQuota& tflops);

}  // namespace vgpu::hypervisor
