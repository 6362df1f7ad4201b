// The results of a study's cells by what they are of, and what the sections of the report share.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/metrics/paired_test.h"
#include "rwkvx/metrics/seed_test.h"
#include "rwkvx/report/page.h"
#include "rwkvx/study/data_sets.h"
#include "rwkvx/study/grid.h"

namespace rwkvx {

class StudyResults {
 public:
  explicit StudyResults(const std::filesystem::path& folder);
  const StudyFile& file() const { return file_; }
  // What a cell has found; null where it is not done.
  const nlohmann::json* training(const std::string& variant, const std::string& data,
                                 std::int64_t seed, std::int64_t repetition = 0) const;
  const nlohmann::json* measured(std::string_view study, const std::string& data,
                                 std::int64_t seed) const;
  // Whether any cell of that study is done.
  bool any_measured(std::string_view study) const;
  // What a data set's about.json says; nothing where it was not made.
  std::optional<DataSet> about(const std::string& data) const;
  // Of the seeds for which all of these variants are trained.
  std::vector<std::int64_t> seeds(const std::string& data,
                                  const std::vector<std::string>& variants) const;
  std::int64_t resamples() const { return file_.measure.resamples; }

  std::size_t cells = 0, done = 0;
  double seconds = 0;  // of all cells that are done
  std::vector<std::string> builds;
  std::vector<std::int64_t> threads;

 private:
  const nlohmann::json* result(const Cell* cell) const;
  std::filesystem::path folder_;
  StudyFile file_;
  std::vector<Cell> grid_;
  std::map<std::string, nlohmann::json> results_;
};

// A claim of the paper, or a part of one, and its answer here; `numbers` for results.json.
struct Claim {
  std::string claim, found, answer;
  nlohmann::ordered_json numbers = {};
};

// What two variants differ in on one data set: interval and p are over the seeds, which are paired,
// and over the windows of the test text or the prompts; of one seed alone over the latter.
struct Difference {
  double mean_a = 0, mean_b = 0, difference = 0, low = 0, high = 0, p = 1;
  double effect_size = 0;       // Cohen's d of windows or prompts, each the mean over the seeds
  std::vector<double> by_seed;  // the differences of the means
  std::optional<std::int64_t> seeds_needed;  // to find this difference with a chance of 80 %
  std::optional<SeedComparison> over_seeds;  // where there are two or more
  bool same_sign() const;
};
// Values by seed, then by window or prompt. Wants a seed.
Difference compare_over_seeds(const SeedScores& a, const SeedScores& b, std::int64_t resamples);
// path: {"window_losses"} or {"scores", "rougeL"}. Wants a seed for which both are there.
Difference compare_variants(const StudyResults& results, const std::string& data,
                            const std::string& a, const std::string& b,
                            const std::vector<std::string>& path);
// Its numbers by name.
nlohmann::ordered_json difference_numbers(const Difference& difference);
std::vector<double> values_at(const nlohmann::json& result, const std::vector<std::string>& path);

// "1.8234 ± 0.0041": mean and standard deviation, of one value itself; `digits` after the decimal
// point.
std::string spread_text(const std::vector<double>& values, int digits);
// "-0.0123 to -0.0071"; one number where both read alike.
std::string range_text(const std::vector<double>& values, int digits);
std::string interval_text(double low, double high, int digits);
// "lower", "higher" or "no difference found": where p is below 0.05 and all seeds agree.
std::string verdict(const Difference& difference, double p);

}  // namespace rwkvx
