// What a metric is, and the table of all metrics. Everything that the program knows of a metric
// (names, settings, flags, signature, JSON, tables, tests) is derived from its row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace rwkvx {

struct FieldInfo;

// One of a metric's names in the results.
struct MetricColumn {
  std::string name;     // "rougeL"
  double percent = 1;   // times a score, on a scale of 0 to 100
  bool of_set = false;  // a set's score is computed from its counts and is not the mean of samples
};

// The score of a sample or a set under one name.
struct MetricScore {
  using Part = std::pair<std::string, std::variant<double, std::uint64_t, std::vector<double>>>;
  double value = 0;         // what systems are compared by
  std::vector<Part> parts;  // what the JSON says, in order; the value is among them
  const double* part(std::string_view name) const;  // null where there is no such number
};

// Counts pairs one by one. Keeps its memory from pair to pair. Not thread-safe: one for each
// thread.
class PairCounter {
 public:
  virtual ~PairCounter() = default;
  // Writes the statistics of a pair. Any bytes will do as text. `references` must not be empty.
  virtual void count(std::string_view prediction, std::span<const std::string_view> references,
                     std::span<double> statistics) = 0;
  // Of the pair counted last: texts that score 0 because they have no tokens.
  virtual std::uint64_t texts_without_tokens() const { return 0; }
};

// A metric with its settings, under the names that were asked for. A pair is counted into
// statistics; those of a set are the sums of its samples'; scores are computed from either.
class Metric {
 public:
  virtual ~Metric() = default;
  const std::vector<MetricColumn>& columns() const { return columns_; }
  // All settings that the scores depend on: "bleu:tok:13a,case:mixed,…".
  const std::string& signature() const { return signature_; }
  std::size_t statistics() const { return statistics_; }  // numbers per pair
  virtual std::unique_ptr<PairCounter> counter() const = 0;
  // A score for each column.
  virtual std::vector<MetricScore> set_scores(std::span<const double> sums,
                                              std::uint64_t samples) const = 0;
  virtual std::vector<MetricScore> sample_scores(std::span<const double> statistics) const {
    return set_scores(statistics, 1);
  }
  // What to do about texts without tokens, for a warning; may be empty.
  virtual std::string advice() const { return {}; }

 protected:
  Metric(std::vector<MetricColumn> columns, std::string signature, std::size_t statistics)
      : columns_(std::move(columns)), signature_(std::move(signature)), statistics_(statistics) {}

 private:
  std::vector<MetricColumn> columns_;
  std::string signature_;
  std::size_t statistics_;
};

struct MetricRow {
  std::string_view title;  // what its settings belong to, in messages: "ROUGE"
  std::string_view names;  // for help and messages: "rouge1, rouge2, …, rougeL"
  // `settings` as its settings struct reads them from JSON; throws ConfigError naming a setting.
  std::unique_ptr<const Metric> (*make)(const std::vector<std::string>& names,
                                        const nlohmann::json& settings);
  // The settings, each of which is a flag of `eval`; null: none.
  std::vector<FieldInfo> (*settings)() = nullptr;
  // A name as the results spell it, "" for a name of another metric; null: `names` is the only one.
  std::string (*known)(std::string_view name) = nullptr;
  // Names that a mistyped one may have meant; null: `names`.
  std::vector<std::string> (*likely)() = nullptr;
};

// In the order in which results are printed.
std::span<const MetricRow* const> metric_table();

// The row that knows a name, or null.
const MetricRow* metric_row(std::string_view name);

// What to compute: metrics in the order of the table, each with its names.
using MetricSet = std::vector<std::shared_ptr<const Metric>>;

std::vector<MetricColumn> metric_columns(const MetricSet& metrics);
std::size_t metric_statistics(const MetricSet& metrics);
// A score for each column, from the metrics' statistics one after the other.
std::vector<MetricScore> sample_scores(const MetricSet& metrics,
                                       std::span<const double> statistics);
std::vector<MetricScore> set_scores(const MetricSet& metrics, std::span<const double> sums,
                                    std::uint64_t samples);

// "rouge1, rouge2, …, bleu, chrf": what parse_metrics() takes; `last` stands before the last name.
std::string metric_names_text(std::string_view last);

// Reads "rouge1,rougeL,bleu,chrf,chrf++": names in any order, each counted once. `settings` has an
// object of settings for each metric's title, absent ones are at their defaults. Throws ConfigError
// naming `where` and the nearest valid name for one that is not known, or a setting.
MetricSet parse_metrics(std::string_view names, const nlohmann::json& settings,
                        const std::string& where);

}  // namespace rwkvx
