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
  double min_p = 0.0;
  double typical = 1.0;
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  double penalty_decay = 1.0;
  std::string samplers = "penalties,temperature,top_k,typical,top_p,min_p";
  std::int64_t seed = 0;
  std::vector<std::string> stop;
  std::vector<std::string> ban;
  std::string force;

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
        Field<C, double>{"min_p", &C::min_p,
                         "drop tokens less probable than this share of the likeliest", 0, 1},
        Field<C, double>{"typical", &C::typical,
                         "keep the most typical tokens that together reach this probability", 1e-9,
                         1.0},
        Field<C, double>{"repetition_penalty", &C::repetition_penalty,
                         "divides positive logits of drawn tokens, multiplies negative ones", 0.01,
                         100},
        Field<C, double>{"presence_penalty", &C::presence_penalty,
                         "taken off the logits of tokens drawn before", -100, 100},
        Field<C, double>{"frequency_penalty", &C::frequency_penalty,
                         "taken off a token's logit for every time it was drawn", -100, 100},
        Field<C, double>{"penalty_decay", &C::penalty_decay,
                         "each new token multiplies the counts of frequency_penalty by this", 0, 1},
        Field<C, std::string>{"samplers", &C::samplers, "what is applied to the logits, in order"},
        Field<C, std::int64_t>{"seed", &C::seed, "same seed, same text", 0, 9007199254740991.0},
        Field<C, std::vector<std::string>>{"stop", &C::stop,
                                           "end before this text appears; may be repeated"},
        Field<C, std::vector<std::string>>{
            "ban", &C::ban, "never draw a token that holds this text; may be repeated"},
        Field<C, std::string>{"force", &C::force, "the text that every continuation begins with"},
    };
  }
  // The names in `samplers`. Throws ConfigError for one that there is not.
  std::vector<std::string> sampler_chain() const;
  void check(const std::string& where) const;
};

}  // namespace rwkvx
