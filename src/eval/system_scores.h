// Files of pairs or of outcomes as scores of samples, and whether two hold the same samples.
#pragma once

#include <filesystem>
#include <vector>

#include "rwkvx/eval/comparison.h"

namespace rwkvx {

// What the files of a comparison hold, told by the first one.
class SampleScorer {
 public:
  SampleScorer(const std::filesystem::path& first, PairFields fields, const MetricSet& metrics,
               const ScoringOptions& scoring);
  bool of_choices() const { return of_choices_; }
  std::vector<MetricColumn> columns() const;
  // Throws DataError for a file of the other kind, and what score_pairs() and
  // read_choice_outcomes() throw.
  SystemScores score(const std::filesystem::path& file) const;

 private:
  std::filesystem::path first_;
  PairFields fields_;
  const MetricSet& metrics_;
  const ScoringOptions& scoring_;
  bool of_choices_;
};

// Puts the samples of `other` into the order of those of `first`, by their ids where each has one
// of its own. Throws DataError where they are not the same samples.
void check_same_samples(const SystemScores& first, SystemScores& other);

}  // namespace rwkvx
