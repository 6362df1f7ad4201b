#include "rwkvx/metrics/rouge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "rwkvx/base/statistics.h"
#include "rwkvx/metrics/bootstrap.h"
#include "rwkvx/metrics/rouge_reference.h"
#include "support/golden.h"

namespace rwkvx {
namespace {

using nlohmann::json;

std::vector<json> read_cases(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<json> cases;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) cases.push_back(json::parse(line));
  return cases;
}

double difference(const RougeScore& score, const json& wanted) {
  return std::max({std::abs(score.precision - wanted[0].get<double>()),
                   std::abs(score.recall - wanted[1].get<double>()),
                   std::abs(score.f1 - wanted[2].get<double>())});
}

std::string text(const RougeScore& score) {
  return json{score.precision, score.recall, score.f1}.dump();
}

// Scores every case of a golden file with both forms of the stemmer switch.
void expect_golden(const std::filesystem::path& path) {
  const auto cases = read_cases(path);
  const auto name = path.stem().string();
  ASSERT_FALSE(cases.empty()) << path;
  std::size_t scores = 0, inexact = 0, wrong = 0;
  for (const auto& item : cases) {
    std::vector<std::string> references;
    if (item.contains("references"))
      references = item["references"].get<std::vector<std::string>>();
    else
      references = {item["reference"].get<std::string>()};
    const std::vector<std::string_view> views(references.begin(), references.end());
    const auto prediction = item["prediction"].get<std::string>();
    for (const auto& [mode, by_type] : item["scores"].items()) {
      std::vector<RougeType> types;
      for (const auto& [type, values] : by_type.items()) {
        ASSERT_TRUE(rouge_type(type)) << type;
        types.push_back(*rouge_type(type));
      }
      RougeScorer scorer(types, mode == "stem");
      std::vector<RougeScore> found(types.size());
      scorer.score(prediction, views, found);
      for (std::size_t i = 0; i < types.size(); ++i) {
        const auto& wanted = by_type[rouge_name(types[i])];
        const double away = difference(found[i], wanted);
        ++scores;
        inexact += away != 0;
        if (!(away <= 1e-12) && ++wrong <= 10)
          ADD_FAILURE() << item["id"] << " " << mode << " " << rouge_name(types[i]) << ": "
                        << text(found[i]) << " instead of " << wanted;
      }
    }
  }
  EXPECT_EQ(wrong, 0U) << "of " << scores;
  testing::Test::RecordProperty(name + " scores", static_cast<int>(scores));
  testing::Test::RecordProperty(name + " not equal to the last bit", static_cast<int>(inexact));
}

TEST(Rouge, EqualsEverySingleReferenceGoldenCase) {
  RWKVX_FOR_EACH_GOLDEN("rouge") expect_golden(golden / "single.jsonl");
}

TEST(Rouge, EqualsEveryMultiReferenceGoldenCase) {
  RWKVX_FOR_EACH_GOLDEN("rouge") expect_golden(golden / "multi.jsonl");
}

TEST(Rouge, EqualsEveryLongGoldenCase) {
  RWKVX_FOR_EACH_GOLDEN("rouge") expect_golden(golden / "long5k.jsonl");
}

void expect_golden_aggregates(const std::filesystem::path& golden) {
  std::map<std::string, json> by_id;
  for (const auto& item : read_cases(golden / "single.jsonl"))
    by_id[item["id"].get<std::string>()] = item;
  const auto cases = read_cases(golden / "aggregate.jsonl");
  ASSERT_FALSE(cases.empty());
  for (const auto& item : cases) {
    NumpyDraws draws(item["numpy_seed"].get<std::uint32_t>());
    for (const auto& type : item["order"]) {
      RougeScorer scorer({*rouge_type(type.get<std::string>())}, item["mode"] == "stem");
      std::vector<RougeScore> scores;
      std::vector<double> precision, recall, f1;
      for (const auto& id : item["case_ids"]) {
        const auto& pair = by_id.at(id);
        scores.push_back(scorer.score(pair["prediction"].get<std::string>(),
                                      pair["reference"].get<std::string>()));
        precision.push_back(scores.back().precision);
        recall.push_back(scores.back().recall);
        f1.push_back(scores.back().f1);
      }
      const auto interval = bootstrap(scores, item["confidence_interval"].get<double>(),
                                      item["n_samples"].get<std::size_t>(), draws);
      const auto& wanted = item["result"][type.get<std::string>()];
      const std::string where = item["id"].get<std::string>() + " " + type.get<std::string>();
      EXPECT_LE(difference(interval.low, wanted["low"]), 1e-9) << where;
      EXPECT_LE(difference(interval.mid, wanted["mid"]), 1e-9) << where;
      EXPECT_LE(difference(interval.high, wanted["high"]), 1e-9) << where;
      const auto& mean = item["plain_mean"][type.get<std::string>()];
      EXPECT_LE(difference({plain_mean(precision), plain_mean(recall), plain_mean(f1)}, mean),
                1e-12)
          << where;
      EXPECT_LE(
          difference({compensated_mean(precision), compensated_mean(recall), compensated_mean(f1)},
                     mean),
          1e-12)
          << where;
    }
  }
}

TEST(Rouge, BootstrapEqualsEveryGoldenAggregate) {
  RWKVX_FOR_EACH_GOLDEN("rouge") expect_golden_aggregates(golden);
}

// Texts with many repetitions and ties, line ends, stems that meet, and bytes that separate.
class TextMaker {
 public:
  explicit TextMaker(std::uint32_t seed) : random_(seed) {}
  std::size_t below(std::size_t n) { return random_() % n; }
  std::string text(std::size_t longest, std::size_t vocabulary) {
    static const std::vector<std::string> words = {"a",
                                                   "the",
                                                   "Running",
                                                   "runs",
                                                   "run",
                                                   "organization",
                                                   "organize",
                                                   "b2",
                                                   "sky",
                                                   "skies",
                                                   "hopeful",
                                                   "hope",
                                                   "relational",
                                                   "relate",
                                                   "C",
                                                   "cats",
                                                   "\u212aelvin",
                                                   "kelvin",
                                                   "\u0130s",
                                                   "i",
                                                   "s",
                                                   "naïve",
                                                   "x_y",
                                                   "don't",
                                                   "internationalizations",
                                                   "internationalization",
                                                   "\xff\xfe",
                                                   "!"};
    static const std::vector<std::string> gaps = {" ", " ", " ", " ", "\n", ", ", "\n\n", "\t-"};
    std::string text;
    const auto length = below(longest + 1);
    for (std::size_t i = 0; i < length; ++i)
      text += words[below(std::min(vocabulary, words.size()))] + gaps[below(gaps.size())];
    return text;
  }

