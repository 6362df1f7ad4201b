// Shares of samples: their intervals, and whether two on the same samples differ.
#pragma once

#include <cstdint>

namespace rwkvx {

struct ShareInterval {
  double share = 0, low = 0, high = 0;
};
// hits / count and its 95 % interval, 0 <= hits <= count, count at least 1. E. B. Wilson, JASA 22
// (1927), without correction for continuity.
ShareInterval wilson_interval(std::int64_t hits, std::int64_t count);

// Two-sided p of the samples that only one of two systems got right, `only_a` and `only_b`: how
// likely a fair coin splits them at least as unevenly. Q. McNemar, Psychometrika 12 (1947), in its
// exact form. 1 where there are none.
double mcnemar_p(std::int64_t only_a, std::int64_t only_b);

}  // namespace rwkvx
