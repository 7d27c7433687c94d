// SPDX-License-Identifier: Apache-2.0
// What NVML shows inside a tenant: its GPUs, its memory, its processes, and nothing of anybody
// else. Every test has a simulated machine of its own; its NVML order is A10, H200, H200, CUDA's is
// H200, H200, A10.
#include <algorithm>
#include <set>

#include "run.h"

namespace {

using namespace nvml_test;

constexpr const char* k100MiB = "104857600";
constexpr unsigned long long kMiB = 1ULL << 20;

struct Listed {
  unsigned gpu = 0;
  unsigned pid = 0;
  unsigned long long used_bytes = 0;
};

std::vector<Listed> listed(const Output& output, const std::string& form) {
  std::vector<Listed> all;
  for (const std::string& line : output.lines(form)) {
    Listed one;
    if (std::sscanf(line.c_str(), "%u %u %llu", &one.gpu, &one.pid, &one.used_bytes) == 3)
      all.push_back(one);
  }
  return all;
}

std::set<unsigned> pids(const std::vector<Listed>& all) {
  std::set<unsigned> out;
  for (const Listed& one : all) out.insert(one.pid);
  return out;
}

std::vector<unsigned long long> numbers(const std::string& line) {
  std::istringstream stream(line);
  std::vector<unsigned long long> out;
  for (unsigned long long number = 0; stream >> number;) out.push_back(number);
  return out;
}

const char* const kForms[] = {"compute", "compute_v2", "compute_v3", "detail", "internal"};

// Free is what can be had: 2 MiB are left to attempts, a reserve that the older form counts as
// used.
TEST(NvmlView, IdleTenantHoldsNothingOfItsLimitInBothForms) {
  const Machine machine;
  const Output output =
      run(probe({"init", "memory"}), machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}}));
  ASSERT_EQ(output.status, 0) << output.err;
  ASSERT_EQ(output.lines("memory").size(), 3U);
  for (const auto& line : output.lines("memory")) EXPECT_EQ(line, "4294967296 4292870144 2097152");
  for (const auto& line : output.lines("memory_v2"))
    EXPECT_EQ(line, "4294967296 2097152 4292870144 0");
}

TEST(NvmlView, AgreesWithCudaToTheByteWhileMemoryIsHeld) {
  const Machine machine;
  const Output output = run(probe({"use", "0", k100MiB, "init", "cuda", "memory"}),
                            machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}, {"VGPU_GPUS", "1"}}));
  ASSERT_EQ(output.status, 0) << output.out << output.err;
  const auto cuda = numbers(output.lines("cuda").at(0));
  const auto old = numbers(output.lines("memory").at(0));
  const auto current = numbers(output.lines("memory_v2").at(0));
  EXPECT_EQ(cuda, (std::vector{old[0], old[1]}));
  EXPECT_EQ(cuda, (std::vector{current[0], current[2]}));
  EXPECT_EQ(old[2], current[1] + current[3]);
  EXPECT_EQ(current[1] + current[2] + current[3], current[0]);
  EXPECT_GE(current[3], 600 * kMiB) << "a context and 100 MiB";
}

TEST(NvmlView, LimitAboveTheGpuShowsWhatCudaShowsOfTheGpu) {
  const Machine machine;
  const Output output =
      run(probe({"use", "0", "0", "init", "cuda", "memory"}),
          machine.limited({{"VGPU_MEMORY_LIMIT", "143700MiB"}, {"VGPU_GPUS", "1"}}));
  ASSERT_EQ(output.status, 0) << output.out << output.err;
  const auto cuda = numbers(output.lines("cuda").at(0));
  const auto current = numbers(output.lines("memory_v2").at(0));
  EXPECT_EQ(cuda, (std::vector{current[0], current[2]}));
  EXPECT_LT(current[0], 143700 * kMiB);
}

