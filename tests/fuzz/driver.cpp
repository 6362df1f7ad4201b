// Runs a fuzz target without a fuzzer: its seeds, then random mutations of them for a fixed number
// of rounds. `DRIVER [ROUNDS [SEED]]`; the same numbers give the same inputs. `DRIVER --seeds DIR`
// writes the seeds as files for another fuzzer to start from.
#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
// What a target starts from.
std::vector<std::string> fuzz_seeds();

namespace {

std::string mutated(std::string text, const std::vector<std::string>& seeds,
                    std::mt19937_64& random) {
  static const std::vector<std::string> pieces = {"\"",
                                                  "\\",
                                                  "\\u",
                                                  "\\ud800",
                                                  "{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  ":",
                                                  ",",
                                                  "\n",
                                                  "\r\n",
                                                  std::string(1, '\0'),
                                                  "\xff",
                                                  "\xef\xbb\xbf",
                                                  "\xe2\x84",
                                                  "1e999",
                                                  "-",
                                                  "null",
                                                  "\xf0\x9f\x98\x80",
                                                  "999999999999"};
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (auto changes = 1 + below(8); changes > 0; --changes) {
    const auto at = below(text.size() + 1);
    switch (below(6)) {
      case 0:
        text.insert(at, pieces[below(pieces.size())]);
        break;
      case 1:
        text.erase(at, below(9));
        break;
      case 2:
        if (!text.empty()) text[below(text.size())] = static_cast<char>(random());
        break;
      case 3:
        text.resize(at);
        break;
      case 4:
        text.insert(at, text.substr(below(text.size() + 1), below(64)));
        break;
      default: {
        const auto& other = seeds[below(seeds.size())];
        text = text.substr(0, at) + other.substr(below(other.size() + 1));
      }
    }
    if (text.size() > 1 << 16) text.resize(1 << 16);
  }
  return text;
}

// No input may make a target ask for much memory. Sanitizers reserve more than any limit.
void bound_memory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const rlimit limit{std::uint64_t{1} << 30, std::uint64_t{1} << 30};
  setrlimit(RLIMIT_DATA, &limit);
#endif
}

void run(const std::string& text) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
}

}  // namespace

int main(int argc, char** argv) {
  const auto seeds = fuzz_seeds();
  if (argc > 2 && std::strcmp(argv[1], "--seeds") == 0) {
    for (std::size_t i = 0; i < seeds.size(); ++i)
      std::ofstream(argv[2] + ("/seed-" + std::to_string(i)), std::ios::binary) << seeds[i];
    return 0;
  }
  bound_memory();
  const long rounds = argc > 1 ? std::atol(argv[1]) : 20000;
  std::mt19937_64 random(argc > 2 ? static_cast<std::uint64_t>(std::atoll(argv[2])) : 1);
  for (const auto& seed : seeds) run(seed);
  for (long i = 0; i < rounds; ++i) run(mutated(seeds[random() % seeds.size()], seeds, random));
  std::cout << rounds << " inputs\n";
}
