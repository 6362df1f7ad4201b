// How a continuation is drawn from a model; the flags of `generate` and of `eval --prompts`.
#pragma once

#include <cstdint>
#include <map>
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
  bool ignore_end = false;
  std::vector<std::string> ban_id;  // "5"
  std::vector<std::string> bias;    // "5=-1.5"

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
            added(Field<C, bool>{"ignore_end", &C::ignore_end,
                                 "never draw the end of the document: write on to "
                                 "max_new_tokens"}),
            added(Texts{"ban_id", &C::ban_id, "never draw the token of this id; may be repeated"}),
            added(Texts{"bias", &C::bias,
                        "ID=X: add X to the logit of a token before the samplers; -inf bans it; "
                        "may be repeated"}),
        });
  }
  // The ids in `ban_id`, and in `bias` with what is added, by id; of one given twice the last
  // counts, and -infinity bans it. Throws ConfigError for what is no id or no number.
  std::vector<std::int64_t> banned_ids() const;
  std::map<std::int64_t, double> biases() const;
  // The names in `samplers`. Throws ConfigError for an unknown one.
  std::vector<std::string> sampler_chain() const;
  void check(const std::string& where) const;
};

}  // namespace rwkvx
