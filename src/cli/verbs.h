// SPDX-License-Identifier: Apache-2.0
// One function a verb; each returns the exit status and throws Problem for what it can't do.
#pragma once

#include <string>
#include <vector>

#include "options.h"

namespace vgpu::cli {

int run_verb(const RunOptions& options);
int exec_verb(const ExecOptions& options);
int set_verb(const SetOptions& options);
int list_verb(const ListOptions& options);
int top_verb(const TopOptions& options);
int why_verb(const WhyOptions& options);
int doctor_verb(const DoctorOptions& options);
int completion_verb(const CompletionOptions& options);

std::vector<std::string> verb_names();

// Generated from the declared commands; packaging installs them.
std::string completion_script(const std::string& shell);  // bash, zsh or fish
std::string man_page(const std::string& verb);            // "" is vgpu(1)

}  // namespace vgpu::cli
