// BLEU as a metric of the table, and its settings.
#include <algorithm>
#include <memory>
#include <tuple>

#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/metrics/bleu.h"
#include "rwkvx/metrics/metric.h"
#include "rwkvx/text/sentence_pieces.h"

namespace rwkvx {
namespace {

struct BleuSettings {
  BleuTokenizer bleu_tokenizer = BleuTokenizer::k13a;
  std::string bleu_model;
  static constexpr auto fields() {
    using C = BleuSettings;
    return std::tuple{Field<C, BleuTokenizer>{"bleu_tokenizer", &C::bleu_tokenizer,
                                              "BLEU: 13a, intl, char, none, zh, flores101 or "
                                              "flores200"},
                      Field<C, std::string>{"bleu_model", &C::bleu_model,
                                            "BLEU: file of the sentencepiece model of flores101 or "
                                            "flores200, which is downloaded separately"}};
  }
  void check(const std::string& where) const {
    if (needs_model(bleu_tokenizer) != !bleu_model.empty())
      throw ConfigError(where + "bleu_model",
                        bleu_model.empty()
                            ? "expected the sentencepiece model of " + enum_name(bleu_tokenizer) +
                                  " (sacrebleu downloads it to ~/.sacrebleu/models), got none"
                            : "requires --bleu-tokenizer flores101 or flores200");
  }
};

// Statistics: both lengths, then hits and totals of each order.
constexpr std::size_t kStatistics = 2 + 2 * BleuCounts::kOrders;

class BleuPairCounter : public PairCounter {
 public:
  BleuPairCounter(BleuTokenizer tokenizer, const BleuCutter& cutter)
      : counter_(tokenizer, /*lower_case=*/false, cutter) {}
  void count(std::string_view prediction, std::span<const std::string_view> references,
             std::span<double> statistics) override {
    const auto counts = counter_.count(prediction, references);
    statistics[0] = static_cast<double>(counts.predicted_length);
    statistics[1] = static_cast<double>(counts.reference_length);
    std::copy(counts.hits.begin(), counts.hits.end(), statistics.begin() + 2);
    std::copy(counts.totals.begin(), counts.totals.end(),
              statistics.begin() + 2 + BleuCounts::kOrders);
  }

 private:
  BleuCounter counter_;
};

class BleuMetric : public Metric {
 public:
  explicit BleuMetric(const BleuSettings& settings)
      : Metric({{"bleu", /*percent=*/1, /*of_set=*/true}},
               "bleu:tok:" + enum_name(settings.bleu_tokenizer) +
                   (settings.bleu_model.empty() ? "" : "-" + hash_file(settings.bleu_model)) +
                   ",case:mixed,smooth:exp,eff:no",
               kStatistics),
        tokenizer_(settings.bleu_tokenizer) {
    if (!settings.bleu_model.empty()) cutter_ = sentence_piece_cutter(settings.bleu_model);
  }
  std::unique_ptr<PairCounter> counter() const override {
    return std::make_unique<BleuPairCounter>(tokenizer_, cutter_);
  }
  std::vector<MetricScore> set_scores(std::span<const double> sums, std::uint64_t) const override {
    const auto counts = counts_of(sums);
    const auto bleu = bleu_score(counts);
    return {{bleu.score,
             {{"score", bleu.score},
              {"precisions", std::vector<double>(bleu.precisions.begin(), bleu.precisions.end())},
              {"brevity_penalty", bleu.brevity_penalty},
              {"prediction_tokens", counts.predicted_length},
              {"reference_tokens", counts.reference_length}}}};
  }
  // Over the orders that the sample has n-grams of.
  std::vector<MetricScore> sample_scores(std::span<const double> statistics) const override {
    return {{bleu_score(counts_of(statistics), BleuSmoothing::kExp, std::nullopt,
                        /*effective_order=*/true)
                 .score,
             {}}};
  }

 private:
  static BleuCounts counts_of(std::span<const double> statistics) {
    const auto whole = [](double number) { return static_cast<std::uint64_t>(number); };
    BleuCounts counts;
    counts.predicted_length = whole(statistics[0]);
    counts.reference_length = whole(statistics[1]);
    for (std::size_t i = 0; i < BleuCounts::kOrders; ++i) {
      counts.hits[i] = whole(statistics[2 + i]);
      counts.totals[i] = whole(statistics[2 + BleuCounts::kOrders + i]);
    }
    return counts;
  }
  BleuTokenizer tokenizer_;
  BleuCutter cutter_;
};

}  // namespace

extern constinit const MetricRow kBleuMetric{
    .title = "BLEU",
    .names = "bleu",
    .make = [](const std::vector<std::string>&,
               const nlohmann::json& settings) -> std::unique_ptr<const Metric> {
      return std::make_unique<BleuMetric>(config_from_json<BleuSettings>(settings, ""));
    },
    .settings = [] { return describe_fields<BleuSettings>(); },
};

}  // namespace rwkvx
