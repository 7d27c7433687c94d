// SPDX-License-Identifier: Apache-2.0
// Reads as much of a PTX text as the simulation needs: entries with parameters, local and shared
// memory, launch bounds, module-scope variables, calls of malloc and printf, and the directives
// that state what a kernel does. Everything that takes part in none of this is skipped, so any PTX
// version is accepted.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <utility>

#include "module.h"

namespace vgpu::sim {
namespace {

Stated read_stated(std::string_view text) {
  Stated stated;
  if (text.starts_with("param")) {
    text.remove_prefix(5);
    std::from_chars(text.data(), text.data() + text.size(), stated.param);
  } else {
    std::from_chars(text.data(), text.data() + text.size(), stated.literal);
  }
  return stated;
}

// One word of a directive: spin_ns=A, arrive=A or wait=A>=A, where A is a number or paramN.
void read_directive(std::string_view word, Directives& directives) {
  const std::size_t equals = word.find('=');
  if (equals == std::string_view::npos) return;
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = word.substr(equals + 1);
  if (key == "spin_ns") directives.spin_ns = read_stated(value);
  if (key == "arrive") directives.arrive = read_stated(value);
  const std::size_t least = value.find(">=");
  if (key == "wait" && least != std::string_view::npos) {
    directives.wait = read_stated(value.substr(0, least));
    directives.wait_value = read_stated(value.substr(least + 2));
  }
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  bool done() const { return at_ >= text_.size(); }
  std::size_t at() const { return at_; }

  // The next token: a word, a number or one sign. Comments are skipped; a vgpu-sim directive is
  // kept.
  std::string_view next() {
    for (;;) {
      while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
      if (at_ + 1 >= text_.size() || text_[at_] != '/') break;
      if (text_[at_ + 1] == '/') {
        const std::size_t end = std::min(text_.find('\n', at_), text_.size());
        note_comment(text_.substr(at_ + 2, end - at_ - 2));
        at_ = end;
      } else if (text_[at_ + 1] == '*') {
        const std::size_t end = text_.find("*/", at_ + 2);
        at_ = end == std::string_view::npos ? text_.size() : end + 2;
      } else {
        break;
      }
    }
    if (at_ >= text_.size()) return {};
    const std::size_t from = at_;
    const auto word = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '$' ||
             c == '%';
    };
    if (text_[at_] == '"') {
      const std::size_t end = text_.find('"', at_ + 1);
      at_ = end == std::string_view::npos ? text_.size() : end + 1;
    } else if (word(text_[at_])) {
      while (at_ < text_.size() && word(text_[at_])) ++at_;
    } else {
      ++at_;
    }
    return text_.substr(from, at_ - from);
  }

  std::string_view peek() {
    const std::size_t saved = at_;
    const std::string_view token = next();
    at_ = saved;
    return token;
  }

  // Those read since this was asked last: each kernel states its own.
  Directives take_directives() { return std::exchange(directives_, Directives()); }

