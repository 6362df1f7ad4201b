// The gated positional shift, as far as the rest of the program sees it without LibTorch: a short
// causal convolution in front of a mixer whose taps know the position, and a gate that decides per
// token how much of it is added. Inspired by arXiv 2502.15485; docs/model.md has the equations.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

// Which part of a shift a parameter of that name is: "convolution", "position" or "gate".
std::string_view shift_part(std::string_view parameter);

// Appends the features of positions t .. t + tokens - 1 for all sites of a model, (tokens, F);
// nothing where the model's shift has none.
void append_positions(const ModelConfig& config, std::int64_t t, std::int64_t tokens,
                      std::vector<double>& to);

}  // namespace rwkvx
