// SPDX-License-Identifier: Apache-2.0
// `hypervisor config` and the daemon's flags, from outside.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "activation.h"
#include "vgpu/survey/problem.h"

namespace vgpu::hypervisor {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Result {
  int status = -1;
  std::string out;  // standard error too
};

class ConfigCommand : public ::testing::Test {
 protected:
  ConfigCommand() {
    std::string name = (std::filesystem::temp_directory_path() / "config-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~ConfigCommand() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path.string();
  }

  Result hypervisor(const std::string& arguments, const std::string& variables = "") const {
    const std::string line = "env -i HOME=" + folder_.string() + " " + variables +
                             " " HYPERVISOR " " + arguments + " 2>&1 </dev/null";
    Result result;
    FILE* pipe = popen(line.c_str(), "r");
    std::array<char, 4096> part{};
    for (std::size_t size; (size = fread(part.data(), 1, part.size(), pipe)) > 0;)
      result.out.append(part.data(), size);
    const int status = pclose(pipe);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return result;
  }

  std::filesystem::path folder_;
};

TEST_F(ConfigCommand, CheckListsEveryFaultAndFails) {
  const std::string file = write("a.toml", "nod-name = 1\n[guard]\ngrace = 3\n");
  const Result result = hypervisor("config check " + file);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.out, HasSubstr(file + ":1:1: nod-name is no setting; node-name?\n"));
  EXPECT_THAT(result.out, HasSubstr(file + ":3:9: guard.grace: a time in quotes"));
}

TEST_F(ConfigCommand, ACommandThatIsNoneIsRefusedWithTheOneThatItMayBe) {
  Result refused = hypervisor("deamon --log-level info");
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.out,
            "hypervisor: deamon is no command of hypervisor (VG1001)\n  try: hypervisor daemon\n");
  refused = hypervisor("xyz");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.out, HasSubstr("try: hypervisor --help\n"));
}

TEST_F(ConfigCommand, AnOptionThatIsNoneIsRefusedWithTheOneThatItMayBe) {
  Result refused = hypervisor("daemon --node-name a --api-sockt=none");
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.out,
            "hypervisor: --api-sockt is no option of hypervisor daemon (VG1001)\n"
            "  try: --api-socket\n");
  EXPECT_THAT(hypervisor("daemon --api-listen nowhere").out, HasSubstr("try: --api-listen-addr\n"));
  refused = hypervisor("config check --nope");
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.out,
            "hypervisor: --nope is no option of hypervisor config check (VG1001)\n"
            "  try: hypervisor config check --help\n");
}

TEST_F(ConfigCommand, CheckJudgesWhatValuesMean) {
  const std::string file =
      write("a.toml", "[api]\nlisten = [\"0.0.0.0:8001\", \"nowhere\"]\ntls-key = \"/k\"\n");
  const Result result = hypervisor("config check " + file);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.out, HasSubstr(file + ":2:10: api.listen: "));
  EXPECT_THAT(result.out, HasSubstr("an address beyond loopback needs api.tls-certificate"));
  EXPECT_THAT(result.out, HasSubstr("api.tls-key: api.tls-certificate is needed beside it"));
}

TEST_F(ConfigCommand, FaultsNameSettingsAsTheyWereGiven) {
  const Result flags =
      hypervisor("config show --api-listen-addr 0.0.0.0:8001 --metrics-format json");
  EXPECT_NE(flags.status, 0);
  EXPECT_THAT(flags.out, HasSubstr("--api-listen-addr: an address beyond loopback needs "
                                   "--api-tls-certificate and --api-tls-key"));
  EXPECT_THAT(hypervisor("config show --api-pods-listen-addr unix:/x").out,
              HasSubstr("--api-pods-listen-addr: unix:/x: an address and a port are needed"));
  EXPECT_THAT(flags.out,
              HasSubstr("--metrics-format: says something only beside --gpu-metrics-file"));
  const Result variable = hypervisor("config show", "VGPU_HYPERVISOR_TLS_KEY=/k");
  EXPECT_NE(variable.status, 0);
  EXPECT_THAT(variable.out, HasSubstr("VGPU_HYPERVISOR_TLS_KEY: VGPU_HYPERVISOR_TLS_CERTIFICATE "
                                      "is needed beside it"));
}

