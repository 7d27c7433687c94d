// SPDX-License-Identifier: Apache-2.0
// The ELF and "#!" reading behind program.h, and the table of programs that are refused by name.
// Every offset read from a file is bounded by what was read; nothing is mapped.
#include "vgpu/survey/program.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "vgpu/survey/problem.h"

namespace vgpu::survey {
namespace {

constexpr std::size_t kHeadSize = 4096;          // a "#!" line ends within it, an ELF header too
constexpr std::size_t kMaxProgramHeaders = 512;  // more is no program that a linker made
constexpr int kMaxScriptDepth = 5;               // the kernel stops at four

#if defined(__x86_64__)
constexpr unsigned kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kMachine = EM_AARCH64;
#else
#error "x86-64 and arm64 only"
#endif
constexpr std::array<std::string_view, 2> kGlibcLoaders = {"ld-linux-x86-64.so.2",
                                                           "ld-linux-aarch64.so.1"};

std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

class File {
 public:
  explicit File(const std::string& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  std::string read(std::uint64_t offset, std::size_t size) const {
    std::string out(size, '\0');
    const ssize_t got = pread(descriptor_, out.data(), size, static_cast<off_t>(offset));
    out.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return out;
  }

 private:
  int descriptor_;
};

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "32-bit arm";
    case EM_AARCH64:
      return "arm64";
    case EM_PPC64:
      return "ppc64";
    case EM_RISCV:
      return "riscv";
    case EM_S390:
      return "s390x";
    default:
      return fmt::format("machine {}", machine);
  }
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text) {
    if (c == ' ' || c == '\t') {
      if (!word.empty()) words.push_back(std::move(word));
      word.clear();
    } else {
      word += c;
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

ProgramFile inspect_script(std::string_view head) {
  std::string_view line = head.substr(2);
  line = line.substr(0, line.find('\n'));
  auto words = split_words(line);
  ProgramFile file;
  if (words.empty()) {
    file.linking = Linking::no_format;
    return file;
  }
  file.linking = Linking::script;
  file.interpreter = words.front();
  file.script_words.assign(words.begin() + 1, words.end());
  return file;
}

ProgramFile inspect_elf(const File& in, const std::string& head) {
  ProgramFile file;
  const auto elf_class = static_cast<unsigned char>(head[EI_CLASS]);
  std::uint16_t machine = 0;
  std::memcpy(&machine, head.data() + offsetof(Elf64_Ehdr, e_machine), sizeof machine);
  if (elf_class != ELFCLASS64 || head[EI_DATA] != ELFDATA2LSB || machine != kMachine) {
    file.linking = Linking::other_architecture;
    file.why = fmt::format(
        "built for {}{}, the limiter is {}", machine_name(machine),
        elf_class == ELFCLASS64 || machine == EM_386 || machine == EM_ARM ? "" : " (32 bit)",
        machine_name(kMachine));
    return file;
  }
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof header);
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMaxProgramHeaders) {
    file.linking = Linking::no_format;
    return file;
  }
  const std::string table =
      in.read(header.e_phoff, std::size_t{header.e_phnum} * sizeof(Elf64_Phdr));
  bool has_dynamic = false;
  for (std::size_t at = 0; at + sizeof(Elf64_Phdr) <= table.size(); at += sizeof(Elf64_Phdr)) {
    Elf64_Phdr segment;
    std::memcpy(&segment, table.data() + at, sizeof segment);
    if (segment.p_type == PT_DYNAMIC) has_dynamic = true;
    if (segment.p_type != PT_INTERP) continue;
    file.interpreter =
        in.read(segment.p_offset, std::min<std::uint64_t>(segment.p_filesz, kHeadSize)).c_str();
  }
  const std::string_view loader = base_name(file.interpreter);
  if (file.interpreter.empty()) {
    // A static-pie has a dynamic section too, for its own relocations; only its entry point tells
    // it from a library.
    const bool library = header.e_type == ET_DYN && has_dynamic && header.e_entry == 0;
    file.linking = library ? Linking::shared_library : Linking::static_program;
    file.why =
        library ? "a shared library" : "statically linked, so nothing can be preloaded into it";
  } else if (std::find(kGlibcLoaders.begin(), kGlibcLoaders.end(), loader) == kGlibcLoaders.end()) {
    file.linking = Linking::foreign_libc;
    file.why = fmt::format("{}, and the limiter is built for glibc",
                           loader.starts_with("ld-musl")
                               ? fmt::format("linked to musl ({})", file.interpreter)
                               : fmt::format("started by {}", file.interpreter));
  } else {
    file.linking = Linking::preloadable;
  }
  return file;
}

bool is_executable_file(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

// As execvp searches: the first executable; else what was found but isn't executable decides
// between 126 and 127.
std::string find_program(const std::string& name, std::string_view search, int& not_started) {
  not_started = kExitNotFound;
  auto consider = [&](const std::string& path) {
    if (is_executable_file(path)) return true;
    if (access(path.c_str(), F_OK) == 0) not_started = kExitNotExecutable;
    return false;
  };
  if (name.find('/') != std::string::npos) return consider(name) ? name : "";
  while (true) {
    const auto colon = search.find(':');
    const std::string_view folder = search.substr(0, colon);
    std::string path = folder.empty() ? "./" + name : std::string(folder) + "/" + name;
    if (consider(path)) return path;
    if (colon == std::string_view::npos) return "";
    search.remove_prefix(colon + 1);
  }
}

struct NamedRefusal {
  std::string_view names;  // separated by blanks
  std::string_view why;
  std::string_view next;
};

// Programs that start the work elsewhere: under another user, in a daemon, on another machine. Each
// with the recipe.
constexpr NamedRefusal kRefusedByName[] = {
    {"sudo su doas pkexec runuser",
     "drops LD_PRELOAD and changes the user, so the program would run unlimited",
     "sudo vgpu run [options] -- PROGRAM   (vgpu inside, as the user that the program runs as)"},
    {"docker podman nerdctl ctr crictl lxc-start lxc-execute apptainer singularity",
     "starts the program inside a container, out of reach of this run",
     "put vgpu's libraries into the container and run there: docker run ... IMAGE vgpu run "
     "[options] -- PROGRAM"},
    {"kubectl oc", "starts the program on a node, not here",
     "vgpu run [options] -- PROGRAM as the container's command"},
    {"tmux screen zellij",
     "starts the program in a server that outlives this run and may be older than it",
     "start vgpu inside: tmux new 'vgpu run [options] -- PROGRAM'"},
    {"systemd-run systemctl at batch",
     "lets a service manager start the program, out of reach of this run",
     "start vgpu inside: systemd-run vgpu run [options] -- PROGRAM"},
    {"ssh mosh rsh", "starts the program on another machine",
     "ssh HOST vgpu run [options] -- PROGRAM"},
    {"srun sbatch salloc qsub bsub",
     "lets a batch system start the program, out of reach of this run",
     "start vgpu inside: srun vgpu run [options] -- PROGRAM"},
};

void refuse_by_name(std::string_view name) {
  for (const auto& refusal : kRefusedByName) {
    for (const auto& word : split_words(refusal.names)) {
      if (word != name) continue;
      throw Problem(kExitNotStarted, "VG1101", fmt::format("{} {}", name, refusal.why),
                    std::string(refusal.next));
    }
  }
}

std::string advice(Linking linking) {
  switch (linking) {
    case Linking::static_program:
      return "link it dynamically (Go: CGO_ENABLED=1; C: without -static)";
    case Linking::foreign_libc:
      return "use a glibc build of it (a debian- or ubuntu-based image instead of alpine)";
    case Linking::other_architecture:
      return "use a build of it for this machine";
    case Linking::privileged:
      return "vgpu run -- the program itself, as the user that it should run as";
    case Linking::shared_library:
      return "vgpu run -- PROGRAM, without naming the loader";
    case Linking::unreadable:
      return "make the file readable (chmod +r), so that it can be checked";
    case Linking::preloadable:
    case Linking::script:
    case Linking::no_format:
      break;
  }
  return "";
}

// `env` in front of a program ("#!/usr/bin/env python3", "vgpu run -- env A=1 prog"): the position
// of the program.
std::size_t program_after_env(const std::vector<std::string>& words, std::size_t at) {
  for (; at < words.size(); ++at) {
    const std::string& word = words[at];
    if (word == "-u" || word == "--unset" || word == "-C" || word == "--chdir") {
      ++at;
    } else if (!word.starts_with('-') && word.find('=') == std::string::npos) {
      break;
    }
  }
  return at;
}

class CommandCheck {
 public:
  explicit CommandCheck(std::string_view search_path) : search_path_(search_path) {}

  std::string find(const std::string& name, int& not_started) const {
    return find_program(name, search_path_, not_started);
  }

  // `shown_as`: how messages call it, because the user may have typed something that leads here.
  void check_words(const std::vector<std::string>& words, int depth,
                   const std::string& shown_as) const {
    refuse_by_name(base_name(words.front()));
    int not_started = 0;
    const std::string path = find(words.front(), not_started);
    if (path.empty()) refuse_missing(words.front(), not_started, shown_as);
    check_file(path, depth, shown_as);
    if (base_name(path) != "env") return;
    const std::size_t at = program_after_env(words, 1);
    if (at >= words.size()) return;
    check_words({words.begin() + static_cast<std::ptrdiff_t>(at), words.end()}, depth, words[at]);
  }

  void check_file(const std::string& path, int depth, const std::string& shown_as) const {
    refuse_by_name(base_name(path));
    std::array<char, PATH_MAX> resolved{};
    if (realpath(path.c_str(), resolved.data()) != nullptr) {
      refuse_by_name(base_name(resolved.data()));
    }
    const ProgramFile file = inspect_program(path);
    if (file.linking == Linking::preloadable || file.linking == Linking::no_format) return;
    if (file.linking == Linking::script) return check_script(file, depth, shown_as);
    throw Problem(kExitNotStarted, "VG1103",
                  fmt::format("{} can't be limited: it is {}", shown_as, file.why),
                  advice(file.linking));
  }

 private:
  void check_script(const ProgramFile& script, int depth, const std::string& shown_as) const {
    if (depth >= kMaxScriptDepth) {
      throw Problem(kExitNotExecutable, "VG1102",
                    fmt::format("{}: too many levels of #! lines", shown_as));
    }
    std::vector<std::string> words{script.interpreter};
    words.insert(words.end(), script.script_words.begin(), script.script_words.end());
    check_words(words, depth + 1,
                fmt::format("{} (which {} names after #!)", script.interpreter, shown_as));
  }

  [[noreturn]] static void refuse_missing(const std::string& name, int not_started,
                                          const std::string& shown_as) {
    if (std::error_code ignored; std::filesystem::is_directory(name, ignored)) {
      throw Problem(not_started, "VG1105", fmt::format("{}: a directory", shown_as),
                    "a program in it, by its path");
    }
    if (not_started == kExitNotExecutable) {
      throw Problem(not_started, "VG1105", fmt::format("{}: not executable", shown_as),
                    "chmod +x " + name);
    }
    throw Problem(not_started, "VG1104", fmt::format("{}: not found", shown_as),
                  name.find('/') == std::string::npos ? "give its path, or check PATH" : "");
  }

  std::string_view search_path_;
};

}  // namespace

ProgramFile inspect_program(const std::string& path) {
  ProgramFile file;
  const File in(path);
  if (!in.is_open()) {
    file.why = fmt::format("not readable ({})", std::strerror(errno));
    return file;
  }
  struct stat info {};
  if (fstat(in.descriptor(), &info) != 0 || !S_ISREG(info.st_mode)) {
    file.why = "not a file";
    return file;
  }
  char capabilities = 0;
  const bool has_capabilities =
      fgetxattr(in.descriptor(), "security.capability", &capabilities, 0) > 0;
  if ((info.st_mode & (S_ISUID | S_ISGID)) != 0 || has_capabilities) {
    file.linking = Linking::privileged;
    file.why = fmt::format("{}, so the loader ignores LD_PRELOAD",
                           has_capabilities                ? "given file capabilities"
                           : (info.st_mode & S_ISUID) != 0 ? "setuid"
                                                           : "setgid");
    return file;
  }
  const std::string head = in.read(0, kHeadSize);
  if (head.starts_with("#!")) return inspect_script(head);
  if (head.size() >= sizeof(Elf64_Ehdr) && head.starts_with(ELFMAG)) return inspect_elf(in, head);
  file.linking = Linking::no_format;
  return file;
}

Command check_command(const std::vector<std::string>& argv, const std::string& search_path) {
  const CommandCheck check(search_path);
  check.check_words(argv, 0, argv.front());
  int not_started = 0;
  Command command{check.find(argv.front(), not_started), argv};
  if (inspect_program(command.path).linking == Linking::no_format) {
    command.argv.front() = command.path;
    command.argv.insert(command.argv.begin(), "sh");
    command.path = "/bin/sh";
    check.check_file(command.path, 0, command.path);
  }
  return command;
}

std::string explain_missing_limiter(int pid) {
  const ProgramFile file = inspect_program(fmt::format("/proc/{}/exe", pid));
  if (!file.why.empty() && file.linking != Linking::unreadable) return "it is " + file.why;
  const File in(fmt::format("/proc/{}/environ", pid));
  std::string environment, part;
  if (in.is_open()) {
    while (!(part = in.read(environment.size(), 64 * 1024)).empty()) environment += part;
  }
  if (environment.find("libcuda_limiter.so") == std::string::npos) {
    return "it was started with an environment without our LD_PRELOAD";
  }
  return "the loader did not load the limiter into it";
}

}  // namespace vgpu::survey
