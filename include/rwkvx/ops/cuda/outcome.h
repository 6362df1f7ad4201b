// What CUDA said about a launch; for *.cu files.
#pragma once

#include <string>

namespace rwkvx::cuda {

// "" where nothing went wrong.
inline std::string outcome() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace rwkvx::cuda