std::ptrdiff_t lines_in(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST_F(ConfigCommand, FilesThatTheDaemonWouldNotStartWithAreFaults) {
  const std::string key = write("key", "no key\n"), wide = write("secret", "0123456789abcdef\n");
  const std::string file =
      write("a.toml", "[api]\ntoken-key = \"/not/there\"\ntoken-jwks = \"" + key +
                          "\"\ntls-certificate = \"/no/cert\"\ntls-key = \"/no/key\"\n"
                          "socket = \"relative\"\n");
  const Result files = hypervisor("config check " + file);
  EXPECT_EQ(files.status, 1);
  EXPECT_THAT(files.out, HasSubstr(file + ":2:13: api.token-key: /not/there: No such file"));
  EXPECT_THAT(files.out, HasSubstr(file + ":3:14: api.token-jwks: " + key + ": "));
  EXPECT_THAT(files.out, HasSubstr(file + ":4:19: api.tls-certificate: /no/cert: No such file"));
  EXPECT_THAT(files.out, HasSubstr(file + ":5:11: api.tls-key: /no/key: No such file"));
  EXPECT_THAT(files.out, HasSubstr(file + ":6:10: api.socket: "));
  EXPECT_EQ(lines_in(files.out), 5) << files.out;
  const Result both = hypervisor("config check --api-tls-certificate " + key + " --api-tls-key " +
                                 key + " --api-token-key " + wide);
  EXPECT_EQ(both.status, 1);
  EXPECT_THAT(both.out,
              HasSubstr("--api-tls-certificate: " + key + " is not a certificate in PEM form"));
  EXPECT_THAT(both.out, HasSubstr("--api-token-key: " + wide));
  // The daemon says the same, and doesn't start.
  const Result daemon = hypervisor("daemon --simulated --api-token-key /not/there");
  EXPECT_EQ(daemon.status, 2);
  EXPECT_THAT(daemon.out, HasSubstr("--api-token-key: /not/there: No such file"));
}

TEST_F(ConfigCommand, NoFaultHidesAnother) {
  const std::string file = write("a.toml",
                                 "node-name = a\n"
                                 "[api]\n"
                                 "listen = [\"nowhere\"]\n"
                                 "[guard]\n"
                                 "grace = 5\n"
                                 "over-memory = maybe\n"
                                 "exempt = [ \"a\" \"b\",\n"
                                 "  \"c\"\n"
                                 "]\n"
                                 "unlimited-processes = \"shoot\"\n"
                                 "[[rule]]\n"
                                 "user = \"no-such-user-here\"\n"
                                 "compute = 5\n"
                                 "[usage-log\n"
                                 "formt = \"json\"\n"
                                 "[[rule]]\n"
                                 "user = \"nor-such-a-one\"\n"
                                 "memory = [1]\n");
  const Result result = hypervisor("config check " + file);
  EXPECT_EQ(result.status, 1);
  std::vector<std::string> places;
  for (std::size_t at = 0; at < result.out.size(); at = result.out.find('\n', at) + 1)
    places.push_back(result.out.substr(
        at + file.size(), result.out.find(':', at + file.size() + 1) - at - file.size()));
  EXPECT_THAT(places, ::testing::ElementsAre(":1", ":3", ":5", ":6", ":7", ":10", ":11", ":14",
                                             ":16", ":18"))
      << result.out;
}

TEST_F(ConfigCommand, WhatCannotBeReadIsNotTakenForAbsent) {
  const std::string key = write("key", "k");
  const auto check = [&](const std::string& text) {
    return hypervisor("config check " + write("a.toml", text) + " --api-listen-addr 0.0.0.0:8001");
  };
  for (const char* text : {"[api]\ntls-certificate = 5\n", "[api]\ntls-certificate = x\n"}) {
    const Result result = check(text + ("tls-key = \"" + key + "\"\n"));
    EXPECT_THAT(result.out, HasSubstr("a.toml:2:"));
    EXPECT_EQ(lines_in(result.out), 1) << result.out;
  }
  const Result partial = check("[[rule]]\nusr = 0\ncompute = 5\n[[pod]]\nname = \"a\"\n");
  EXPECT_THAT(partial.out, HasSubstr("a.toml:2:1: rule.usr is no setting"));
  EXPECT_THAT(partial.out, Not(HasSubstr("a rule without a match")));
  EXPECT_THAT(partial.out, HasSubstr("an address beyond loopback needs --api-tls-certificate"));
}

TEST_F(ConfigCommand, CheckTakesTheDaemonsFlags) {
  const std::string file = write("a.toml", "node-name = \"n\"\n");
  EXPECT_EQ(hypervisor("config check " + file + " --guard-grace 7s --simulated").status, 0);
  EXPECT_EQ(hypervisor("config check --config " + file + " --enable-k8s false").status, 0);
  const Result flags = hypervisor("config check " + file + " --guard-grace soon --enable-k8s true");
  EXPECT_EQ(flags.status, 1);
  EXPECT_THAT(flags.out, AllOf(HasSubstr("--guard-grace: \"soon\" is no time"),
                               HasSubstr("--enable-k8s: \"true\": only false can be kept")));
  EXPECT_EQ(hypervisor("config check " + file + " --config " + file).status, 2);
}

TEST_F(ConfigCommand, CheckOfAGoodFileSaysSo) {
  const Result result = hypervisor("config check " + write("a.toml", "node-name = \"n\"\n"));
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.out, HasSubstr("a.toml: good\n"));
  EXPECT_EQ(hypervisor("config check").status, 0);
  const Result missing = hypervisor("config check /no/such/file");
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.out, HasSubstr("/no/such/file: there is no such file"));
}

