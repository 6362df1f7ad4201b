#pragma once

#include <cstdlib>

namespace rwkvx {

// Trains with the bodies of a device's kernels; see docs/gpu.md.
struct KernelBodies {
  explicit KernelBodies(const char* type) { ::setenv("RWKVX_KERNEL_BODIES", type, 1); }
  ~KernelBodies() { ::unsetenv("RWKVX_KERNEL_BODIES"); }
  KernelBodies(const KernelBodies&) = delete;
  KernelBodies& operator=(const KernelBodies&) = delete;
};

}  // namespace rwkvx
