#include "rwkvx/metrics/metric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"

namespace rwkvx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names_of(const MetricSet& metrics) {
  std::vector<std::string> names;
  for (const auto& column : metric_columns(metrics)) names.push_back(column.name);
  return names;
}

std::string refusal(const std::string& names, const nlohmann::json& settings) {
  try {
    parse_metrics(names, settings, "--metrics");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(no error)";
}

TEST(Metric, EachNameIsCountedOnceInTheOrderOfTheTable) {
  EXPECT_THAT(names_of(parse_metrics("chrf++, rougeW1.2,bleu,rougeW,rouge2", {}, "")),
              ElementsAre("rougeW", "rouge2", "bleu", "chrf++"));
}

TEST(Metric, EveryRowTakesTheNamesThatItOffers) {
  for (const auto* row : metric_table()) {
    auto names =
        row->likely != nullptr ? row->likely() : std::vector<std::string>{std::string(row->names)};
    for (const auto& name : names) {
      EXPECT_EQ(metric_row(name), row) << name;
      const auto metrics = parse_metrics(name, {}, "");
      ASSERT_EQ(metrics.size(), 1U) << name;
      EXPECT_THAT(names_of(metrics), ElementsAre(name));
      EXPECT_EQ(metrics[0]->signature().find('|'), std::string::npos) << name;
    }
  }
}

TEST(Metric, ASettingBelongsToItsMetric) {
  EXPECT_THAT(refusal("bleu", {{"BLEU", {{"bleu_tokenizer", "13b"}}}}),
              HasSubstr("bleu_tokenizer: "));
  EXPECT_THAT(refusal("rouge1", {{"ROUGE", {{"tokenizer", "spm"}}}}), HasSubstr("spm_model: "));
  EXPECT_EQ(refusal("rouge1", {{"BLEU", {{"bleu_tokenizer", "13b"}}}}), "(no error)");
  for (const auto* row : metric_table()) {
    if (row->settings == nullptr) continue;
    for (const auto& setting : row->settings())
      EXPECT_THAT(refusal(std::string(row->likely != nullptr ? row->likely().front() : row->names),
                          {{std::string(row->title), {{setting.path, {{"not", "that"}}}}}}),
                  HasSubstr(setting.path + ": "));
  }
}

// What a counter says of a pair, scored as a sample and as a set of one, and of a set of the pair
// three times.
TEST(Metric, ScoresOfASetComeFromTheSumsOfItsSamples) {
  const auto metrics = parse_metrics("rouge1,rougeL,bleu,chrf,chrf++", {}, "");
  const std::vector<std::string_view> references = {"the cat sat on the mat", "a cat sat"};
  std::vector<double> statistics(metric_statistics(metrics));
  std::span<double> rest = statistics;
  for (const auto& metric : metrics) {
    metric->counter()->count("the cat sat on a mat", references, rest.first(metric->statistics()));
    rest = rest.subspan(metric->statistics());
  }
  auto sums = statistics;
  for (auto& sum : sums) sum *= 3;
  const auto sample = sample_scores(metrics, statistics), set = set_scores(metrics, sums, 3);
  ASSERT_EQ(sample.size(), metric_columns(metrics).size());
  ASSERT_EQ(set.size(), sample.size());
  for (std::size_t i = 0; i < set.size(); ++i) {
    EXPECT_NEAR(set[i].value, sample[i].value, 1e-12) << i;
    EXPECT_GT(set[i].value, 0) << i;
    EXPECT_FALSE(set[i].parts.empty()) << i;
  }
  EXPECT_EQ(*sample[0].part("f1"), sample[0].value);
  EXPECT_EQ(*sample[2].part("score"), sample[2].value);
  EXPECT_EQ(sample[2].part("precision"), nullptr);
}

}  // namespace
}  // namespace rwkvx
