// AdamW over flat tensors with LibTorch's operators, for parameters on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace rwkvx {

// The step of kernels/adamw.h over whole buffers. Each group is a range of them that shares a
// learning rate and a decay; numbers outside of all groups are padding.
struct AdamwGroup {
  int64_t offset, count;
  double rate, decay;
};
struct AdamwTensors {
  at::Tensor x, grad, m, v;  // (N) each; grad is zeros afterwards
  std::vector<AdamwGroup> groups;
  double grad_scale, beta1, beta2, epsilon, m_scale, v_scale;
};
void adamw_step(const AdamwTensors& step);

}  // namespace rwkvx
