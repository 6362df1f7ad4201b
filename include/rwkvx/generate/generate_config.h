// How a continuation is drawn from a model; the flags of `generate` and of `eval --prompts`.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "rwkvx/base/field.h"
#include "rwkvx/generate/samplers.h"

namespace rwkvx {

struct GenerateConfig : AllSamplers {
  std::int64_t max_new_tokens = 256;
  std::string samplers = std::string(kDefaultChain);
  std::int64_t seed = 0;
  std::vector<std::string> stop;
  std::vector<std::string> ban_text;
  std::string prefix;

  static constexpr auto fields() {
    using C = GenerateConfig;
    using I = Field<C, std::int64_t>;
    using Texts = Field<C, std::vector<std::string>>;
    return std::tuple_cat(
        std::tuple{renamed("max_tokens", I{"max_new_tokens", &C::max_new_tokens,
                                           "number of tokens to generate at most", 0, 1e15})},
        sampler_fields<C>(),
        std::tuple{
            Field<C, std::string>{"samplers", &C::samplers,
                                  "samplers in the order in which they are applied"},
            I{"seed", &C::seed, "random seed; the same seed gives the same text", 0,
              9007199254740991.0},
            Texts{"stop", &C::stop, "stop before this text appears; may be repeated"},
            renamed("ban",
                    Texts{"ban_text", &C::ban_text,
                          "never generate a token that contains this text; may be repeated"}),
            renamed("force", Field<C, std::string>{"prefix", &C::prefix,
                                                   "text that every continuation begins with"}),
        });
  }
  // The names in `samplers`. Throws ConfigError for an unknown one.
  std::vector<std::string> sampler_chain() const;
  void check(const std::string& where) const;
};

}  // namespace rwkvx
