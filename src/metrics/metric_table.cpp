#include "rwkvx/metrics/metric.h"

namespace rwkvx {

// Each is defined beside its metric.
extern const MetricRow kRougeMetric;      // rouge_metric.cpp
extern const MetricRow kBleuMetric;       // bleu_metric.cpp
extern const MetricRow kChrfMetric;       // chrf_metric.cpp
extern const MetricRow kChrfWordsMetric;  // chrf_metric.cpp

std::span<const MetricRow* const> metric_table() {
  static constexpr const MetricRow* kMetrics[] = {&kRougeMetric, &kBleuMetric, &kChrfMetric,
                                                  &kChrfWordsMetric};
  return kMetrics;
}

}  // namespace rwkvx
