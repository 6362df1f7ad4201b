// How likely a model finds what is known to follow its prompts: references, or last words.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "rwkvx/eval/predictions.h"
#include "rwkvx/generate/likelihood.h"
#include "rwkvx/metrics/proportion.h"

namespace rwkvx {

// Sums over the continuations of all items.
struct ContinuationLoss {
  std::int64_t items = 0, continuations = 0, tokens = 0, bytes = 0;
  std::int64_t merged = 0;  // continuations that begin within a token of their prompt
  double nats = 0;
  std::int64_t greedy = 0;  // continuations that greedy decoding would write
  double loss() const;      // nats per token
  double bits_per_byte() const;
  double nats_per_continuation() const;
  ShareInterval greedy_share() const;
};

// The references of a file of prompts, each given its prompt; of several each counts. Writes a line
// per item to `details` unless that is empty: id, log-probabilities, tokens and bytes. Throws
// DataError naming file, line and field for a line without them, for an empty reference, and for a
// file without items; Error where a loss is not finite; Interrupted.
ContinuationLoss reference_loss(Generator& generator, const std::filesystem::path& prompts,
                                const PromptFields& fields, ContinuationTokens tokens,
                                const std::filesystem::path& details, bool quiet);

// The last word of each text of a file of JSON lines, given the text before it: what follows the
// last blank, with that blank. As lm-evaluation-harness' lambada_openai does; D. Paperno et al.,
// "The LAMBADA dataset", ACL 2016. Throws as above.
ContinuationLoss last_word_loss(Generator& generator, const std::filesystem::path& texts,
                                const std::string& field, ContinuationTokens tokens,
                                const std::filesystem::path& details, bool quiet);

}  // namespace rwkvx
