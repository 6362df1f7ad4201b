// Random numbers as a function of a key and a counter, the same on every machine.
#pragma once

#include <cstdint>

namespace rwkvx {

// A bijection of 64 bits whose every output bit depends on every input bit: xor-shifts and
// multiplications by odd constants, as in the output step of counter-based generators (the
// constants are those of SplitMix64, Steele et al. 2014).
constexpr std::uint64_t scramble(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

constexpr std::uint64_t mix(std::uint64_t key, std::uint64_t counter) {
  return scramble(scramble(key) ^ counter);
}

}  // namespace rwkvx
