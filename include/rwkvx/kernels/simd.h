// Which of the CPU's instruction sets the kernels use.
#pragma once

#include <string_view>

namespace rwkvx {

// The environment variable RWKVX_SIMD names an instruction set: the kernels use none that is
// better, nor one that the CPU does not have. To call before the first kernel runs; without the
// variable the best one is used. Throws ConfigError for a name that does not exist.
void choose_simd();

// The set in use, of avx512_vnni, avx512, avx2_vnni, avx2 and scalar; Highway's names on other CPUs
// than x86.
std::string_view simd_name();

// Whether integers are multiplied with dot-product instructions of 512 (`wide`) or 256 bits, which
// give the same numbers.
bool uses_dot_instructions(bool wide);
// For tests: false leaves them out even where the CPU has them.
void allow_dot_instructions(bool allowed);

}  // namespace rwkvx
