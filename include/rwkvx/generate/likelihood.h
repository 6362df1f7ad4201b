// How likely a model finds texts that may follow a prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

// Which tokens a text after a prompt has. joint: those of prompt and text together that come after
// as many as the prompt alone has, as in lm-evaluation-harness. apart: those of the text alone, as
// Session::feed() takes them.
enum class ContinuationTokens { kJoint, kApart };
constexpr std::string_view enum_names(ContinuationTokens) { return "joint|apart"; }

struct LikelihoodRequest {
  std::string prompt;  // empty: the continuations begin a document
  std::vector<std::string> continuations;
};

struct Likelihood {
  double logprob = 0;       // natural log of the continuation's probability after the prompt
  std::int64_t tokens = 0;  // 0 where joint tokens leave the continuation none of its own
  bool greedy = true;       // each token is the most likely one, of equal ones the lowest id
  // Joint tokens: those of the prompt alone do not stand at the beginning of those of both, so
  // tokens and text are cut at different places.
  bool merged = false;
};

// Scores the continuations of each prompt, up to `slots` of them, also of different prompts, at a
// time. The state after a prompt is computed once for all its continuations, and that after a
// beginning that prompts share, such as examples, once for those that follow each other: a whole
// number of Engine::kChunk tokens. done() gets the results in the order of next(), which returns
// nothing at the end. They do not depend on `slots`, on threads or on what runs beside. Throws
// Interrupted where a signal came (of an InterruptGuard).
void continuation_likelihoods(
    Generator& generator, ContinuationTokens tokens, std::int64_t slots,
    const std::function<std::optional<LikelihoodRequest>()>& next,
    const std::function<void(std::int64_t request, const std::vector<Likelihood>&)>& done);

// Natural-log losses of all tokens but the first, each given those before it; the first begins an
// empty state, with nothing before it. Throws Interrupted as above.
std::vector<double> token_losses(Generator& generator, std::span<const TokenId> tokens);

}  // namespace rwkvx
