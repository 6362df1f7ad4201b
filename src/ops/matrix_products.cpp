#include "rwkvx/ops/matrix_products.h"

#include <cstdlib>
#include <string_view>

namespace rwkvx {

bool mkl_takes_avx512() {
#if defined(__x86_64__)
  static const bool takes = [] {
    const char* given = std::getenv("RWKVX_SIMD");
    const std::string_view set = given == nullptr ? "" : given;
    return __builtin_cpu_supports("avx512f") && (set.empty() || set.starts_with("avx512"));
  }();
  return takes;
#else
  return false;
#endif
}

namespace {

// When the program is loaded: MKL reads the variable at its first product.
[[gnu::constructor]] void settle_sums() {
  if (mkl_takes_avx512()) ::setenv("MKL_CBWR", "AVX512,STRICT", /*overwrite=*/0);
}

}  // namespace
}  // namespace rwkvx

// MKL asks itself this before its first product. The answer given here is found before its own, as
// LibTorch is loaded by what this is linked into; where a LibTorch has no MKL, nobody asks.
extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") || rwkvx::mkl_takes_avx512() ? 1 : 0;
#else
  return 0;
#endif
}
