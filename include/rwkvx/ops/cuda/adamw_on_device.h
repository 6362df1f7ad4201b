// AdamW over flat tensors of a device.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "rwkvx/ops/cuda/adamw.h"

namespace rwkvx::cuda {

// Cuts a parameter's numbers into pieces for blocks of threads.
void add_pieces(std::vector<AdamwPiece>& pieces, const AdamwPiece& parameter);
// The table of a call, where `like` lies.
at::Tensor piece_table(const std::vector<AdamwPiece>& pieces, const at::Tensor& like);

// Runs a call, whose table and buffers are given as tensors: `table` from piece_table(), x and grad
// (N), m and v (N) or, from state_begin on, what the pieces need.
void adamw_step(AdamwCall call, const at::Tensor& table, const at::Tensor& x,
                const at::Tensor& grad, const at::Tensor& m, const at::Tensor& v);

}  // namespace rwkvx::cuda
