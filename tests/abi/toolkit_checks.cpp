// SPDX-License-Identifier: Apache-2.0
// Reads headers of src/api and writes what the toolkit tests compare: one macro row for each type,
// field, enumerator and constant that they declare. It knows the few forms of declaration that
// those headers use, and stops at any other, so that nothing goes unchecked.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <regex>
#include <string>
#include <vector>

namespace {

class Header {
 public:
  explicit Header(std::string file) : file_(std::move(file)) {}

  void read() {
    static const std::regex kMargin(R"(^\s+|\s+$)");
    std::ifstream in(file_);
    if (!in) stop("(no such file)");
    std::string broken;  // the first lines of a declaration that clang-format broke
    for (std::string line; std::getline(in, line);) {
      const auto comment = line.find("//");
      if (comment != std::string::npos) line.erase(comment);
      line = std::regex_replace(line, kMargin, "");
      if (line.empty()) continue;
      line = broken + line;
      broken.clear();
      const bool whole = line[0] == '#'
                             ? line.back() != '\\'
                             : std::string(";{},").find(line.back()) != std::string::npos;
      if (!whole) {
        broken = line + " ";
      } else if (line[0] == '#') {
        directive(line);
      } else if (in_enum_) {
        enumerator(line);
      } else if (!open_.empty()) {
        member(line);
      } else {
        declaration(line);
      }
    }
    if (!open_.empty() || in_enum_ || !broken.empty()) stop("(its end)");
    std::cout << "#ifdef VGPU_ABI_FORGET_MACROS\n";
    for (const auto& macro : macros_) std::cout << "#undef " << macro << "\n";
    std::cout << "#endif\n";
  }

 private:
  // An aggregate being read and its fields so far, seen from itself. Unions and structs without a
  // name of their own as members add nothing to the path of theirs.
  struct Aggregate {
    std::string name;  // of the outermost, if it comes first
    std::vector<std::string> fields;
  };

  [[noreturn]] void stop(const std::string& line) const {
    std::cerr << file_ << ": cannot tell what this declares: " << line << "\n";
    std::exit(1);
  }

  static void row(const char* kind, const std::string& of) {
    std::cout << "VGPU_ABI_" << kind << "(" << of << ")\n";
  }

  void directive(const std::string& line) {
    static const std::regex kIgnored(R"(#(pragma|include) .*|#define \w+\(.*)");
    static const std::regex kConstant(R"(#define (\w+) .+)");
    std::smatch match;
    if (std::regex_match(line, kIgnored)) return;
    if (!std::regex_match(line, match, kConstant)) stop(line);
    row("CONSTANT", match[1]);
    macros_.push_back(match[1]);
  }

  void enumerator(const std::string& line) {
    static const std::regex kEnumerator(R"((\w+) = [-\w]+,?)");
    static const std::regex kClose(R"(\}( \w+)?;)");
    std::smatch match;
    if (std::regex_match(line, match, kEnumerator)) {
      row("VALUE", match[1]);
    } else if (std::regex_match(line, match, kClose)) {
      if (match[1].matched) row("TYPE", match[1].str().substr(1));
      in_enum_ = false;
    } else {
      stop(line);
    }
  }

  void member(const std::string& line) {
    static const std::regex kOpen(R"((?:struct|union) \{)");
    static const std::regex kClose(R"(\}(?: (\w+)(\[\w+\])?)?;)");
    static const std::regex kField(R"([\w: ]+[ *]+(?:const \*)?(\w+)(?:\[\w+\])?;)");
    static const std::regex kCallback(R"([\w *]+\(\*(\w+)\)\(.*\);)");
    std::smatch match;
    if (std::regex_match(line, kOpen)) {
      open_.push_back({});
    } else if (std::regex_match(line, match, kClose)) {
      close(match[1], match[2].matched);
    } else if (std::regex_match(line, match, kField) || std::regex_match(line, match, kCallback)) {
      open_.back().fields.push_back(match[1]);
    } else {
      stop(line);
    }
  }

  void close(const std::string& name, bool is_array) {
    const Aggregate closed = open_.back();
    open_.pop_back();
    if (open_.empty()) {
      const std::string& type = closed.name.empty() ? name : closed.name;
      row("TYPE", type);
      for (const auto& field : closed.fields) row("FIELD", type + ", " + field);
      return;
    }
    const std::string path = name.empty() ? "" : name + (is_array ? "[0]." : ".");
    for (const auto& field : closed.fields) open_.back().fields.push_back(path + field);
    if (!name.empty()) open_.back().fields.push_back(name);
  }

  void declaration(const std::string& line) {
    static const std::regex kIgnored(R"(extern "C" \{|\}|static_assert\(.*\);)");
    static const std::regex kHandle(R"(using \w+ = struct (\w+)\*;|typedef struct (\w+)\* \w+;)");
    static const std::regex kAlias(R"(using (\w+) = .*;|typedef \w+ (\w+);)");
    static const std::regex kConstant(R"(inline constexpr [\w ]+ (\w+) = [-\w]+;)");
    static const std::regex kPointer(R"(inline (?:const \w+|void\* const) (\w+) = .*;)");
    static const std::regex kEnum(R"(enum(?: (\w+) : [\w ]+)? \{|typedef enum \w+ \{)");
    static const std::regex kShortEnum(R"(enum (\w+) : [\w ]+ \{ (\w+) = [-\w]+ \};)");
    static const std::regex kAggregate(
        R"((?:struct|union) (\w+) \{|typedef (?:struct|union)(?: \w+)? \{)");
    std::smatch match;
    const auto name = [&match] { return match[1].matched ? match[1].str() : match[2].str(); };
    if (std::regex_match(line, kIgnored)) return;
    if (std::regex_match(line, match, kHandle)) {
      row("OPAQUE", name());
    } else if (std::regex_match(line, match, kAlias)) {
      row("ALIAS", name());
    } else if (std::regex_match(line, match, kConstant)) {
      row("CONSTANT", match[1]);
    } else if (std::regex_match(line, match, kPointer)) {
      row("POINTER", match[1]);
    } else if (std::regex_match(line, match, kShortEnum)) {
      row("TYPE", match[1]);
      row("VALUE", match[2]);
    } else if (std::regex_match(line, match, kEnum)) {
      if (match[1].matched) row("TYPE", match[1]);
      in_enum_ = true;
    } else if (std::regex_match(line, match, kAggregate)) {
      open_.push_back({match[1], {}});
    } else {
      stop(line);
    }
  }

  std::string file_;
  std::vector<std::string> macros_;
  std::vector<Aggregate> open_;
  bool in_enum_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  static const char* const kKinds[] = {"TYPE",    "FIELD",  "VALUE", "CONSTANT",
                                       "POINTER", "OPAQUE", "ALIAS"};
  for (const char* kind : kKinds) {
    std::cout << "#ifndef VGPU_ABI_" << kind << "\n#define VGPU_ABI_" << kind << "(...)\n#endif\n";
  }
  for (int i = 1; i < argc; ++i) Header(argv[i]).read();
  for (const char* kind : kKinds) std::cout << "#undef VGPU_ABI_" << kind << "\n";
  std::cout << "#undef VGPU_ABI_FORGET_MACROS\n";
}