TEST(NvmlView, ProcessesOfATenantAreItsOwnInEveryList) {
  const Machine machine;
  const auto mine = machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}, {"VGPU_TENANT", "mine"}});
  const auto theirs = machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}, {"VGPU_TENANT", "theirs"}});
  Program first(probe({"use", "0", k100MiB, "wait"}), mine);
  Program second(probe({"use", "0", "0", "wait"}), mine);
  Program other(probe({"use", "0", k100MiB, "wait"}), theirs);
  ASSERT_NE(first.wait_until_ready(), 0);
  ASSERT_NE(second.wait_until_ready(), 0);
  ASSERT_NE(other.wait_until_ready(), 0);

  const Output seen = run(probe({"init", "processes", "memory"}), mine);
  ASSERT_EQ(seen.status, 0) << seen.err;
  const std::set<unsigned> expected{static_cast<unsigned>(first.pid()),
                                    static_cast<unsigned>(second.pid())};
  const auto used = numbers(seen.lines("memory_v2").at(1)).at(3);
  for (const char* form : kForms) {
    const auto all = listed(seen, form);
    EXPECT_EQ(pids(all), expected) << form;
    unsigned long long sum = 0;
    for (const Listed& one : all) {
      EXPECT_EQ(one.gpu, 1U) << "CUDA's first device is NVML's second";
      sum += one.used_bytes;
    }
    EXPECT_EQ(sum, used) << form;
  }
  EXPECT_TRUE(seen.lines("graphics").empty());
  EXPECT_TRUE(seen.lines("mps").empty());

  const Output neighbour = run(probe({"init", "processes"}), theirs);
  for (const char* form : kForms) {
    EXPECT_EQ(pids(listed(neighbour, form)), std::set{static_cast<unsigned>(other.pid())}) << form;
  }
}

TEST(NvmlView, NeighboursMemoryDoesNotShowInTheBusWindow) {
  const Machine machine;
  Program other(probe({"use", "0", k100MiB, "wait"}),
                machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}}));
  ASSERT_NE(other.wait_until_ready(), 0);
  const Output seen =
      run(probe({"init", "memory"}), machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}}));
  const auto bar1 = numbers(seen.lines("bar1").at(1));
  EXPECT_EQ(bar1[2], 0U);
  EXPECT_EQ(bar1[1], bar1[0]);
  const Output alone = run(probe({"init", "memory"}), machine.plain());
  EXPECT_GE(numbers(alone.lines("bar1").at(1))[2], 600 * kMiB);
}

TEST(NvmlView, PrivateTableNamesTheProgramOfEachProcess) {
  const Machine machine;
  const auto tenant = machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}, {"VGPU_TENANT", "named"}});
  Program holder(probe({"use", "0", "0", "wait"}), tenant);
  ASSERT_NE(holder.wait_until_ready(), 0);
  const Output seen = run(probe({"init", "processes"}), tenant);
  ASSERT_EQ(seen.lines("internal").size(), 1U) << seen.out;
  EXPECT_TRUE(seen.lines("internal").at(0).ends_with(VGPU_NVML_PROBE)) << seen.out;
}

TEST(NvmlView, ProcessThatEndsIsGoneAndItsMemoryWithIt) {
  const Machine machine;
  const auto tenant = machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}, {"VGPU_TENANT", "ending"}});
  Program witness(probe({"use", "0", "0", "wait"}), tenant);
  ASSERT_NE(witness.wait_until_ready(), 0);
  {
    Program holder(probe({"use", "0", k100MiB, "wait"}), tenant);
    ASSERT_NE(holder.wait_until_ready(), 0);
    kill(holder.pid(), SIGKILL);
    EXPECT_EQ(holder.finish().status, 128 + SIGKILL);
  }
  const Output seen = run(probe({"init", "processes"}), tenant);
  EXPECT_EQ(pids(listed(seen, "compute_v3")), std::set{static_cast<unsigned>(witness.pid())})
      << seen.out;
}

