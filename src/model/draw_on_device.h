// Tokens drawn where the logits lie.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "rwkvx/generate/sampler.h"

namespace rwkvx {

// From each row of logits (R, V), float32 and contiguous, a token below `usable` for its request;
// see LanguageModel::step_and_draw().
void draw_on_device(const at::Tensor& logits, std::span<const DrawRequest> requests,
                    std::int64_t usable, std::span<TokenLogprob> drawn);

}  // namespace rwkvx
