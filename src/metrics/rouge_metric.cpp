#include "rwkvx/metrics/rouge_metric.h"

#include <memory>

#include "rwkvx/base/error.h"
#include "rwkvx/metrics/metric.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {
namespace {

constexpr std::size_t kParts = 3;  // statistics of a type: precision, recall and F

class RougePairCounter : public PairCounter {
 public:
  RougePairCounter(RougeScorer scorer, RougeLines lines)
      : scorer_(std::move(scorer)), lines_(lines), scores_(scorer_.types().size()) {}
  void count(std::string_view prediction, std::span<const std::string_view> references,
             std::span<double> statistics) override {
    if (lines_ == RougeLines::kNewline) {
      scorer_.score(prediction, references, scores_);
    } else {
      const auto broken = lines_ == RougeLines::kMark ? break_at_marks : split_sentences;
      std::vector<std::string> texts;
      for (const auto text : references) texts.push_back(broken(text));
      const std::vector<std::string_view> views(texts.begin(), texts.end());
      scorer_.score(broken(prediction), views, scores_);
    }
    auto out = statistics.begin();
    for (const auto& score : scores_)
      for (const double part : {score.precision, score.recall, score.f1}) *out++ = part;
  }
  std::uint64_t texts_without_tokens() const override {
    return (scorer_.prediction_tokens() == 0) + scorer_.references_without_tokens();
  }

 private:
  RougeScorer scorer_;
  RougeLines lines_;
  std::vector<RougeScore> scores_;
};

// The mean over samples. One object has all types, which share the work on tokens.
class RougeMetric : public Metric {
 public:
  RougeMetric(std::vector<RougeType> types, RougeTokens tokens, RougeReferences several,
              RougeLines lines, const std::string& signature)
      : Metric(columns_of(types), signature, kParts * types.size()),
        types_(std::move(types)),
        tokens_(std::move(tokens)),
        several_(several),
        lines_(lines) {}
  std::unique_ptr<PairCounter> counter() const override {
    return std::make_unique<RougePairCounter>(RougeScorer(types_, tokens_, several_), lines_);
  }
  std::vector<MetricScore> set_scores(std::span<const double> sums,
                                      std::uint64_t samples) const override {
    const auto count = static_cast<double>(samples);
    std::vector<MetricScore> scores;
    for (std::size_t i = 0; i < sums.size(); i += kParts) {
      const double f1 = sums[i + 2] / count;
      scores.push_back(
          {f1, {{"precision", sums[i] / count}, {"recall", sums[i + 1] / count}, {"f1", f1}}});
    }
    return scores;
  }
  std::string advice() const override {
    return tokens_.kind == RougeTokenization::kGoogle
               ? "the google tokenizer knows only a-z and 0-9; --rouge-tokenizer unicode knows "
                 "every "
                 "script"
               : "";
  }

 private:
  static std::vector<MetricColumn> columns_of(const std::vector<RougeType>& types) {
    std::vector<MetricColumn> columns;
    for (const auto& type : types) columns.push_back({rouge_name(type), /*percent=*/100});
    return columns;
  }
  std::vector<RougeType> types_;
  RougeTokens tokens_;
  RougeReferences several_;
  RougeLines lines_;
};

std::unique_ptr<const Metric> make_rouge(const std::vector<std::string>& names,
                                         const nlohmann::json& json) {
  const auto settings = config_from_json<RougeSettings>(json, "");
  std::vector<RougeType> types;
  bool sum = false;
  for (const auto& name : names) {
    types.push_back(*rouge_type(name));
    sum = sum || types.back().kind == RougeType::Kind::kLcsSum;
  }
  auto tokens = rouge_tokens(settings);
  const bool given = tokens.kind == RougeTokenization::kGiven;
  const bool best = settings.several == RougeReferences::kBest;
  const bool marked = settings.lines != RougeLines::kNewline;
  const auto signature = "rouge:tok:" + enum_name(tokens.kind) +
                         (given ? "-" + tokens.given_name + ",case:mixed" : ",case:lc") +
                         ",stem:" + (settings.stemmer ? "porter-nltk" : "no") +
                         ",refs:" + (best ? "best-f1" : enum_name(settings.several)) +
                         ",beta:1,agg:mean" +
                         (sum || marked ? ",lsum:" + enum_name(settings.lines) : "");
  return std::make_unique<RougeMetric>(std::move(types), std::move(tokens), settings.several,
                                       settings.lines, signature);
}

std::string known_rouge(std::string_view name) {
  const auto type = rouge_type(name);
  return type ? rouge_name(*type) : "";
}

}  // namespace

void RougeSettings::check(const std::string& where) const {
  if ((tokenizer == RougeTokenization::kGiven) != !spm_model.empty())
    throw ConfigError(where + "spm_model",
                      spm_model.empty() ? "expected a file with --rouge-tokenizer spm, got none"
                                        : "requires --rouge-tokenizer spm");
}

RougeTokens rouge_tokens(const RougeSettings& settings) {
  RougeTokens tokens{.kind = settings.tokenizer, .stemmer = settings.stemmer};
  if (settings.spm_model.empty()) return tokens;
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(settings.spm_model);
  tokens.given_name = tokenizer->hash();
  tokens.given = [tokenizer](std::string_view line, std::vector<std::int32_t>& ids) {
    ids = tokenizer->encode(line);
  };
  return tokens;
}

extern constinit const MetricRow kRougeMetric{
    .title = "ROUGE",
    .names = "rouge1, rouge2, …, rougeL, rougeLsum, rougeW, rougeS, rougeS4, rougeSU, rougeSU4",
    .make = make_rouge,
    .settings = [] { return describe_fields<RougeSettings>(); },
    .known = known_rouge,
    .likely = rouge_names,
};

}  // namespace rwkvx
