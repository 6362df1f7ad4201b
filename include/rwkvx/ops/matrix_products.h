// How LibTorch's float32 matrix products are made on a CPU with AVX-512.
#pragma once

namespace rwkvx {

// Whether MKL, which makes LibTorch's products, uses AVX-512, and in a way in which no sum depends
// on the number of threads. Left alone, it takes AVX2 on CPUs that are not Intel's, at less than
// half the speed, and on Intel's sums that depend on the threads. False on CPUs without AVX-512,
// and where RWKVX_SIMD, when the program is loaded, names a lesser set: MKL is then left alone.
bool mkl_takes_avx512();

}  // namespace rwkvx