TEST(NvmlView, GpusAreTheTenantsInNvmlOrderWithIndicesOfTheirOwn) {
  const Machine machine;
  const Output whole = run(probe({"init", "names"}), machine.plain());
  const Words names = whole.lines("names");
  ASSERT_EQ(names.size(), 3U);
  const auto uuid = [&](std::size_t i) { return names[i].substr(0, names[i].find(' ')); };

  const Output output = run(probe({"init", "devices"}), machine.limited({{"VGPU_GPUS", "2,0"}}));
  ASSERT_EQ(output.status, 0) << output.err;
  EXPECT_EQ(output.lines("count").at(0), "2 2 2 2");
  EXPECT_EQ(output.lines("device"),
            (Words{"0 index 0 " + uuid(0) + " same", "1 index 1 " + uuid(2) + " same"}));
  EXPECT_EQ(output.lines("beyond").at(0), "2");  // NVML_ERROR_INVALID_ARGUMENT
}

TEST(NvmlView, GpuOfOthersIsNotFoundByAnyName) {
  const Machine machine;
  const Words names = run(probe({"init", "names"}), machine.plain()).lines("names");
  ASSERT_EQ(names.size(), 3U);
  Words commands{"init"};
  for (const std::string& line : names) {
    std::istringstream words(line);
    commands.emplace_back("find");
    for (std::string word; words >> word;) commands.push_back(word);
  }
  const Output output = run(probe(commands), machine.limited({{"VGPU_GPUS", "1"}}));
  EXPECT_EQ(output.lines("find"), (Words{"6 6 6 6 6 6", "0 0 0 0 0 0", "6 6 6 6 6 6"}))
      << output.err;
}

// Of the SMs: none, of a tenant that does nothing. Samples and encoders: not supported, because
// nobody knows the tenant's part of them.
TEST(NvmlView, UtilizationIsTheTenantsOwnOrNotSupported) {
  const Machine machine;
  const Output output =
      run(probe({"init", "utilization"}), machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}}));
  ASSERT_EQ(output.lines("utilization").size(), 3U) << output.err;
  for (const auto& line : output.lines("utilization")) EXPECT_EQ(line, "0 7 7 3 3");
}

TEST(NvmlView, ProgramWithoutALimitSeesTheMachine) {
  const Machine machine;
  const Words commands = probe({"init", "devices", "memory", "utilization", "processes"});
  const Output alone = run(commands, machine.plain());
  const Output preloaded = run(commands, machine.limited({}));
  EXPECT_EQ(preloaded.out, alone.out);
  EXPECT_EQ(preloaded.err, "");
}

TEST(NvmlView, SwitchedOffHooksShowTheMachine) {
  const Machine machine;
  const Words commands = probe({"init", "devices", "memory", "utilization"});
  const Output alone = run(commands, machine.plain());
  const Output output = run(
      commands, machine.limited({{"VGPU_MEMORY_LIMIT", "4GiB"}, {"ENABLE_NVML_HOOKS", "false"}}));
  EXPECT_EQ(output.out, alone.out);
}

TEST(NvmlView, GpuWithoutALimitInATenantWithOneIsShownWhole) {
  const Machine machine;
  const Output alone = run(probe({"init", "memory"}), machine.plain());
  const Output output =
      run(probe({"init", "memory"}), machine.limited({{"VGPU_MEMORY_LIMIT", "0=4GiB"}}));
  ASSERT_EQ(output.lines("memory").size(), 3U) << output.err;
  EXPECT_EQ(output.lines("memory")[0], "4294967296 4292870144 2097152");
  EXPECT_EQ(output.lines("memory")[1], alone.lines("memory")[1]);
  EXPECT_EQ(output.lines("memory_v2")[2], alone.lines("memory_v2")[2]);
}

TEST(NvmlView, ForkedChildSeesTheSameTenant) {
  const Machine machine;
  const auto tenant = machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}, {"VGPU_TENANT", "family"}});
  Program holder(probe({"use", "0", "0", "wait"}), tenant);
  ASSERT_NE(holder.wait_until_ready(), 0);
  const Output seen = run(probe({"init", "fork", "init", "processes", "memory"}), tenant);
  ASSERT_EQ(seen.status, 0) << seen.err;
  EXPECT_EQ(pids(listed(seen, "internal")), std::set{static_cast<unsigned>(holder.pid())})
      << seen.out;
  EXPECT_EQ(numbers(seen.lines("memory").at(1)).at(0), 8192 * kMiB);
}