 private:
  std::mt19937 random_;
};

void expect_equal_to_reference(RougeScorer& scorer, bool stemmer, const std::string& prediction,
                               const std::string& reference) {
  const std::string_view view = reference;
  std::vector<RougeScore> scores(scorer.types().size());
  scorer.score(prediction, {&view, 1}, scores);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const auto& type = scorer.types()[i];
    const auto wanted = rouge_reference(type, prediction, reference, stemmer);
    ASSERT_EQ(scores[i], wanted)
        << rouge_name(type) << ": " << text(scores[i]) << " instead of " << text(wanted) << " for "
        << json(prediction).dump(-1, ' ', true, json::error_handler_t::replace) << " against "
        << json(reference).dump(-1, ' ', true, json::error_handler_t::replace);
  }
}

TEST(Rouge, EqualsTheSlowFormOnHundredThousandRandomPairs) {
  std::vector<RougeType> types;
  for (const auto* name : {"rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"})
    types.push_back(*rouge_type(name));
  RougeScorer plain(types, false), stemmed(types, true);
  TextMaker make(1);
  for (int i = 0; i < 100000; ++i) {
    const std::size_t vocabulary = 2 + make.below(27), longest = 1 + make.below(12);
    const auto prediction = make.text(longest, vocabulary);
    const auto reference = make.text(longest, vocabulary);
    expect_equal_to_reference(i % 2 == 0 ? plain : stemmed, i % 2 != 0, prediction, reference);
    if (HasFatalFailure()) return;
  }
}

// More than four machine words of tokens, where common and rare tokens are kept differently, and
// every n.
TEST(Rouge, EqualsTheSlowFormOnLongPairs) {
  std::vector<RougeType> types;
  for (const auto& name : rouge_names())
    if (name[5] != 'W' && name[5] != 'S') types.push_back(*rouge_type(name));
  RougeScorer scorer(types, false);
  TextMaker make(2);
  for (int i = 0; i < 40; ++i) {
    const std::size_t longest = 100 + make.below(600);
    std::string prediction, reference;
    // Numbers, most of them rare, between the few words.
    for (auto* side : {&prediction, &reference})
      for (std::size_t k = 0; k < longest; ++k)
        *side += make.below(3) == 0 ? "the" + std::string(make.below(9) == 0 ? "\n" : " ")
                                    : std::to_string(make.below(1 + longest / 4)) + " ";
    if (i % 2 == 0) std::replace(prediction.begin(), prediction.end(), '\n', ' ');
    if (i % 4 == 0) std::replace(reference.begin(), reference.end(), '\n', ' ');
    expect_equal_to_reference(scorer, false, prediction, reference);
    if (HasFatalFailure()) return;
  }
}

