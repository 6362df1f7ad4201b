#include "rwkvx/metrics/sentences.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/metrics/metric.h"
#include "rwkvx/metrics/rouge.h"

namespace rwkvx {
namespace {

TEST(Sentences, AMarkIsALineEnd) {
  EXPECT_EQ(break_at_marks("a b <n> c<n>d\ne"), "a b\nc\nd\ne");
  EXPECT_EQ(break_at_marks("<n>a<n>"), "\na\n");
  EXPECT_EQ(break_at_marks("<n <N> n>"), "<n <N> n>");
  EXPECT_EQ(break_at_marks(""), "");
}

TEST(Sentences, EndAfterMarksAndBeforeWhatBeginsOne) {
  EXPECT_EQ(split_sentences("One. Two! \"Three?\" (Four.) Five… Six"),
            "One.\nTwo!\n\"Three?\"\n(Four.)\nFive…\nSix");
  EXPECT_EQ(split_sentences("Dr. Who met J. Smith at 3.5 p.m. on Monday, i.e. late. Then"),
            "Dr. Who met J. Smith at 3.5 p.m. on Monday, i.e. late.\nThen");
  EXPECT_EQ(split_sentences("他走了。她说：“好！”然后呢？"), "他走了。\n她说：“好！”\n然后呢？");
  EXPECT_EQ(split_sentences("No end"), "No end");
  EXPECT_EQ(split_sentences("kept\nlines. \n\nNext."), "kept\nlines.\nNext.");
  EXPECT_EQ(split_sentences("\xff. \xfe. B"), "\xff.\n\xfe.\nB");
  EXPECT_EQ(split_sentences(""), "");
}

// The scores of one pair by a metric of the table.
std::vector<MetricScore> scores(const std::string& names, const nlohmann::json& settings,
                                std::string_view prediction,
                                const std::vector<std::string_view>& references) {
  const auto metrics = parse_metrics(names, settings, "test");
  std::vector<double> statistics(metric_statistics(metrics));
  metrics.front()->counter()->count(prediction, references, statistics);
  return sample_scores(metrics, statistics);
}

TEST(Sentences, RougeLsumSeesThem) {
  const std::string_view marked = "the cat sat<n>a dog ran", lines = "the cat sat\na dog ran",
                         plain = "The cat sat. A dog ran.", turned = "a dog ran the cat sat";
  const auto sum = [&](const char* how, std::string_view prediction, std::string_view reference) {
    return scores("rougeLsum", {{"ROUGE", {{"rouge_lines", how}}}}, prediction, {reference})[0]
        .value;
  };
  EXPECT_EQ(sum("mark", marked, turned), sum("newline", lines, turned));
  EXPECT_EQ(sum("split", plain, turned), sum("newline", lines, turned));
  EXPECT_LT(sum("newline", plain, turned), sum("split", plain, turned));
  EXPECT_EQ(sum("mark", marked, turned), 1);
}

TEST(RougeReferencesMean, IsTheMeanOverTheReferences) {
  const std::vector<std::string_view> references = {"a b c d", "x y", "", "a c"};
  const std::string_view prediction = "a b x c";
  const auto found =
      scores("rouge1,rougeL", {{"ROUGE", {{"several", "mean"}}}}, prediction, references);
  RougeScorer one({*rouge_type("rouge1"), *rouge_type("rougeL")}, false);
  for (std::size_t type = 0; type < 2; ++type) {
    double precision = 0, f1 = 0;
    for (const auto reference : references) {
      const auto score = one.score(prediction, reference, type);
      precision += score.precision / 4;
      f1 += score.f1 / 4;
    }
    EXPECT_NEAR(found[type].value, f1, 1e-12);
    EXPECT_NEAR(*found[type].part("precision"), precision, 1e-12);
  }
}

TEST(BleuModel, IsAskedForAndNamed) {
  const auto refused = [](const nlohmann::json& settings, const std::string& text) {
    try {
      parse_metrics("bleu", {{"BLEU", settings}}, "test");
      ADD_FAILURE() << "expected an error";
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  };
  refused({{"bleu_tokenizer", "flores200"}}, "expected the sentencepiece model of flores200");
  refused({{"bleu_model", "x"}}, "requires --bleu-tokenizer flores101, flores200");
}

}  // namespace
}  // namespace rwkvx