TEST_F(ConfigCommand, TheExampleIsAGoodFile) {
  const Result example = hypervisor("config example");
  EXPECT_EQ(example.status, 0);
  EXPECT_EQ(hypervisor("config check " + write("e.toml", example.out)).status, 0);
}

TEST_F(ConfigCommand, ShowTakesTheUsersFileAndNamesSources) {
  write(".config/vgpu/hypervisor.toml", "node-name = \"filed\"\n");
  if (std::filesystem::exists("/etc/vgpu/hypervisor.toml")) GTEST_SKIP() << "this machine has one";
  const Result result = hypervisor("config show --json --guard-grace 7s", "VGPU_SIMULATED=1");
  ASSERT_EQ(result.status, 0) << result.out;
  const auto json = nlohmann::json::parse(result.out);
  std::map<std::string, std::string> sources;
  for (const auto& one : json["settings"]) sources[one["key"]] = one["source"];
  EXPECT_EQ(sources["node-name"], "file");
  EXPECT_EQ(sources["guard.grace"], "flag");
  EXPECT_EQ(sources["simulated"], "environment");
  EXPECT_EQ(sources["api.listen"], "default");
}

TEST_F(ConfigCommand, AConfigVariableNamesTheFile) {
  const std::string file = write("v.toml", "node-name = \"v\"\n");
  const Result result = hypervisor("config show", "VGPU_HYPERVISOR_CONFIG=" + file);
  EXPECT_THAT(result.out, HasSubstr("# file " + file + ":1:13"));
}

TEST_F(ConfigCommand, TheDaemonRefusesFaultySettingsAtOnce) {
  const Result result = hypervisor("daemon --guard-grace soon --over-memory maybe");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.out, HasSubstr("--guard-grace: \"soon\" is no time"));
  EXPECT_THAT(
      result.out,
      HasSubstr("--over-memory: \"maybe\" is none of: report, stop-admitting, signal, kill"));
}

TEST_F(ConfigCommand, ThePredecessorsFlagsAreRefusedWithTheReason) {
  const Result result = hypervisor("daemon --enable-k8s true --kubelet-socket-path /x");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.out, HasSubstr("--enable-k8s: \"true\": only false can be kept"));
  EXPECT_THAT(result.out, HasSubstr("--kubelet-socket-path: not taken"));
  EXPECT_EQ(hypervisor("config show --enable-k8s false --simulated --exempt a --exempt b").status,
            0);
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

