// Several systems' scores on the same samples, compared pair by pair, and by length.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/eval/scoring.h"
#include "rwkvx/metrics/paired_test.h"

namespace rwkvx {

enum class LengthOf { kReference, kPrompt };
constexpr std::string_view enum_names(LengthOf) { return "reference|prompt"; }

struct CompareOptions {
  std::int64_t resamples = 10000;
  std::uint64_t seed = 0;
  LengthOf buckets = LengthOf::kReference;
};

// One system: what it is called, the scores of its whole set, and of every sample.
struct SystemScores {
  std::string name;
  ScoreSummary summary;
  std::vector<std::vector<double>> values;  // per column, per sample
  std::vector<MeanInterval> means;          // per column
  std::vector<std::uint64_t> lines, reference_words, prompt_words, references_hash;
  std::vector<std::string> ids;  // as JSON, empty where none was given
};

// Samples that only one of two systems got right, and McNemar's exact p.
struct RightByOne {
  std::int64_t only_a = 0, only_b = 0;
  double p = 1;
};

// A system against the first one, on one metric.
struct MetricComparison {
  std::size_t column = 0, system = 1;
  PairedComparison paired;
  double p_holm = 1;  // p_randomization, adjusted for all comparisons of the result
  std::optional<RightByOne> right_by_one{};  // of choices
};

// Samples whose reference or prompt has `from` to `to` words.
struct LengthBucket {
  std::uint64_t from = 0, to = 0, samples = 0;
  std::vector<std::vector<MeanInterval>> means;  // per system, per column
};

struct Comparison {
  std::vector<MetricColumn> columns;
  CompareOptions options;
  std::string signature;
  std::vector<SystemScores> systems;
  std::vector<MetricComparison> comparisons;  // system by system, column by column
  std::vector<LengthBucket> buckets;          // 0, 1, 2 to 3, 4 to 7 … words; without empty ones
  bool of_choices = false;                    // of outcomes of eval_choices(): no texts, no buckets
};

// Scores files of pairs (see pairs_from_json), or takes those of outcomes of eval_choices(), and
// compares each with the first. Keeps a number per
// metric and sample. Samples are paired by their ids where each sample of both files has one of its
// own, whatever the order, else by place. Throws DataError where the files do not hold the same ids
// or the same references, and what score_pairs() throws. One file alone gives intervals and
// buckets.
Comparison compare_files(const std::vector<std::filesystem::path>& files, const PairFields& fields,
                         const MetricSet& metrics, const CompareOptions& options,
                         const ScoringOptions& scoring);

}  // namespace rwkvx
