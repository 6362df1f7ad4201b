// Scores of many predictions against their references, on all cores and in constant memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/base/statistics.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/metrics/bleu.h"
#include "rwkvx/metrics/chrf.h"
#include "rwkvx/metrics/diversity.h"
#include "rwkvx/metrics/rouge.h"

namespace rwkvx {

// What to compute and how. ROUGE is the mean over samples; BLEU and chrF are of the whole set.
struct MetricSet {
  std::vector<RougeType> rouge;
  bool stemmer = false;                                 // of ROUGE
  bool bleu = false, chrf = false, chrf_words = false;  // the last is chrF++
  BleuTokenizer bleu_tokenizer = BleuTokenizer::k13a;
  RougeTokens tokens{};      // its stemmer switch is the one above
  std::string given_name{};  // with tokens.given: what the signature calls it
  RougeReferences several = RougeReferences::kBest;
  std::size_t size() const { return rouge.size() + bleu + chrf + chrf_words; }
};

// The metrics' names in the order in which they are printed, and one sample's score of each: F of
// ROUGE from 0 to 1, the others from 0 to 100 (BLEU over the orders that the sample has).
std::vector<std::string> metric_names(const MetricSet& metrics);

// Reads "rouge1,rougeL,bleu,chrf,chrf++": names in any order, each counted once. Throws
// ConfigError, with `where` and the nearest valid name, for one that is not known.
MetricSet parse_metrics(std::string_view names, bool stemmer, const std::string& where);

// The scores of one pair, and what is worth a warning.
struct SampleScores {
  std::vector<RougeScore> rouge;  // in the order of MetricSet::rouge
  BleuCounts bleu;
  ChrfCounts chrf, chrf_words;
  std::uint64_t texts = 0, empty = 0, without_tokens = 0, invalid_utf8 = 0, with_nul = 0;
  std::uint64_t references = 0;
  // Only where samples are listened to.
  std::uint64_t line = 0, reference_words = 0, prompt_words = 0, references_hash = 0;
  std::string id;  // as JSON, empty where none was given
};
std::vector<double> sample_values(const MetricSet& metrics, const SampleScores& scores);

// Scores pairs one by one. Not thread-safe: one for each thread.
class PairScorer {
 public:
  explicit PairScorer(const MetricSet& metrics)
      : metrics_(metrics),
        rouge_(metrics.rouge, with_stemmer(metrics), metrics.several),
        bleu_(metrics.bleu_tokenizer) {}
  void score(const TextPair& pair, SampleScores& scores);

 private:
  static RougeTokens with_stemmer(const MetricSet& metrics) {
    auto tokens = metrics.tokens;
    tokens.stemmer = metrics.stemmer;
    return tokens;
  }
  MetricSet metrics_;
  RougeScorer rouge_;
  BleuCounter bleu_;
  ChrfCounter chrf_{/*word_orders=*/0}, chrf_words_{/*word_orders=*/2};
};

// {"line": 1, "id": "a", "scores": {"rougeL": {"precision": 0.5, …}, "chrf": {"score": 50.0}}} and
// a line end. BLEU of one sample is taken over the orders that it has n-grams of.
void append_sample_json(const MetricSet& metrics, const TextPair& pair, const SampleScores& scores,
                        std::string& out);

// The scores of a whole set.
struct ScoreSummary {
  std::string signature;  // all that the scores depend on
  std::uint64_t n = 0;
  std::uint64_t skipped = 0;      // lines that could not be read
  std::vector<RougeScore> rouge;  // means, in the order of MetricSet::rouge
  // On a scale of 0 to 100, where they were asked for.
  std::optional<BleuScore> bleu;
  std::optional<double> chrf, chrf_words;
  BleuCounts bleu_counts;
  std::optional<Diversity> diversity;  // of the predictions, where it was asked for
};

// Adds up samples. The result depends on their order in the last bits only, and not on threads.
class ScoreSums {
 public:
  explicit ScoreSums(const MetricSet& metrics);
  void add(const SampleScores& sample);
  ScoreSummary summary() const;
  // Logs a warning for each kind of oddity that was met, with counts.
  void warn() const;

 private:
  std::string signature() const;
  struct Sums {
    CompensatedSum precision, recall, f1;
  };
  MetricSet metrics_;
  std::vector<Sums> rouge_;
  BleuCounts bleu_;
  ChrfCounts chrf_, chrf_words_;
  std::uint64_t n_ = 0, texts_ = 0, empty_ = 0, without_tokens_ = 0;
  std::uint64_t invalid_utf8_ = 0, samples_invalid_ = 0, texts_nul_ = 0;
  std::uint64_t fewest_references_ = 0, most_references_ = 0;
};

struct ScoringOptions {
  std::filesystem::path per_sample;  // file for one JSON object a sample; empty: none
  bool skip_bad = false;             // count lines that cannot be read and go on
  std::int64_t threads = 0;          // 0: one per core
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
Diversity prediction_diversity(PairSource& source, const MetricSet& metrics, bool skip_bad);

}  // namespace rwkvx