int listening_socket(const std::string& path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = unix_address(path);
  EXPECT_EQ(bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(descriptor, 8), 0);
  return descriptor;
}

// What is answered, as it comes.
std::string get(const std::string& path, const std::string& target) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = unix_address(path);
  EXPECT_EQ(connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const timeval patience{20, 0};
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const std::string asked = "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(write(descriptor, asked.data(), asked.size()), static_cast<ssize_t>(asked.size()));
  std::string answer;
  std::array<char, 4096> part{};
  for (ssize_t size; (size = read(descriptor, part.data(), part.size())) > 0;)
    answer.append(part.data(), static_cast<std::size_t>(size));
  close(descriptor);
  return answer;
}

// A running daemon whose lines go to a file.
class ReloadingDaemon : public ConfigCommand {
 protected:
  // `activated`: a socket that listens, which it gets as systemd gives it; -1: none.
  void start(const std::string& config, int activated = -1) {
    const std::string log = (folder_ / "log").string(), state = state_folder();
    child_ = fork();
    if (child_ == 0) {
      if (activated >= 0) {
        // A description of its own may be 3 already, and close at exec.
        if (activated == 3) fcntl(3, F_SETFD, 0);
        if (activated != 3 && dup2(activated, 3) != 3) _exit(1);
        setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
        setenv("LISTEN_FDS", "1", 1);
      }
      setenv("VGPU_STATE_DIR", state.c_str(), 1);
      if (freopen(log.c_str(), "w", stderr) == nullptr) _exit(1);
      execl(HYPERVISOR, HYPERVISOR, "daemon", "--simulated", "--config", config.c_str(), nullptr);
      _exit(127);
    }
  }
  ~ReloadingDaemon() override {
    if (child_ <= 0) return;
    kill(child_, SIGTERM);
    waitpid(child_, nullptr, 0);
  }
  std::string state_folder() const {
    const std::string state = (folder_ / "state").string();
    std::filesystem::create_directory(state);
    std::filesystem::permissions(state, std::filesystem::perms::owner_all);
    return state;
  }
  // Whether the log comes to hold that text.
  bool says(const std::string& text) const { return comes_to_hold("log", text); }
  // The same of the file, or the first whose name begins so.
  bool comes_to_hold(const std::string& name, const std::string& text) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < deadline) {
      if (holds(name, text)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }
  bool holds(const std::string& name, const std::string& text) const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.path().filename().string().rfind(name, 0) != 0) continue;
      std::ifstream file(entry.path());
      const std::string there(std::istreambuf_iterator<char>(file), {});
      if (there.find(text) != std::string::npos) return true;
    }
    return false;
  }
  pid_t child_ = -1;
};

TEST_F(ReloadingDaemon, TakesWhatItCanAndSaysWhatItCant) {
  const std::string head = "[api]\nlisten = [\"none\"]\n[guard]\n";
  const std::string file = write("a.toml", "node-name = \"a\"\n" + head);
  start(file);
  ASSERT_TRUE(says("daemon_started"));
  // The event comes before the signal is awaited, but after it is held back: it isn't lost.
  write("a.toml", "node-name = \"b\"\n" + head);
  kill(child_, SIGHUP);
  EXPECT_TRUE(says("node-name has changed; it takes effect at the next start"));
  write("a.toml", "node-name = \"b\"\n" + head + "grace = 1\n");
  kill(child_, SIGHUP);
  EXPECT_TRUE(says("settings stay as they were: " + file + ":5:9: guard.grace"));
}