TEST(Rouge, IsZeroForTextsWithoutTokens) {
  std::vector<RougeType> types;
  for (const auto& name : rouge_names()) types.push_back(*rouge_type(name));
  RougeScorer scorer(types, true);
  for (const auto& [prediction, reference] : std::vector<std::pair<std::string, std::string>>{
           {"", ""}, {"", "a"}, {"a", ""}, {"\n", "\n"}, {"中文", "中文"}, {"!?", "a b"}})
    for (std::size_t i = 0; i < types.size(); ++i)
      EXPECT_EQ(scorer.score(prediction, reference, i), RougeScore{});
}

TEST(Rouge, CountsTextsWithoutTokens) {
  RougeScorer scorer({*rouge_type("rouge1")}, false);
  const std::vector<std::string_view> references = {"中", "a b", ""};
  std::vector<RougeScore> scores(1);
  scorer.score("a c d", references, scores);
  EXPECT_EQ(scorer.prediction_tokens(), 3U);
  EXPECT_EQ(scorer.references_without_tokens(), 2U);
  EXPECT_EQ(scores[0], rouge_score(1, 3, 2));
}

TEST(Rouge, ScoresWorkedOutByHand) {
  RougeScorer scorer({*rouge_type("rouge1"), *rouge_type("rouge2"), *rouge_type("rougeL")}, false);
  const std::string prediction = "police kill the gunman", reference = "police killed the gunman";
  EXPECT_EQ(scorer.score(prediction, reference, 0), rouge_score(3, 4, 4));
  EXPECT_EQ(scorer.score(prediction, reference, 1), rouge_score(1, 3, 3));
  EXPECT_EQ(scorer.score(prediction, reference, 2), rouge_score(3, 4, 4));
  EXPECT_DOUBLE_EQ(scorer.score(prediction, reference, 2).f1, 0.75);
}

// The score of the reference with the highest F, even where another has a higher recall.
TEST(Rouge, TakesTheBestReferenceForEachTypeAndTheFirstOfEqualOnes) {
  RougeScorer scorer({*rouge_type("rouge1"), *rouge_type("rouge2")}, false);
  const std::vector<std::string_view> references = {"a b x y", "b a z z", "b"};
  std::vector<RougeScore> scores(2);
  scorer.score("a b c d", references, scores);
  EXPECT_EQ(scores[0], rouge_score(2, 4, 4));
  EXPECT_EQ(scores[1], rouge_score(1, 3, 3));
}

TEST(Rouge, NulAndInvalidUtf8Separate) {
  RougeScorer scorer({*rouge_type("rouge1")}, false);
  EXPECT_EQ(scorer.score(std::string("a\0b\xff\xc3", 5), "a b"), rouge_score(2, 2, 2));
  EXPECT_EQ(scorer.score("\xe2\x84", "a"), RougeScore{});
  EXPECT_EQ(scorer.score("\u212a9 \u0130stanbul", "k9 i stanbul"), rouge_score(3, 3, 3));
}

// Words longer than the sixteen letters that are compared at once, differing at each place.
TEST(Rouge, TellsLongWordsApart) {
  RougeScorer scorer({*rouge_type("rouge1")}, false);
  std::string all;
  std::size_t count = 0;
  for (std::size_t length = 1; length <= 40; ++length)
    for (std::size_t at = 0; at < length; ++at, ++count) {
      std::string word(length, 'a');
      word[at] = 'b';
      all += word + " ";
    }
  EXPECT_EQ(scorer.score(all, all), rouge_score(count, count, count));
  std::string other = all;
  std::replace(other.begin(), other.end(), 'b', 'c');
  EXPECT_EQ(scorer.score(all, other), RougeScore{});
}

// More different words than are kept from pair to pair.
TEST(Rouge, ForgettingWordsChangesNothing) {
  RougeScorer scorer({*rouge_type("rouge1"), *rouge_type("rougeL")}, true);
  std::size_t next = 0;
  for (int pair = 0; pair < 60; ++pair) {
    std::string prediction, reference;
    for (int i = 0; i < 10000; ++i) {
      prediction += "w" + std::to_string(next) + " ";
      reference += (i % 2 == 0 ? "w" : "v") + std::to_string(next++) + " ";
    }
    ASSERT_EQ(scorer.score(prediction, reference, 1), rouge_score(5000, 10000, 10000));
  }
}

TEST(Rouge, KnowsItsNames) {
  for (const auto& name : rouge_names()) {
    ASSERT_TRUE(rouge_type(name)) << name;
    EXPECT_EQ(rouge_name(*rouge_type(name)), name);
  }
  for (const auto* name : {"rouge", "rouge0", "rouge01", "rouge1000", "rougeW0.5", "rougeW1x",
                           "rougeS-1", "rougel", "ROUGE1", "bleu", ""})
    EXPECT_FALSE(rouge_type(name)) << name;
}

}  // namespace
}  // namespace rwkvx
