// The numbers that a parameter starts with.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "rwkvx/cores/parameters.h"

namespace rwkvx {

// As the row's Start says: of its shape, float32 or float64. `range` is that of the embedding.
at::Tensor initial_value(const ParameterRow& row, const at::Generator& generator, double range);

}  // namespace rwkvx
