// A comparison as tables and as a page.
#pragma once

#include <string>

#include "rwkvx/eval/comparison.h"
#include "rwkvx/report/table.h"

namespace rwkvx {

// Every system's score on every metric, on a scale of 0 to 100; of ROUGE with its interval.
ResultTable scores_table(const Comparison& comparison);
// The differences from the first system with their intervals, effect sizes and p values.
ResultTable differences_table(const Comparison& comparison);
// The scores of one set without intervals.
ResultTable summary_table(const MetricSet& metrics, const ScoreSummary& summary);

// One self-contained HTML page: tables, bars with intervals, and of pairs scores by length and
// samples beside their references. Reads the files of the systems once more for the samples' texts;
// DataError where they have become shorter.
std::string comparison_page(const Comparison& comparison, const PairFields& fields,
                            std::size_t samples = 12);

}  // namespace rwkvx
