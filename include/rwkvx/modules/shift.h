// The gated positional shift (cores/shift.h) of a model in LibTorch's modules.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

struct GateForm;

// What one site has learned; undefined tensors are parts that its switches leave out.
struct ShiftParameters {
  at::Tensor conv;                 // (K, C), row j = lag j dilation; undefined: s_t = a_{t-1}
  at::Tensor pos_u;                // (K, F)
  const GateForm* form = nullptr;  // null: no shift at all
  std::vector<at::Tensor> gate;    // in the order of the form's rows
  std::int64_t dilation = 1;
  bool silu = false;  // of the convolution's sum
};

// The features of positions t (B) int64 .. t + T - 1 for all sites of a model, (B or 1, T, F) in
// the given type; undefined where the model's shift has none. Rows that would all be equal are
// given once.
at::Tensor shift_positions(const ModelConfig& config, const at::Tensor& t, int64_t T,
                           const at::TensorOptions& options);

// The root mean square over the channels of m_j(t) conv[j] for each lag j, at each position; empty
// without taps.
std::vector<std::vector<double>> taps_by_position(const ModelConfig& config,
                                                  const ShiftParameters& site,
                                                  const std::vector<std::int64_t>& positions);

}  // namespace rwkvx
