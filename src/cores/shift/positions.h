// The position features that modulate the shift's taps, one row for each form.
#pragma once

#include <cstdint>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

// "exp": exp(-t / tau) for tau = 2, 8, 32, 128; "sin": sin and cos of 2 pi t / P for P = 8, 32,
// 128, 512.
struct PositionForm {
  Position position;
  std::int64_t features;
  // Appends those of position t.
  void (*append)(double t, std::vector<double>& to);
};
const PositionForm& position_form(Position position);
// The first form of that many features.
Position position_of(std::int64_t features);

}  // namespace rwkvx
