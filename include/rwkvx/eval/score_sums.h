// Scores of one pair of texts, and their sums over a set.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/base/statistics.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/metrics/diversity.h"
#include "rwkvx/metrics/metric.h"

namespace rwkvx {

// The statistics of one pair, and what is worth a warning.
struct SampleScores {
  std::vector<double> statistics;  // of all metrics, one after the other
  std::uint64_t texts = 0, empty = 0, without_tokens = 0, invalid_utf8 = 0, with_nul = 0;
  std::uint64_t references = 0;
  // Only where samples are listened to.
  std::uint64_t line = 0, reference_words = 0, prompt_words = 0, references_hash = 0;
  std::string id;  // as JSON, empty where none was given
};

// Scores pairs one by one. Not thread-safe: one for each thread.
class PairScorer {
 public:
  explicit PairScorer(const MetricSet& metrics);
  void score(const TextPair& pair, SampleScores& scores);

 private:
  struct Counter {
    std::unique_ptr<PairCounter> counter;
    std::size_t statistics;
  };
  std::vector<Counter> counters_;
  std::size_t statistics_;
};

// {"line": 1, "id": "a", "scores": {"rougeL": {"precision": 0.5, …}, "chrf": {"score": 50.0}}} and
// a line end.
void append_sample_json(const MetricSet& metrics, const TextPair& pair, const SampleScores& scores,
                        std::string& out);

// The scores of a whole set.
struct ScoreSummary {
  std::string signature;  // all that the scores depend on
  std::uint64_t n = 0;
  std::uint64_t skipped = 0;           // lines that could not be read
  std::vector<MetricScore> scores;     // one for each of metric_columns()
  std::optional<Diversity> diversity;  // of the predictions, where it was asked for
};

// Adds up samples. The result depends on their order in the last bits only, and not on threads.
class ScoreSums {
 public:
  explicit ScoreSums(const MetricSet& metrics)
      : metrics_(metrics), sums_(metric_statistics(metrics)) {}
  void add(const SampleScores& sample);
  ScoreSummary summary() const;
  // Logs a warning for each kind of oddity that was met, with counts.
  void warn() const;

 private:
  std::string signature() const;
  MetricSet metrics_;
  std::vector<CompensatedSum> sums_;
  std::uint64_t n_ = 0, texts_ = 0, empty_ = 0, without_tokens_ = 0;
  std::uint64_t invalid_utf8_ = 0, samples_invalid_ = 0, texts_nul_ = 0;
  std::uint64_t fewest_references_ = 0, most_references_ = 0;
};

}  // namespace rwkvx
