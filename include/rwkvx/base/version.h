#pragma once

#include <string>

namespace rwkvx {

std::string version();   // "0.1.0"
std::string build_id();  // the commit and compiler this binary was made from
// "LibTorch 2.13.0, without CUDA", or the CUDA version and the GPU architectures with kernels.
std::string build_libraries();

}  // namespace rwkvx