TEST(NvmlView, RefusedSettingStopsNvmlWithItsReason) {
  const Machine machine;
  const Output output =
      run(probe({"init", "memory"}), machine.limited({{"VGPU_MEMORY_LIMIT", "much"}}));
  EXPECT_EQ(output.out, "init 4\n");  // NVML_ERROR_NO_PERMISSION
  EXPECT_NE(output.err.find("VGPU_MEMORY_LIMIT"), std::string::npos) << output.err;
  EXPECT_NE(output.err.find("much"), std::string::npos) << output.err;
}

// A namespace below the reader's: its processes have another number here. Skipped where none may be
// made.
TEST(NvmlView, ProcessOfAnInnerPidNamespaceHasTheReadersNumber) {
  const Machine machine;
  const auto tenant = machine.limited({{"VGPU_MEMORY_LIMIT", "8GiB"}, {"VGPU_TENANT", "nested"}});
  Environment shell = machine.plain();
  if (run({"/usr/bin/unshare", "--fork", "--pid", "/bin/true"}, shell).status != 0) {
    GTEST_SKIP() << "this machine doesn't let us make a PID namespace";
  }
  Words words{"/usr/bin/unshare", "--fork", "--pid", "--mount-proc", "--kill-child"};
  for (const auto& word : probe({"use", "0", "0", "wait"})) words.push_back(word);
  Program holder(words, tenant);
  const int inner = holder.wait_until_ready();
  if (inner == 0) GTEST_SKIP() << "no /proc of its own: " << holder.finish().err;
  EXPECT_EQ(inner, 1);
  const Output seen = run(probe({"init", "processes"}), tenant);
  const auto all = pids(listed(seen, "compute_v3"));
  ASSERT_EQ(all.size(), 1U) << seen.out;
  EXPECT_NE(*all.begin(), 1U);
  const Output name =
      run({"/bin/cat", "/proc/" + std::to_string(*all.begin()) + "/cmdline"}, shell);
  EXPECT_NE(name.out.find("nvml_probe"), std::string::npos);

  // And the other way round: from inside, processes of the outside have no number.
  Program outside(probe({"use", "0", "0", "wait"}), tenant);
  ASSERT_NE(outside.wait_until_ready(), 0);
  Words reader(words.begin(), words.begin() + 5);
  for (const auto& word : probe({"init", "processes"})) reader.push_back(word);
  const Output from_inside = run(reader, tenant);
  EXPECT_EQ(from_inside.status, 0) << from_inside.err;
  EXPECT_TRUE(listed(from_inside, "compute_v3").empty()) << from_inside.out;
}

// A container's variables are those of its first process. Who comes in later, as `docker exec`
// does, has none of them, and is in the same tenant.
TEST(NvmlView, AShellInAContainerHasTheLimitsOfItsFirstProcess) {
  const Machine machine;
  const Words space{"/usr/bin/unshare", "--fork", "--pid", "--mount-proc", "--kill-child"};
  Words check = space;
  check.push_back("/bin/true");
  if (run(check, machine.plain()).status != 0)
    GTEST_SKIP() << "this machine doesn't let us make a PID namespace";
  std::string comes_in_later = "env -i";
  for (const auto& [name, value] : machine.limited({}))
    comes_in_later += " " + name + "='" + value + "'";
  for (const auto& word : probe({"init", "memory"})) comes_in_later += " '" + word + "'";
  Words container = space;
  for (const std::string& word :
       {std::string("/bin/sh"), std::string("-c"),
        comes_in_later + "; " + comes_in_later + "; ls \"$VGPU_STATE_DIR\""})
    container.push_back(word);
  Environment first = machine.plain();
  first["VGPU_MEMORY_LIMIT"] = "8GiB";
  const Output output = run(container, first);
  ASSERT_EQ(output.lines("memory").size(), 6U) << output.out << output.err;
  for (const auto& line : output.lines("memory"))
    EXPECT_TRUE(line.starts_with("8589934592 ")) << line;
  const std::size_t tenant = output.out.find("container-");
  ASSERT_NE(tenant, std::string::npos) << output.out;
  EXPECT_EQ(output.out.find("container-", tenant + 1), std::string::npos) << output.out;
}

}  // namespace
