// SPDX-License-Identifier: Apache-2.0
// Reads the headers of src/api and writes what toolkit_test.cpp compares: one macro row for each
// type, field, enumerator and constant that they declare. It knows the few forms of declaration
// that those headers use, and stops at any other, so that nothing goes unchecked.
#include <fstream>
#include <iostream>
#include <regex>
#include <string>
#include <vector>

namespace {

// An aggregate being read: how its members are reached from the outermost one ("params.range.").
// Unions and structs without a member name add nothing to the path.
struct Scope {
  std::vector<std::string> fields;  // relative to this scope
  std::string type;                 // of the outermost only
};

[[noreturn]] void stop(const std::string& file, const std::string& line) {
  std::cerr << file << ": cannot tell what this declares: " << line << "\n";
  std::exit(1);
}

void read_header(const std::string& file) {
  static const std::regex kSkip(R"(\s*(//.*|#.*)?)");
  static const std::regex kHandle(R"(using \w+ = struct (\w+)\*;)");
  static const std::regex kAlias(R"(using (\w+) =.*)");
  static const std::regex kEnum(R"(enum (\w+)(?: : [\w ]+)? \{)");
  static const std::regex kEnumLine(R"(enum (\w+)(?: : [\w ]+)? \{(.*)\};)");
  static const std::regex kEnumerator(R"(\s*(\w+) = [-\w]+,?\s*)");
  static const std::regex kConstant(R"(inline constexpr [\w ]+ (\w+) = [-\w]+;)");
  static const std::regex kPointer(R"(inline (?:const \w+|void\* const) (\w+) = .*)");
  static const std::regex kOpen(R"(\s*(?:struct|union)( \w+)? \{)");
  static const std::regex kClose(R"(\s*\}( \w+)?;)");
  static const std::regex kField(R"(\s+[\w: ]+[ *]+(?:const \*)?(\w+)(?:\[\w+\])?;)");
  static const std::regex kCallback(R"(\s+\w+[ *]*\(\*(\w+)\)\(.*\);)");

  std::ifstream in(file);
  std::vector<Scope> open;
  std::string enumeration;
  std::string pending;  // a declaration that clang-format broke
  bool any = false;
  for (std::string line; std::getline(in, line);) {
    any = true;
    std::smatch match;
    if (pending.empty() && std::regex_match(line, kSkip)) continue;
    if (!pending.empty())
      line = pending + line.substr(std::min(line.size(), line.find_first_not_of(' ')));
    pending.clear();
    if (!enumeration.empty()) {
      if (line == "};") {
        enumeration.clear();
      } else if (std::regex_match(line, match, kEnumerator)) {
        std::cout << "VGPU_ABI_VALUE(" << match[1] << ")\n";
      } else {
        stop(file, line);
      }
    } else if (std::regex_match(line, match, kOpen)) {
      if (open.empty()) std::cout << "VGPU_ABI_TYPE(" << match[1].str().substr(1) << ")\n";
      open.push_back({{}, open.empty() ? match[1].str().substr(1) : open.front().type});
    } else if (!open.empty() && std::regex_match(line, match, kClose)) {
      Scope closed = open.back();
      open.pop_back();
      const std::string path = match[1].matched ? match[1].str().substr(1) + "." : "";
      for (const std::string& field : closed.fields) {
        if (open.empty()) {
          std::cout << "VGPU_ABI_FIELD(" << closed.type << ", " << field << ")\n";
        } else {
          open.back().fields.push_back(path + field);
        }
      }
      if (!path.empty()) open.back().fields.push_back(match[1].str().substr(1));
    } else if (!open.empty() && (std::regex_match(line, match, kField) ||
                                 std::regex_match(line, match, kCallback))) {
      open.back().fields.push_back(match[1]);
    } else if (!open.empty()) {
      stop(file, line);
    } else if (std::regex_match(line, match, kHandle)) {
      std::cout << "VGPU_ABI_OPAQUE(" << match[1] << ")\n";
    } else if (std::regex_match(line, match, kEnumLine)) {
      std::cout << "VGPU_ABI_TYPE(" << match[1] << ")\n";
      const std::string list = match[2];
      static const std::regex kEach(R"((\w+) = )");
      for (std::sregex_iterator it(list.begin(), list.end(), kEach), end; it != end; ++it) {
        std::cout << "VGPU_ABI_VALUE(" << (*it)[1] << ")\n";
      }
    } else if (std::regex_match(line, match, kEnum)) {
      enumeration = match[1];
      std::cout << "VGPU_ABI_TYPE(" << enumeration << ")\n";
    } else if (line.back() != ';') {
      pending = line + (line.back() == ' ' ? "" : " ");
    } else if (std::regex_match(line, match, kConstant)) {
      std::cout << "VGPU_ABI_CONSTANT(" << match[1] << ")\n";
    } else if (std::regex_match(line, match, kPointer)) {
      std::cout << "VGPU_ABI_POINTER(" << match[1] << ")\n";
    } else if (std::regex_match(line, match, kAlias)) {
      std::cout << "VGPU_ABI_ALIAS(" << match[1] << ")\n";
    } else {
      stop(file, line);
    }
  }
  if (!any) stop(file, "(nothing)");
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) read_header(argv[i]);
}
