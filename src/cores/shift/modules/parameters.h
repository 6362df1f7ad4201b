// A site's parameters as tensors, and the position features as one.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "rwkvx/config/model_config.h"
#include "rwkvx/modules/shift.h"

namespace rwkvx {

// `of` gives the parameter of a row's name.
ShiftParameters shift_parameters(const ModelConfig& config, const std::string& site,
                                 const std::function<at::Tensor(const std::string&)>& of);

// The features of positions t (B) .. t + T - 1, int64: (B, T, F) float64. Rows that would all be
// equal are given once, as (1, T, F).
at::Tensor position_features(Position position, const at::Tensor& t, std::int64_t T);

}  // namespace rwkvx
