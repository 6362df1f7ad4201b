// chrF and chrF++ as metrics of the table.
#include <memory>

#include "rwkvx/metrics/chrf.h"
#include "rwkvx/metrics/metric.h"

namespace rwkvx {
namespace {

class ChrfPairCounter : public PairCounter {
 public:
  explicit ChrfPairCounter(std::size_t word_orders) : counter_(word_orders) {}
  void count(std::string_view prediction, std::span<const std::string_view> references,
             std::span<double> statistics) override {
    const auto counts = counter_.count(prediction, references);
    auto out = statistics.begin();
    for (const auto& order : counts.orders)
      for (const auto number : {order.predicted, order.wanted, order.hits})
        *out++ = static_cast<double>(number);
  }

 private:
  ChrfCounter counter_;
};

class ChrfMetric : public Metric {
 public:
  ChrfMetric(const std::string& name, std::size_t word_orders)
      : Metric({{name, /*percent=*/1, /*of_set=*/true}},
               name + ":nc:6,nw:" + std::to_string(word_orders) + ",beta:2,case:mixed,space:no",
               3 * ChrfCounts::kMostOrders),
        word_orders_(word_orders) {}
  std::unique_ptr<PairCounter> counter() const override {
    return std::make_unique<ChrfPairCounter>(word_orders_);
  }
  std::vector<MetricScore> set_scores(std::span<const double> sums, std::uint64_t) const override {
    ChrfCounts counts;
    for (std::size_t i = 0; i < ChrfCounts::kMostOrders; ++i) {
      const auto whole = [&](std::size_t k) { return static_cast<std::uint64_t>(sums[3 * i + k]); };
      counts.orders[i] = {whole(0), whole(1), whole(2)};
    }
    return {{chrf_score(counts), {}}};
  }

 private:
  std::size_t word_orders_;
};

template <std::size_t kWordOrders>
std::unique_ptr<const Metric> make_chrf(const std::vector<std::string>& names,
                                        const nlohmann::json&) {
  return std::make_unique<ChrfMetric>(names.front(), kWordOrders);
}

}  // namespace

extern constinit const MetricRow kChrfMetric{
    .title = "chrF", .names = "chrf", .make = make_chrf<0>};
extern constinit const MetricRow kChrfWordsMetric{
    .title = "chrF++", .names = "chrf++", .make = make_chrf<2>};

}  // namespace rwkvx
