// SplitMix64 (Steele et al. 2014): random numbers as a function of a key and a counter, the same on
// every machine.
#pragma once

#include <cstdint>

namespace rwkvx {

inline constexpr std::uint64_t kSplitMix64Step = 0x9E3779B97F4A7C15;

// A bijection of 64 bits whose every output bit depends on every input bit.
constexpr std::uint64_t splitmix64_finalize(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// The generator's next output from state `x`.
constexpr std::uint64_t splitmix64(std::uint64_t x) {
  return splitmix64_finalize(x + kSplitMix64Step);
}

// Draw number `counter` of the stream that `key` names.
constexpr std::uint64_t splitmix64(std::uint64_t key, std::uint64_t counter) {
  return splitmix64(splitmix64(key) ^ counter);
}

}  // namespace rwkvx
