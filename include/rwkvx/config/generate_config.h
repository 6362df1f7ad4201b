// How a continuation is drawn from a model; the flags of `generate` and of `eval --prompts`.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "rwkvx/base/field.h"

namespace rwkvx {

struct GenerateConfig {
  std::int64_t max_tokens = 256;
  double temperature = 1.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  std::int64_t seed = 0;
  std::vector<std::string> stop;

  static constexpr auto fields() {
    using C = GenerateConfig;
    return std::tuple{
        Field<C, std::int64_t>{"max_tokens", &C::max_tokens, "tokens to generate at most", 0, 1e15},
        Field<C, double>{"temperature", &C::temperature,
                         "divides the logits; 0: always the likeliest token", 0, 100},
        Field<C, std::int64_t>{"top_k", &C::top_k, "keep only the k likeliest tokens; 0: all", 0,
                               1 << 24},
        Field<C, double>{"top_p", &C::top_p,
                         "keep the likeliest tokens that together reach this probability", 1e-9,
                         1.0},
        Field<C, std::int64_t>{"seed", &C::seed, "same seed, same text", 0, 9007199254740991.0},
        Field<C, std::vector<std::string>>{"stop", &C::stop,
                                           "end before this text appears; may be repeated"},
    };
  }
};

}  // namespace rwkvx
