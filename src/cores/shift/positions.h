// The position features that modulate the shift's taps, one row for each form.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

struct PositionForm {
  Position position;
  std::int64_t features;
  // Appends those of position t.
  void (*append)(double t, std::vector<double>& to);
  // The same of positions (B, T, 1) float64: (B, T, F).
  at::Tensor (*rows)(const at::Tensor& positions);
};
const PositionForm& position_form(Position position);
// The first form of that many features.
Position position_of(std::int64_t features);

// phi_f(t) of positions t (B) .. t + T - 1, int64: (B, T, F) float64. "exp": exp(-t / tau) for tau
// = 2, 8, 32, 128; "sin": sin and cos of 2 pi t / P for P = 8, 32, 128, 512. Rows that would all be
// equal are given once, as (1, T, F).
at::Tensor position_features(Position position, const at::Tensor& t, std::int64_t T);

}  // namespace rwkvx
