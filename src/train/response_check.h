// How good the responses to some validation prompts are.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/data/supervised.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/text/tokenizer.h"
#include "train/computation.h"

namespace rwkvx {

struct ResponseScore {
  double rouge_l = 0;                  // mean F of all prompts, the best reference of each
  std::vector<std::string> responses;  // in the order of the prompts
};

// Answers each prompt greedily, with at most `longest` tokens, in the engine; nothing where `stop`
// says so. `state`: what sequences start from, where it is learned.
std::optional<ResponseScore> score_responses(const Rwkv& model, const LearnedState* state,
                                             const Tokenizer& tokenizer,
                                             const std::vector<SupervisedPrompt>& prompts,
                                             std::int64_t longest,
                                             const std::function<bool()>& stop);

}  // namespace rwkvx
