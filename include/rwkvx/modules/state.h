// The state of cores/state.h as tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace rwkvx {

// A block's state of B sequences: tensors (B, shape) in the order of its rows.
using LayerState = std::vector<at::Tensor>;

// Constant size, whatever the number of tokens behind it.
struct ModelState {
  std::vector<LayerState> layers;
  at::Tensor t;  // (B) int64 on the CPU: tokens seen since the start
  // Whether gradients reach through the state into the past; on the CPU alone.
  bool differentiable = false;
};

// Zeros where `state` has its numbers.
ModelState zeros_like(const ModelState& state);

}  // namespace rwkvx
