// SPDX-License-Identifier: Apache-2.0
// Stands in for libFuzzer where the compiler has none: runs every seed, then mutations of seeds,
// each made from one number. A failure prints how to run that one input again.
//   TARGET_fuzz [-runs=N] [-seed=S] [-only=I] [FILE or DIRECTORY]...
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kMaxSize = 1 << 16;

char replay[256];  // complete before each run, so that a signal handler has nothing to compose

void say_replay() { static_cast<void>(!write(STDERR_FILENO, replay, std::strlen(replay))); }

void on_signal(int number) {
  say_replay();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void run(const Bytes& input, const std::string& how) {
  const std::string line = "fuzz: to run this input again: " + how + "\n";
  std::strncpy(replay, line.c_str(), sizeof replay - 1);
  // An allocation of exactly the input's size, so that a sanitizer sees a read past its end.
  const Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

class Mutator {
 public:
  Mutator(const std::vector<Bytes>& seeds, std::uint64_t number) : seeds_(seeds), random_(number) {}

  Bytes make() {
    Bytes input = any_seed();
    for (std::size_t steps = 1 + below(6); steps > 0; --steps) step(input);
    if (input.size() > kMaxSize) input.resize(kMaxSize);
    return input;
  }

 private:
  std::size_t below(std::size_t bound) {
    return bound == 0 ? 0 : static_cast<std::size_t>(random_() % bound);
  }
  const Bytes& any_seed() { return seeds_[below(seeds_.size())]; }

  void step(Bytes& input) {
    const std::size_t at = below(input.size() + 1);
    const std::size_t length = below(std::min<std::size_t>(input.size() - at, 64) + 1);
    const auto begin = input.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = begin + static_cast<std::ptrdiff_t>(length);
    switch (below(8)) {
      case 0:
        if (at < input.size()) *begin = static_cast<std::uint8_t>(*begin ^ (1u << below(8)));
        break;
      case 1:
        if (at < input.size()) *begin = static_cast<std::uint8_t>(below(256));
        break;
      case 2:
        input.insert(begin, static_cast<std::uint8_t>(below(256)));
        break;
      case 3:
        input.erase(begin, end);
        break;
      case 4: {  // repeat a piece
        const Bytes piece(begin, end);
        for (std::size_t times = 1 + below(4); times > 0; --times) {
          input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
        }
        break;
      }
      case 5: {  // a piece of another seed
        const Bytes& other = any_seed();
        const std::size_t from = below(other.size() + 1);
        const std::size_t count = below(other.size() - from + 1);
        const auto first = other.begin() + static_cast<std::ptrdiff_t>(from);
        input.insert(begin, first, first + static_cast<std::ptrdiff_t>(count));
        break;
      }
      case 6: {  // a number at an edge, little-endian
        constexpr std::uint64_t kEdges[] = {
            0, 1, 31, 32, 33, 1023, 1024, 1025, 1u << 31, UINT32_MAX, 1ull << 63, UINT64_MAX};
        const std::uint64_t edge = kEdges[below(std::size(kEdges))];
        const std::size_t width =
            std::min<std::size_t>(std::size_t{1} << below(4), input.size() - at);
        std::memcpy(input.data() + at, &edge, width);
        break;
      }
      default:  // a digit or a mark that grammars turn on
        if (at < input.size()) {
          constexpr char kMarks[] = "0123456789=,:\"{}[]-+. \n_GMKTiBnone";
          *begin = static_cast<std::uint8_t>(kMarks[below(sizeof kMarks - 1)]);
        }
        break;
    }
  }

  const std::vector<Bytes>& seeds_;
  std::mt19937_64 random_;
};

bool option(std::string_view argument, std::string_view name, std::uint64_t& value) {
  if (argument.substr(0, name.size()) != name) return false;
  const std::string_view text = argument.substr(name.size());
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
}

Bytes read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t runs = 0;
  std::uint64_t seed = 1;
  std::uint64_t only = UINT64_MAX;
  std::vector<std::filesystem::path> paths;
  std::string corpus;
  for (int i = 1; i < argc; ++i) {
    if (option(argv[i], "-runs=", runs) || option(argv[i], "-seed=", seed) ||
        option(argv[i], "-only=", only))
      continue;
    corpus += std::string(" ") + argv[i];
    if (!std::filesystem::is_directory(argv[i])) {
      paths.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i]))
      paths.push_back(entry.path());
  }
  std::sort(paths.begin(),
            paths.end());  // the order of a directory would change what a number means

  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(say_replay);
  for (const int number : {SIGABRT, SIGTRAP, SIGILL}) std::signal(number, on_signal);

  std::vector<Bytes> seeds;
  for (const auto& path : paths) {
    seeds.push_back(read(path));
    if (only == UINT64_MAX) run(seeds.back(), std::string(argv[0]) + " " + path.string());
  }
  if (seeds.empty()) seeds.emplace_back();
  for (std::uint64_t i = 0; i < runs || only != UINT64_MAX; ++i) {
    if (only != UINT64_MAX) i = only;
    run(Mutator(seeds, seed * 0x9E3779B97F4A7C15u + i).make(),
        std::string(argv[0]) + " -seed=" + std::to_string(seed) + " -only=" + std::to_string(i) +
            corpus);
    if (only != UINT64_MAX) break;
  }
  std::cout << seeds.size() << " seeds and " << runs << " mutations of them, seed " << seed << "\n";
  return 0;
}
