// Scores of many predictions against their references, on all cores and in constant memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "rwkvx/eval/score_sums.h"
#include "rwkvx/metrics/rouge_tokens.h"

namespace rwkvx {

struct ScoringOptions {
  std::filesystem::path per_sample;  // file for one JSON object a sample; empty: none
  bool skip_bad = false;             // count lines that cannot be read and go on
  std::int64_t threads = 0;          // 0: automatic
  bool quiet = true;                 // no progress bar
  // Gets every sample's scores in order, on the calling thread.
  std::function<void(const SampleScores&)> each{};
};

// Scores all pairs of a source. Throws DataError, naming file and line, for the first line that
// cannot be read (unless they are skipped) and where no pair is left; FileError where the
// per-sample file cannot be written. That file is whole or not there.
ScoreSummary score_pairs(PairSource& source, const MetricSet& metrics,
                         const ScoringOptions& options = {});

// How much the predictions repeat themselves, in ROUGE's tokens; reads the whole source on one
// thread. Throws as score_pairs() does.
Diversity prediction_diversity(PairSource& source, const RougeTokens& tokens, bool skip_bad);

}  // namespace rwkvx
