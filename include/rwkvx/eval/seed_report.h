// Systems of several seeds each, a file of scores per seed, compared over seeds and samples.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/eval/comparison.h"
#include "rwkvx/metrics/seed_test.h"
#include "rwkvx/report/table.h"

namespace rwkvx {

struct SeedSystem {
  std::string name;
  std::vector<std::filesystem::path> files;  // one per seed
};

struct SeedOptions {
  bool paired = false;           // the k-th files of all systems have the same seed
  std::optional<double> detect;  // a difference, on the scale of a column's percent
  CompareOptions compare;
};

// A system against the first one, on one metric.
struct SeedDifference {
  std::size_t column = 0, system = 1;
  SeedComparison seeds;
  double p_holm = 1;  // p_bootstrap, adjusted for all comparisons of the result
  // Seeds that each system would need: for the observed difference, and for SeedOptions::detect.
  std::optional<std::int64_t> needed, needed_to_detect;
  double detectable = 0;  // by so many seeds as the system with fewer has
};

struct SeedReport {
  std::vector<MetricColumn> columns;
  std::string signature;
  std::vector<SeedSystem> systems;
  std::uint64_t samples = 0;
  std::vector<std::vector<std::vector<double>>> means;  // by system, column and seed
  std::vector<SeedDifference> differences;              // system by system, column by column
};

// Scores all files (as compare_files() does, with its rules for the same samples) and compares each
// system with the first. Throws DataError as compare_files() and compare_seeds() do.
SeedReport compare_seed_systems(const std::vector<SeedSystem>& systems, const PairFields& fields,
                                const MetricSet& metrics, const SeedOptions& options,
                                const ScoringOptions& scoring);

// Means of the systems, with the standard deviation of the seeds' means.
ResultTable seed_scores_table(const SeedReport& report);
ResultTable seed_differences_table(const SeedReport& report);
// One self-contained HTML page with both and the means of single seeds.
std::string seed_page(const SeedReport& report);

}  // namespace rwkvx