 private:
  void note_comment(std::string_view comment) {
    constexpr std::string_view kKey = "vgpu-sim:";
    const std::size_t key = comment.find(kKey);
    if (key == std::string_view::npos) return;
    comment.remove_prefix(key + kKey.size());
    while (!comment.empty()) {
      const std::size_t end = std::min(comment.find_first_of(" \t\r"), comment.size());
      read_directive(comment.substr(0, end), directives_);
      comment.remove_prefix(std::min(end + 1, comment.size()));
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Directives directives_;
};

std::uint64_t number(std::string_view token) {
  std::uint64_t value = 0;
  int base = 10;
  if (token.starts_with("0x") || token.starts_with("0X")) {
    base = 16;
    token.remove_prefix(2);
  }
  std::from_chars(token.data(), token.data() + token.size(), value, base);
  return value;
}

// Bytes of a type such as .u64 or .v4.f32; 0 if it is none.
std::uint64_t type_bytes(std::string_view type) {
  if (type.size() < 3 || type[0] != '.') return 0;
  if (type == ".pred") return 1;
  const std::string_view digits =
      type.substr(type.find_first_of("0123456789", 1) == std::string_view::npos
                      ? type.size()
                      : type.find_first_of("0123456789", 1));
  const char kind = type[1];
  if (kind != 'b' && kind != 'u' && kind != 's' && kind != 'f') return 0;
  switch (number(digits.substr(0, digits.find_first_not_of("0123456789")))) {
    case 8:
      return 1;
    case 16:
      return 2;
    case 32:
      return 4;
    case 64:
      return 8;
    case 128:
      return 16;
    default:
      return 0;
  }
}

struct Variable {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t align = 1;
  std::uint64_t element = 1;
};

// A variable behind its state space: [.align N] [.attribute(...)] [.v2|.v4] .type name
// [dimensions]. Stops before what follows.
Variable read_variable(Reader& reader, bool& managed) {
  Variable variable;
  std::uint64_t vector = 1;
  std::uint64_t align = 0;
  managed = false;
  while (!reader.done()) {
    const std::string_view token = reader.peek();
    if (token == ".align") {
      reader.next();
      align = number(reader.next());
    } else if (token == ".ptr") {
      reader.next();
    } else if (token == ".attribute") {
      reader.next();
      while (!reader.done() && reader.peek() != ")")
        managed = reader.next() == ".managed" || managed;
      reader.next();
    } else if (token == ".v2" || token == ".v4" || token == ".v8") {
      reader.next();
      vector = number(token.substr(2));
    } else if (!token.empty() && token[0] == '.') {
      reader.next();
      if (const std::uint64_t bytes = type_bytes(token); bytes != 0) variable.element = bytes;
    } else {
      break;
    }
  }
  variable.name = std::string(reader.next());
  std::uint64_t count = 1;
  while (reader.peek() == "[") {
    reader.next();
    const std::string_view size = reader.next();
    if (size == "]") {
      count = 0;  // extern arrays have no size
      continue;
    }
    count *= number(size);
    if (reader.peek() == "]") reader.next();
  }
  variable.bytes = variable.element * vector * count;
  variable.align = align != 0 ? align : variable.element * vector;
  return variable;
}

void read_params(Reader& reader, KernelText& kernel) {
  if (reader.peek() != "(") return;
  reader.next();
  while (!reader.done() && reader.peek() != ")") {
    const std::string_view token = reader.next();
    if (token != ".param") continue;
    bool managed = false;
    const Variable variable = read_variable(reader, managed);
    const std::uint64_t offset =
        (kernel.param_bytes + variable.align - 1) / variable.align * variable.align;
    kernel.param_offsets.push_back(offset);
    kernel.param_sizes.push_back(variable.bytes);
    kernel.param_bytes = offset + variable.bytes;
  }
  reader.next();
}

void read_body(Reader& reader, KernelText& kernel) {
  int depth = 0;
  const std::size_t from = reader.at();
  bool managed = false;
  while (!reader.done()) {
    const std::string_view token = reader.next();
    if (token == "{") {
      ++depth;
    } else if (token == "}") {
      if (--depth == 0) break;
    } else if (token == ".local") {
      const Variable variable = read_variable(reader, managed);
      kernel.local_bytes =
          (kernel.local_bytes + variable.align - 1) / variable.align * variable.align +
          variable.bytes;
    } else if (token == ".shared") {
      kernel.shared_bytes += read_variable(reader, managed).bytes;
    } else if (token == "malloc") {
      kernel.uses_heap = true;
    } else if (token == "vprintf") {
      kernel.uses_printf = true;
    }
  }
  kernel.code_bytes = reader.at() - from;
}

void read_kernel(Reader& reader, ModuleText& module) {
  KernelText kernel;
  kernel.name = std::string(reader.next());
  read_params(reader, kernel);
  while (!reader.done() && reader.peek() != "{" && reader.peek() != ";") {
    const std::string_view token = reader.next();
    if (token == ".maxntid" || token == ".reqntid") {
      std::uint64_t threads = number(reader.next());
      while (reader.peek() == ",") {
        reader.next();
        threads *= number(reader.next());
      }
      kernel.max_threads = static_cast<int>(std::min<std::uint64_t>(threads, 1024));
    }
  }
  if (reader.peek() == ";") return;  // a declaration
  read_body(reader, kernel);
  kernel.local_bytes = (kernel.local_bytes + 7) / 8 * 8;
  kernel.directives = reader.take_directives();
  module.kernels.push_back(std::move(kernel));
}

void read_global(Reader& reader, ModuleText& module) {
  GlobalText global;
  const Variable variable = read_variable(reader, global.managed);
  global.name = variable.name;
  global.bytes = variable.bytes;
  global.align = variable.align;
  if (reader.peek() == "=") {
    reader.next();
    global.initial.assign(global.bytes, 0);
    std::size_t place = 0;
    int depth = 0;
    while (!reader.done() && reader.peek() != ";") {
      const std::string_view token = reader.next();
      if (token == "{") {
        ++depth;
      } else if (token == "}") {
        --depth;
      } else if (token != "," && token != "-" && place + variable.element <= global.bytes) {
        const std::uint64_t value = number(token);
        std::memcpy(global.initial.data() + place, &value,
                    std::min<std::size_t>(variable.element, 8));
        place += variable.element;
      }
    }
  }
  if (global.bytes > 0) module.globals.push_back(std::move(global));
}

void skip_function(Reader& reader) {
  int depth = 0;
  while (!reader.done()) {
    const std::string_view token = reader.next();
    if (token == "{") ++depth;
    if (token == "}" && --depth == 0) return;
    if (token == ";" && depth == 0) return;
  }
}

// Byte by byte, so that a text shorter than the magic is not read past its end.
bool starts_with(const unsigned char* bytes, const unsigned char (&magic)[4]) {
  for (std::size_t i = 0; i < 4; ++i) {
    if (bytes[i] != magic[i]) return false;
  }
  return true;
}

}  // namespace

std::optional<ModuleText> parse_ptx(std::string_view text) {
  Reader reader(text);
  ModuleText module;
  bool has_version = false;
  bool has_target = false;
  bool is_extern = false;
  while (!reader.done()) {
    const std::string_view token = reader.next();
    if (token.empty()) break;
    if (token == ".version") {
      has_version = true;
      const std::string_view version = reader.next();
      if (version.empty() || std::isdigit(static_cast<unsigned char>(version[0])) == 0)
        return std::nullopt;
    } else if (token == ".target") {
      has_target = true;
      reader.next();
    } else if (!has_version) {
      return std::nullopt;
    } else if (token == ".extern") {
      is_extern = true;
      continue;
    } else if (token == ".entry") {
      read_kernel(reader, module);
    } else if (token == ".func") {
      skip_function(reader);
    } else if (token == ".global" || token == ".const") {
      if (is_extern) {
        bool managed = false;
        read_variable(reader, managed);
      } else {
        read_global(reader, module);
      }
    } else if (token == "}" || token == "{") {
      return std::nullopt;  // not at module scope
    }
    is_extern = false;
  }
  if (!has_version || !has_target) return std::nullopt;
  return module;
}

CUresult read_image(const void* image, std::shared_ptr<const ModuleText>& out) {
  const auto* bytes = static_cast<const unsigned char*>(image);
  constexpr unsigned char kElf[] = {0x7f, 'E', 'L', 'F'};
  constexpr unsigned char kFatbin[] = {0x50, 0xed, 0x55, 0xba};
  constexpr unsigned char kFatbinWrapper[] = {0xb1, 0x43, 0x62, 0x46};
  if (starts_with(bytes, kFatbinWrapper)) {
    const void* inner = nullptr;
    std::memcpy(&inner, bytes + 8, sizeof inner);
    if (inner == nullptr) return CUDA_ERROR_INVALID_IMAGE;
    return read_image(inner, out);
  }
  if (starts_with(bytes, kFatbin)) {
    // Header: magic, version, header size (16 bits), size of what follows. Entries: kind (1 = PTX),
    // sizes; uncompressed PTX only.
    std::uint16_t header = 0;
    std::uint64_t size = 0;
    std::memcpy(&header, bytes + 6, 2);
    std::memcpy(&size, bytes + 8, 8);
    for (std::uint64_t at = header; at + 64 <= header + size;) {
      std::uint16_t kind = 0;
      std::uint32_t entry_header = 0;
      std::uint64_t payload = 0;
      std::memcpy(&kind, bytes + at, 2);
      std::memcpy(&entry_header, bytes + at + 4, 4);
      std::memcpy(&payload, bytes + at + 8, 8);
      if (entry_header == 0 || payload > size) break;
      if (kind == 1) {
        const std::string_view text(reinterpret_cast<const char*>(bytes) + at + entry_header,
                                    payload);
        if (auto parsed = parse_ptx(text.substr(0, text.find('\0')))) {
          out = std::make_shared<const ModuleText>(std::move(*parsed));
          return CUDA_SUCCESS;
        }
      }
      at += entry_header + payload;
    }
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  if (starts_with(bytes, kElf)) return CUDA_ERROR_INVALID_IMAGE;
  if (bytes[0] == 0) return CUDA_ERROR_INVALID_IMAGE;
  auto parsed = parse_ptx(reinterpret_cast<const char*>(bytes));
  if (!parsed) {
    const bool looks_like_ptx =
        std::strstr(reinterpret_cast<const char*>(bytes), ".version") != nullptr;
    return looks_like_ptx ? CUDA_ERROR_INVALID_PTX : CUDA_ERROR_INVALID_IMAGE;
  }
  out = std::make_shared<const ModuleText>(std::move(*parsed));
  return CUDA_SUCCESS;
}

}  // namespace vgpu::sim
