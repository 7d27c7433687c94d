// SPDX-License-Identifier: Apache-2.0
// From argv to a request, or to text and an exit code. Pure: reads no environment, touches nothing.
// The flags that are declared here are also what help, man pages and shell completion are made of.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vgpu/survey/quotas.h"

namespace CLI {
class App;
}

namespace vgpu::cli {

struct RunOptions : survey::TenantRequest {
  std::string gpu_count;  // as typed; empty: not given
  bool wait = false;
  std::string wait_time;  // as typed; empty: for ever
  bool require_share = false;
  bool oversubscribe = false;
  bool simulated = false;
  bool quiet = false;
  std::vector<std::string> command;
};

struct ExecOptions {
  std::string tenant;
  bool quiet = false;
  std::vector<std::string> command;
};

struct SetOptions : survey::QuotaFlags {
  std::string tenant;
  std::string gpus;  // as typed, empty: all of the tenant's
  bool when_free = false;
  bool oversubscribe = false;
  bool json = false;
};

struct ListOptions {
  bool json = false;
  bool simulated = false;
  std::string only;  // a tenant or a GPU
};

struct TopOptions {
  std::string only;      // a tenant or a GPU
  std::string interval;  // seconds, as typed
  std::string sort;      // a column
  bool once = false;
  bool json = false;
  bool simulated = false;
};

struct WhyOptions {
  std::string tenant;
  bool json = false;
  bool simulated = false;
};

struct DoctorOptions {
  bool json = false;
  bool simulated = false;
};

struct CompletionOptions {
  std::string shell;
};

enum class Verb : unsigned char { run, exec, set, ls, top, why, doctor, completion };

struct Request {
  Verb verb = Verb::ls;
  RunOptions run;
  ExecOptions exec;
  SetOptions set;
  ListOptions list;
  TopOptions top;
  WhyOptions why;
  DoctorOptions doctor;
  CompletionOptions completion;
};

// The declared commands, bound to `request`. What follows run's and exec's program is not among
// them.
std::shared_ptr<CLI::App> declare_commands(Request& request);

struct Parsed {
  bool proceed = false;  // else: print `text` and exit
  int exit_code = 0;
  std::string text;  // help or version, to stdout
  Request request;
};

// Throws Problem for what can't be understood.
Parsed parse_arguments(const std::vector<std::string>& arguments);

// The text of --help for "" (the tool) or one verb.
std::string help_text(const std::string& verb);

// What a verb's help shows below its flags, and its man page too.
struct Lesson {
  std::string description;                                    // paragraphs
  std::vector<std::pair<std::string, std::string>> examples;  // what it is for, the command
  std::string exit_codes;
};
const Lesson& lesson(const std::string& verb);

}  // namespace vgpu::cli
