// chrF and chrF++ as metrics of the table, and the settings of chrF.
#include <charconv>
#include <memory>
#include <string>
#include <tuple>

#include "rwkvx/base/field.h"
#include "rwkvx/metrics/chrf.h"
#include "rwkvx/metrics/metric.h"

namespace rwkvx {
namespace {

struct ChrfSettings {
  std::int64_t char_order = 6, word_order = 0;
  double beta = 2;
  bool whitespace = false, lowercase = false, eps_smoothing = false;
  static constexpr auto fields() {
    using C = ChrfSettings;
    using I = Field<C, std::int64_t>;
    using Flag = Field<C, bool>;
    return std::tuple{
        I{"chrf_char_order", &C::char_order, "chrF: n-grams of 1 to so many characters", 1,
          ChrfCounts::kMostCharOrder},
        I{"chrf_word_order", &C::word_order, "chrF: n-grams of 1 to so many words; chrF++ has 2", 0,
          ChrfCounts::kMostWordOrder},
        Field<C, double>{"chrf_beta", &C::beta, "chrF: how many times recall weighs precision", 0,
                         1e6},
        Flag{"chrf_whitespace", &C::whitespace, "chrF: white space counts as characters"},
        Flag{"chrf_lowercase", &C::lowercase, "chrF: compare in lower case"},
        Flag{"chrf_eps_smoothing", &C::eps_smoothing,
             "chrF: the mean of the orders' F scores, as NLTK and Moses have it"}};
  }
};

// Statistics of an order: predicted, wanted, hits.
constexpr std::size_t kParts = 3;

class ChrfPairCounter : public PairCounter {
 public:
  explicit ChrfPairCounter(const ChrfOptions& options)
      : counter_(options), orders_(options.char_order + options.word_order) {}
  void count(std::string_view prediction, std::span<const std::string_view> references,
             std::span<double> statistics) override {
    const auto counts = counter_.count(prediction, references);
    auto out = statistics.begin();
    for (const auto& order : std::span(counts.orders).first(orders_))
      for (const auto number : {order.predicted, order.wanted, order.hits})
        *out++ = static_cast<double>(number);
  }

 private:
  ChrfCounter counter_;
  std::size_t orders_;
};

std::string signature_of(const std::string& name, const ChrfOptions& options) {
  char beta[32];
  const auto* const end = std::to_chars(beta, beta + sizeof beta, options.beta).ptr;
  return name + ":nc:" + std::to_string(options.char_order) +
         ",nw:" + std::to_string(options.word_order) +
         ",beta:" + std::string(static_cast<const char*>(beta), end) +
         ",case:" + (options.lowercase ? "lc" : "mixed") +
         ",space:" + (options.whitespace ? "yes" : "no") + (options.eps_smoothing ? ",eff:no" : "");
}

class ChrfMetric : public Metric {
 public:
  ChrfMetric(const std::string& name, const ChrfOptions& options)
      : Metric({{name, /*percent=*/1, /*of_set=*/true}}, signature_of(name, options),
               kParts * (options.char_order + options.word_order)),
        options_(options) {}
  std::unique_ptr<PairCounter> counter() const override {
    return std::make_unique<ChrfPairCounter>(options_);
  }
  std::vector<MetricScore> set_scores(std::span<const double> sums, std::uint64_t) const override {
    ChrfCounts counts;
    for (std::size_t i = 0; i < options_.char_order + options_.word_order; ++i) {
      const auto whole = [&](std::size_t k) {
        return static_cast<std::uint64_t>(sums[kParts * i + k]);
      };
      counts.orders[i] = {whole(0), whole(1), whole(2)};
    }
    return {{chrf_score(counts, options_), {}}};
  }

 private:
  ChrfOptions options_;
};

std::unique_ptr<const Metric> make_chrf(const std::vector<std::string>& names,
                                        const nlohmann::json& json) {
  const auto settings = config_from_json<ChrfSettings>(json, "");
  return std::make_unique<ChrfMetric>(
      names.front(), ChrfOptions{.char_order = static_cast<std::size_t>(settings.char_order),
                                 .word_order = static_cast<std::size_t>(settings.word_order),
                                 .beta = settings.beta,
                                 .whitespace = settings.whitespace,
                                 .lowercase = settings.lowercase,
                                 .eps_smoothing = settings.eps_smoothing});
}

std::unique_ptr<const Metric> make_chrf_words(const std::vector<std::string>& names,
                                              const nlohmann::json&) {
  return std::make_unique<ChrfMetric>(names.front(), ChrfOptions{.word_order = 2});
}

}  // namespace

extern constinit const MetricRow kChrfMetric{
    .title = "chrF",
    .names = "chrf",
    .make = make_chrf,
    .settings = [] { return describe_fields<ChrfSettings>(); },
};
extern constinit const MetricRow kChrfWordsMetric{
    .title = "chrF++", .names = "chrf++", .make = make_chrf_words};

}  // namespace rwkvx
