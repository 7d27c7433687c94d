// SPDX-License-Identifier: Apache-2.0
// libadd_path.so in real programs. Each runs with exactly the environment given, so nothing of the
// machine decides.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Strings = std::vector<std::string>;

const std::string kLibrary = VGPU_ADD_PATH_LIBRARY;
const std::string kPreload = "LD_PRELOAD=" + kLibrary;
const std::string kPath = "PATH=/usr/local/bin:/usr/bin:/bin";

std::string output_of(const Strings& command, const Strings& environment) {
  int ends[2];
  if (pipe(ends) != 0) return "(no pipe)";
  const pid_t child = fork();
  if (child == 0) {
    std::vector<char*> argv;
    for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (const auto& entry : environment) envp.push_back(const_cast<char*>(entry.c_str()));
    envp.push_back(nullptr);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execvpe(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    text += "(status " + std::to_string(status) + ")";
  return text;
}

// NAME -> value of what `env` printed.
std::map<std::string, std::string> variables(const std::string& text) {
  std::map<std::string, std::string> result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const auto equals = line.find('=');
    if (equals != std::string::npos) result[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return result;
}

std::map<std::string, std::string> environment_of(const Strings& command,
                                                  const Strings& environment) {
  return variables(output_of(command, environment));
}

// The command blocks that users of the predecessor know: LD_PRELOAD is exported, a shell sets TF_*
// for one command.

TEST(KnownCommand, AddsAPath) {
  const auto seen = variables(
      output_of({"sh", "-c", "TF_PATH=/usr/custom/bin env | grep PATH"}, {kPath, kPreload}));
  EXPECT_EQ(seen.at("PATH"), "/usr/local/bin:/usr/bin:/bin:/usr/custom/bin");
}

TEST(KnownCommand, AddsAPreload) {
  const auto seen = variables(output_of(
      {"sh", "-c", "TF_LD_PRELOAD=/path/to/custom.so env | grep LD_PRELOAD"}, {kPath, kPreload}));
  EXPECT_EQ(seen.at("LD_PRELOAD"), kLibrary + ":/path/to/custom.so");
}

TEST(KnownCommand, AddsALibraryPath) {
  const auto seen = variables(
      output_of({"sh", "-c", "TF_LD_LIBRARY_PATH=/usr/local/cuda/lib64 env | grep LD_LIBRARY_PATH"},
                {kPath, kPreload, "LD_LIBRARY_PATH=/usr/lib64:/lib64"}));
  EXPECT_EQ(seen.at("LD_LIBRARY_PATH"), "/usr/lib64:/lib64:/usr/local/cuda/lib64");
}

TEST(KnownCommand, PrependsAPath) {
  const auto seen = variables(output_of(
      {"sh", "-c", "TF_PREPEND_PATH=/opt/custom/bin env | grep PATH"}, {kPath, kPreload}));
  EXPECT_EQ(seen.at("PATH"), "/opt/custom/bin:/usr/local/bin:/usr/bin:/bin");
}

TEST(Process, SeesTheEditEveryWayItLooks) {
  for (const Strings& own : {Strings{kPath}, Strings{}}) {
    Strings environment = own;
    environment.insert(environment.end(), {kPreload, "TF_PATH=/x", "TF_PREPEND_PATH=/y"});
    const std::string edited = own.empty() ? "/y:/x" : "/y:/usr/local/bin:/usr/bin:/bin:/x";
    const auto seen = environment_of({VGPU_OBSERVER, "PATH"}, environment);
    for (const char* way : {"getenv", "environ", "main", "later"})
      EXPECT_EQ(seen.at(way), edited) << way;
    EXPECT_EQ(seen.at("own"), "own");
  }
}

TEST(Process, WithoutRequestsIsLeftAlone) {
  const Strings environment{kPath, kPreload, "LD_LIBRARY_PATH=", "ODD", "B=\xff"};
  EXPECT_EQ(output_of({"env"}, environment),
            kPath + "\n" + kPreload + "\nLD_LIBRARY_PATH=\nODD\nB=\xff\n");
}

TEST(Process, KeepsTheRequestsForItsChildren) {
  const auto seen =
      environment_of({"env"}, {kPath, kPreload, "TF_PATH=/x", "TF_PREPEND_LD_LIBRARY_PATH=/y"});
  EXPECT_EQ(seen.at("TF_PATH"), "/x");
  EXPECT_EQ(seen.at("TF_PREPEND_LD_LIBRARY_PATH"), "/y");
  EXPECT_EQ(seen.at("LD_LIBRARY_PATH"), "/y");
}

TEST(Process, FindsProgramsByTheEditedPath) {
  const auto directory =
      std::filesystem::temp_directory_path() / ("add_path_" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  const auto program = directory / "vgpu_test_only_here";
  std::ofstream(program) << "#!/bin/sh\necho found\n";
  chmod(program.c_str(), 0755);
  for (const char* shell : {"sh", "bash"}) {
    EXPECT_EQ(output_of({shell, "-c", "vgpu_test_only_here"},
                        {kPath, kPreload, "TF_PATH=" + directory.string()}),
              "found\n")
        << shell;
  }
  std::filesystem::remove_all(directory);
}

TEST(Process, MayHaveBytesThatAreNoText) {
  const auto seen = environment_of(
      {"env"}, {"PATH=/bin:/\xff\xfe", kPreload, "TF_PATH=/\xc3\x28", "TF_PREPEND_PATH=/\xff\xfe"});
  EXPECT_EQ(seen.at("PATH"), "/\xff\xfe:/bin:/\xc3\x28");
}

TEST(Bash, ItselfSeesTheEdit) {
  const Strings show{"bash", "-c", "echo \"$PATH|$LD_LIBRARY_PATH\""};
  EXPECT_EQ(output_of(show, {kPath, kPreload, "TF_PREPEND_PATH=/x", "TF_LD_LIBRARY_PATH=/y"}),
            "/x:/usr/local/bin:/usr/bin:/bin|/y\n");
}

TEST(Bash, PassesTheEditOn) {
  const auto seen = environment_of(
      {"bash", "-c", "exec env"}, {kPath, kPreload, "TF_PREPEND_PATH=/x", "TF_LD_LIBRARY_PATH=/y"});
  EXPECT_EQ(seen.at("PATH"), "/x:/usr/local/bin:/usr/bin:/bin");
  EXPECT_EQ(seen.at("LD_LIBRARY_PATH"), "/y");
}

TEST(NestedProcesses, DoNotAddAgain) {
  const Strings environment{kPath,
                            "LD_PRELOAD=" + kLibrary + " /none/old.so",
                            "TF_PATH=/a:/b",
                            "TF_PREPEND_PATH=/c:/d",
                            "TF_LD_PRELOAD=/none/late.so:/none/old.so",
                            "TF_LD_LIBRARY_PATH=/e:/f",
                            "TF_PREPEND_LD_LIBRARY_PATH=/f"};
  const std::string level = "[ \"$1\" -eq 0 ] && exec env; $2 -c \"$0\" \"$0\" $(($1 - 1)) $2";
  for (const char* shell : {"sh", "bash"}) {
    const auto seen = environment_of(
        {shell, "-c", "exec 2>/dev/null; " + level, level, "10", shell}, environment);
    EXPECT_EQ(seen.at("PATH"), "/c:/d:/usr/local/bin:/usr/bin:/bin:/a:/b") << shell;
    EXPECT_EQ(seen.at("LD_PRELOAD"), kLibrary + " /none/old.so:/none/late.so") << shell;
    EXPECT_EQ(seen.at("LD_LIBRARY_PATH"), "/f:/e") << shell;
  }
}

TEST(Exec, WithAnEnvironmentOfItsOwnIsServedToo) {
  const auto seen = environment_of({"env", "-i", kPreload, "TF_PATH=/x", "PATH=/q", "/usr/bin/env"},
                                   {kPath, kPreload, "TF_PATH=/y"});
  EXPECT_EQ(seen.at("PATH"), "/q:/x");
}

TEST(Neighbour, ThatChangesTheEnvironmentTooGetsAlongInEitherOrder) {
  const std::string neighbour = VGPU_NEIGHBOUR;
  for (const std::string& preload : {kLibrary + ":" + neighbour, neighbour + " " + kLibrary}) {
    const auto seen = environment_of(
        {"env"}, {kPath, "LD_PRELOAD=" + preload, "TF_PREPEND_PATH=/x", "TF_LD_LIBRARY_PATH=/y"});
    EXPECT_EQ(seen.at("PATH"), "/x:/usr/local/bin:/usr/bin:/bin") << preload;
    EXPECT_EQ(seen.at("LD_LIBRARY_PATH"), "/y") << preload;
    EXPECT_EQ(seen.at("NEIGHBOUR"), "here") << preload;
  }
}

#ifdef VGPU_LIMITER_LIBRARY
TEST(Limiter, GetsAlongWithItInEitherOrder) {
  const std::string limiter = VGPU_LIMITER_LIBRARY;
  for (const std::string& preload : {kLibrary + ":" + limiter, limiter + " " + kLibrary}) {
    for (const char* shell : {"sh", "bash"}) {
      const auto seen = environment_of({shell, "-c", "exec env"},
                                       {kPath, "LD_PRELOAD=" + preload, "VGPU_MEMORY_LIMIT=1GiB",
                                        "TF_PREPEND_PATH=/x", "TF_LD_LIBRARY_PATH=/y"});
      EXPECT_EQ(seen.at("PATH"), "/x:/usr/local/bin:/usr/bin:/bin") << shell << " " << preload;
      EXPECT_EQ(seen.at("LD_LIBRARY_PATH"), "/y") << shell << " " << preload;
      EXPECT_TRUE(seen.contains("VGPU_TENANT")) << shell << " " << preload;
    }
  }
}
#endif

TEST(LoaderOption, PreloadsItWithoutAVariable) {
  const auto seen = environment_of({VGPU_LOADER, "--preload", kLibrary, "/usr/bin/env"},
                                   {kPath, "TF_LD_PRELOAD=/none/a.so"});
  EXPECT_EQ(seen.at("LD_PRELOAD"), "/none/a.so");
}

// A mount namespace of our own with an /etc that preloads the library into everything.
class SystemPreload : public testing::Test {
 protected:
  void SetUp() override {
    if (output_of({"unshare", "-m", "true"}, {kPath}).empty()) {
      unshare_ = {"unshare", "-m"};
    } else if (output_of({"unshare", "-rm", "true"}, {kPath}).empty()) {
      unshare_ = {"unshare", "-rm"};
    } else {
      GTEST_SKIP() << "no mount namespaces here";
    }
    char name[] = "/tmp/add_path_etc_XXXXXX";
    root_ = mkdtemp(name);
    chmod(name, 0755);
    for (const char* file : {"ld.so.cache", "passwd", "group"}) {
      std::error_code ignored;
      std::filesystem::copy_file(std::string("/etc/") + file, root_ + "/" + file, ignored);
    }
    // The build tree may not be readable for other users, so the library goes there too.
    std::filesystem::copy_file(kLibrary, root_ + "/libadd_path.so");
    std::ofstream(root_ + "/ld.so.preload") << "/etc/libadd_path.so\n";
  }
  void TearDown() override {
    if (!root_.empty()) std::filesystem::remove_all(root_);
  }

  std::map<std::string, std::string> environment_inside(const Strings& environment,
                                                        const std::string& command) {
    Strings words = unshare_;
    words.insert(words.end(), {"sh", "-c", "mount --bind " + root_ + " /etc && " + command});
    return environment_of(words, environment);
  }

  Strings unshare_;
  std::string root_;
};

TEST_F(SystemPreload, ServesEveryProcess) {
  const auto seen = environment_inside({kPath, "TF_PATH=/a", "TF_PREPEND_PATH=/b"},
                                       "bash -c 'env -u LD_PRELOAD env'");
  ASSERT_TRUE(seen.contains("PATH"));
  EXPECT_EQ(seen.at("PATH"), "/b:/usr/local/bin:/usr/bin:/bin:/a");
}

#ifdef VGPU_LIMITER_LIBRARY
TEST_F(SystemPreload, ServesEveryProcessBesideTheLimiter) {
  std::filesystem::copy_file(VGPU_LIMITER_LIBRARY, root_ + "/libcuda_limiter.so");
  for (const char* list : {"/etc/libadd_path.so /etc/libcuda_limiter.so",
                           "/etc/libcuda_limiter.so /etc/libadd_path.so"}) {
    std::ofstream(root_ + "/ld.so.preload") << list << "\n";
    const auto seen =
        environment_inside({kPath, "TF_PATH=/a", "VGPU_MEMORY_LIMIT=1GiB"}, "bash -c 'exec env'");
    ASSERT_TRUE(seen.contains("PATH")) << list;
    EXPECT_EQ(seen.at("PATH"), "/usr/local/bin:/usr/bin:/bin:/a") << list;
    EXPECT_TRUE(seen.contains("VGPU_TENANT")) << list;
  }
}
#endif

TEST_F(SystemPreload, GivesAPrivilegedProgramNothingThatItsCallerChose) {
  if (geteuid() != 0 || unshare_.back() != "-m")
    GTEST_SKIP() << "needs root to make a setuid program";
  std::filesystem::copy_file("/usr/bin/env", root_ + "/setuid_env");
  if (chown((root_ + "/setuid_env").c_str(), 65534, 65534) != 0)
    GTEST_SKIP() << "cannot give a file away";
  chmod((root_ + "/setuid_env").c_str(), 04755);
  const auto seen = environment_inside({kPath, "TF_LD_PRELOAD=/none/a.so", "TF_PATH=/a"},
                                       "unset LD_PRELOAD; /etc/setuid_env");
  ASSERT_TRUE(seen.contains("TF_PATH"));
  EXPECT_FALSE(seen.contains("LD_PRELOAD"));
}

std::string readelf(const std::string& option) {
  std::string text = output_of({"readelf", "-W", option, kLibrary}, {kPath, "LC_ALL=C"});
  return text;
}

TEST(Library, NeedsNothingButLibc) {
  std::istringstream lines(readelf("-d"));
  Strings needed;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("(NEEDED)") == std::string::npos) continue;
    needed.push_back(line.substr(line.find('[') + 1, line.find(']') - line.find('[') - 1));
  }
  EXPECT_EQ(needed, Strings{"libc.so.6"});
}

TEST(Library, ExportsNothingAndRunsWithAnOldLibc) {
  std::istringstream lines(readelf("--dyn-syms"));
  int symbols = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string number, value, size, type, bind, visibility, section, name;
    if (!(words >> number >> value >> size >> type >> bind >> visibility >> section >> name))
      continue;
    if (number == "Num:" || number.back() != ':') continue;
    ++symbols;
    EXPECT_EQ(section, "UND") << name << " is exported";
    const auto version = name.find("@GLIBC_2.");
    if (version == std::string::npos) continue;
    EXPECT_LE(std::stoi(name.substr(version + 9)), 28) << name;
  }
  EXPECT_GT(symbols, 3);
}

}  // namespace
