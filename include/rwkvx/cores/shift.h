// The gated positional shift, as far as the rest of the program sees it: a short causal convolution
// in front of a mixer whose taps know the position, and a gate that decides per token how much of
// it is added. Inspired by arXiv 2502.15485; docs/model.md has the equations.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

struct GateForm;

// What one site has learned; undefined tensors are parts that its switches leave out.
struct ShiftParameters {
  at::Tensor conv;                 // (K, C), row j = lag j; undefined: s_t = a_{t-1}
  at::Tensor pos_u;                // (K, F)
  const GateForm* form = nullptr;  // null: no shift at all
  std::vector<at::Tensor> gate;    // in the order of the form's rows
};

// Which part of a shift a parameter of that name is: "convolution", "position" or "gate".
std::string_view shift_part(std::string_view parameter);

// The features of positions t (B) int64 .. t + T - 1 for all sites of a model, (B or 1, T, F) in
// the given type; undefined where the model's shift has none. Rows that would all be equal are
// given once.
at::Tensor shift_positions(const ModelConfig& config, const at::Tensor& t, int64_t T,
                           const at::TensorOptions& options);

// Appends those of positions t .. t + tokens - 1 of one sequence, (tokens, F).
void append_positions(const ModelConfig& config, std::int64_t t, std::int64_t tokens,
                      std::vector<double>& to);

// The root mean square over the channels of m_j(t) conv[j] for each lag j, at each position; empty
// without taps.
std::vector<std::vector<double>> taps_by_position(const ModelConfig& config,
                                                  const ShiftParameters& site,
                                                  const std::vector<std::int64_t>& positions);

}  // namespace rwkvx
