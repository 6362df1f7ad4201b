// The longest piece of a sequence that goes through a model at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

inline std::int64_t segment_of(const TrainingConfig& config) {
  return config.segment_tokens > 0 ? std::min(config.segment_tokens, config.ctx_len)
                                   : config.ctx_len;
}

}  // namespace rwkvx