// Nothing said where to listen: that is where systemd's socket is, too.
TEST_F(ReloadingDaemon, ServesTheSocketThatSystemdOpenedInItsPlace) {
  const std::string path = state_folder() + "/hypervisor.sock";
  const int socket = listening_socket(path);
  start(write("a.toml", "[api]\nlisten = [\"none\"]\n"), socket);
  // Who connects before the daemon is there waits for it.
  EXPECT_THAT(get(path, "/healthz"), HasSubstr("200 OK"));
  kill(child_, SIGTERM);
  int status = -1;
  waitpid(std::exchange(child_, -1), &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(std::filesystem::exists(path)) << "it is systemd's";
  close(socket);
}

TEST_F(ReloadingDaemon, WritesAUsageLogWhereItIsAskedFor) {
  const std::string usage = (folder_ / "usage.log").string();
  start(write("a.toml", "[api]\nlisten = [\"none\"]\n[usage-log]\nfile = \"" + usage +
                            "\"\nformat = \"json\"\nbatch-seconds = 1\npool = \"blue\"\n"));
  EXPECT_TRUE(comes_to_hold("usage.log.", "tf_gpu_usage"));
  EXPECT_TRUE(comes_to_hold("usage.log.", "\"blue\""));
}

TEST_F(ConfigCommand, PodsFilesAreKeptWhereThatMakesSense) {
  const std::string pod = "[[pod]]\nnamespace = \"ml\"\nname = \"a\"\ntenant = \"t\"\n";
  const std::string base = "[pod-files]\nbase-path = \"/run/x\"\n";
  const auto said = [&](const std::string& text, const char* variables = "") {
    const std::string file = write("p.toml", text);
    return hypervisor("config check " + file, variables).out;
  };
  EXPECT_EQ(hypervisor("config check " + write("p.toml", base + pod + "user = 0\n")).status, 0);
  const std::string file = folder_.string() + "/p.toml:";
  EXPECT_THAT(said("[pod-files]\nbase-path = \"run/x\"\n" + pod),
              HasSubstr(file + "2:13: pod-files.base-path: \"run/x\" is no absolute path"));
  EXPECT_THAT(said(base + pod + "user = \"nobody-of-that-name\"\n"),
              HasSubstr(file + "7:8: pod.user: there is no user nobody-of-that-name"));
  EXPECT_THAT(said(pod + "user = \"root\"\n"),
              HasSubstr(file + "5:8: pod.user: says something only beside pod-files.base-path"));
  EXPECT_THAT(said(base + pod + "[[pod]]\nnamespace = \"ml\"\nname = \"b\"\ntenant = \"t\"\n"),
              HasSubstr(file + "10:10: pod.tenant: pod ml/a is tenant t already"));
  EXPECT_THAT(said(base + "[[pod]]\nnamespace = \"ml/../x\"\nname = \"b\"\ntenant = \"t\"\n"),
              HasSubstr(file + "3:1: namespace \"ml/../x\": names have letters"));
  EXPECT_THAT(said("[pod-files]\nscheduling = \"{}\"\n"),
              HasSubstr(file + "2:14: pod-files.scheduling: says something only beside "
                               "pod-files.base-path"));
  EXPECT_THAT(said(base + "scheduling = '{\"elasticRateLimitParameters\": 3}'\n" + pod),
              HasSubstr(file + "3:14: pod-files.scheduling: elasticRateLimitParameters"));
  // What has no effect is said, and so is a path without pods.
  EXPECT_THAT(said(base + "scheduling = '{\"elasticRateLimitParameters\": {\"kp\": 1}}'\n"),
              AllOf(HasSubstr("kp"), HasSubstr(file + "2:13: pod-files.base-path keeps no file: no "
                                                      "[[pod]] is declared")));
  EXPECT_EQ(
      hypervisor("config show --shared-memory-base-path /run/x --scheduling-config '{}'").status,
      0);
  EXPECT_EQ(hypervisor("config show", "TF_HYPERVISOR_SCHEDULING_CONFIG={}").status, 0);
}

TEST_F(ReloadingDaemon, WritesNoUsageLogWhereThatIsSwitchedOff) {
  const std::string usage = (folder_ / "usage.log").string();
  const std::string log = "[api]\nlisten = [\"none\"]\n[usage-log]\nfile = \"" + usage +
                          "\"\nbatch-seconds = 1\nenabled = ";
  start(write("a.toml", log + "false\n"));
  // What is left to write is written at the end at the latest.
  ASSERT_TRUE(says("daemon_started"));
  kill(child_, SIGTERM);
  waitpid(std::exchange(child_, -1), nullptr, 0);
  EXPECT_FALSE(holds("usage.log.", ""));
  start(write("a.toml", log + "true\n"));
  EXPECT_TRUE(comes_to_hold("usage.log.", "tf_gpu_usage"));
}

TEST_F(ConfigCommand, ThePredecessorsSwitchOfTheUsageLogIsASetting) {
  EXPECT_EQ(hypervisor("config show --enable-metrics false --gpu-metrics-file /x").status, 0);
  EXPECT_EQ(hypervisor("config show --enable-metrics true --gpu-metrics-file /x").status, 0);
  const Result nowhere = hypervisor("config check --enable-metrics true");
  EXPECT_EQ(nowhere.status, 0);
  EXPECT_THAT(nowhere.out, HasSubstr("--enable-metrics: no usage log is written: "
                                     "--gpu-metrics-file says where, and isn't given"));
  EXPECT_EQ(hypervisor("config check --enable-metrics perhaps").status, 1);
  const std::string pod = "[[pod]]\nnamespace = \"ml\"\nname = \"a\"\ntenant = \"t\"\n";
  EXPECT_THAT(hypervisor("config check " + write("p.toml", pod + "workload = \"w\"\n")).out,
              HasSubstr("p.toml:5:12: pod.workload: says something only beside usage-log.file"));
}

TEST_F(ConfigCommand, WhatIsSaidOfAUsageLogThatIsntWrittenIsAFault) {
  const std::string file = write("a.toml", "[usage-log]\nformat = \"json\"\n");
  const Result result = hypervisor("config check " + file);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.out, HasSubstr(file + ":2:10: usage-log.format: says something only beside "
                                           "usage-log.file"));
  // A variable may be meant for others.
  EXPECT_EQ(hypervisor("config show", "TENSOR_FUSION_POOL_NAME=blue").status, 0);
  const Result capacity =
      hypervisor("config show --gpu-metrics-file /x --gpu-info-path /not/there");
  EXPECT_NE(capacity.status, 0);
  EXPECT_THAT(capacity.out, HasSubstr("--gpu-info-path: "));
}

