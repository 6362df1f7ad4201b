// What a model carries from one call to the next.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace rwkvx {

struct LayerState {
  at::Tensor att_x;     // (B, C), last (shifted) input of the time mix
  at::Tensor att_ring;  // (B, H, C), last raw inputs of its shift, oldest first; undefined without
  at::Tensor wkv;       // (B, 3, A), rows p, q, o: see ops/wkv.h
  at::Tensor ffn_x;     // (B, C), last (shifted) input of the channel mix
  at::Tensor ffn_ring;  // (B, H, C), last raw inputs of its shift; undefined without
};

// Constant size, whatever the number of tokens behind it.
struct ModelState {
  std::vector<LayerState> layers;
  at::Tensor t;  // (B) int64 on the CPU: tokens seen since the start
};

}  // namespace rwkvx