TEST_F(ConfigCommand, TheTableOfModelsNeedsNoUsageLog) {
  const std::string table = write("gpu-info.yaml", "- {model: A10, fp16TFlops: 125}\n");
  const std::string file =
      write("a.toml", "gpu-info = \"" + table + "\"\n[[rule]]\nuser = 0\ntflops = 60\n");
  const Result good = hypervisor("config check " + file);
  EXPECT_EQ(good.status, 0) << good.out;
  EXPECT_EQ(hypervisor("config show --gpu-info-path " + table).status, 0);
}

// --- sockets from systemd

// In a child whose descriptors are what it says. Returns what the child's status says.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int listening_socket() {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;  // autobind: an abstract name that is free
  bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t));
  listen(descriptor, 1);
  return descriptor;
}

TEST(Activation, TakesTheSocketsThatAreMeantForIt) {
  EXPECT_EQ(in_child([] {
              const int made = listening_socket();
              if (made != 3) dup2(made, 3);
              setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
              setenv("LISTEN_FDS", "1", 1);
              const auto sockets = take_activated_sockets();
              if (sockets != std::vector<int>{3}) return 1;
              return std::getenv("LISTEN_FDS") == nullptr && take_activated_sockets().empty() ? 0
                                                                                              : 2;
            }),
            0);
}

TEST(Activation, LeavesThoseOfAnotherProcess) {
  EXPECT_EQ(in_child([] {
              setenv("LISTEN_PID", std::to_string(getppid()).c_str(), 1);
              setenv("LISTEN_FDS", "1", 1);
              return take_activated_sockets().empty() ? 0 : 1;
            }),
            0);
}

TEST(Activation, RefusesWhatDoesNotListen) {
  EXPECT_EQ(in_child([] {
              const int made = socket(AF_UNIX, SOCK_DGRAM, 0);
              if (made != 3) dup2(made, 3);
              setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
              setenv("LISTEN_FDS", "1", 1);
              try {
                take_activated_sockets();
              } catch (const survey::Problem& problem) {
                return problem.code == "VG2202" ? 0 : 1;
              }
              return 2;
            }),
            0);
}

}  // namespace
}  // namespace vgpu::hypervisor
