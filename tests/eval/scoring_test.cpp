#include "rwkvx/eval/scoring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "support/golden.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Scoring : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kOff); }
  void TearDown() override { set_log_level(LogLevel::kInfo); }
  std::filesystem::path write_pairs(int count, int broken_every = 0) {
    std::string bytes;
    for (int i = 0; i < count; ++i)
      bytes += broken_every > 0 && i % broken_every == 3
                   ? "{broken\n"
                   : json{{"id", i},
                          {"prediction", "a b " + std::to_string(i % 7) + " c"},
                          {"reference", "a c " + std::to_string(i % 5) + "\nb"}}
                             .dump() +
                         "\n";
    write_file(scratch_ / "pairs.jsonl", bytes);
    return scratch_ / "pairs.jsonl";
  }
  ScratchDirectory scratch_;
};

TEST_F(Scoring, ThreadsChangeNeitherScoresNorOrder) {
  const auto path = write_pairs(3000);
  const auto metrics = parse_metrics("rouge1,rouge2,rougeL,rougeLsum",
                                     {{"ROUGE", {{"stemmer", true}}}}, "--metrics");
  std::string first_lines;
  ScoreSummary first;
  for (const int threads : {1, 2, 5}) {
    ScoringOptions options;
    options.threads = threads;
    options.per_sample = scratch_ / "samples.jsonl";
    const auto summary = score_pairs(*pairs_from_json(path), metrics, options);
    const auto lines = read_file(options.per_sample);
    if (threads == 1) {
      first = summary;
      first_lines = lines;
    }
    EXPECT_EQ(summary.n, 3000U);
    for (std::size_t i = 0; i < summary.scores.size(); ++i)
      EXPECT_EQ(summary.scores[i].parts, first.scores[i].parts);
    EXPECT_EQ(summary.signature, first.signature);
    EXPECT_EQ(lines, first_lines);
  }
  std::ifstream samples(scratch_ / "samples.jsonl");
  int id = 0;
  for (std::string line; std::getline(samples, line); ++id) {
    const auto sample = json::parse(line);
    ASSERT_EQ(sample["id"], id);
    ASSERT_EQ(sample["line"], id + 1);
    ASSERT_EQ(sample["scores"].size(), 4U);
  }
  EXPECT_EQ(id, 3000);
}

TEST_F(Scoring, BadLinesStopItOrAreCounted) {
  const auto path = write_pairs(2000, /*broken_every=*/100);
  const auto metrics = parse_metrics("rougeL", {}, "--metrics");
  for (const int threads : {1, 3}) {
    ScoringOptions options;
    options.threads = threads;
    options.per_sample = scratch_ / "samples.jsonl";
    try {
      score_pairs(*pairs_from_json(path), metrics, options);
      ADD_FAILURE() << "a broken line was taken";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("pairs.jsonl:4: not a JSON object"));
    }
    EXPECT_FALSE(std::filesystem::exists(options.per_sample));
    EXPECT_FALSE(std::filesystem::exists(options.per_sample.string() + ".tmp"));
    options.skip_bad = true;
    const auto summary = score_pairs(*pairs_from_json(path), metrics, options);
    EXPECT_EQ(summary.n, 1980U);
    EXPECT_EQ(summary.skipped, 20U);
    std::filesystem::remove(options.per_sample);
  }
  write_file(scratch_ / "all-bad", "x\ny\n");
  ScoringOptions options;
  options.skip_bad = true;
  EXPECT_THROW(score_pairs(*pairs_from_json(scratch_ / "all-bad"), metrics, options), DataError);
}

TEST_F(Scoring, MeansAndSignatureNameWhatTheyDependOn) {
  write_file(scratch_ / "p", "a b\nc\n");
  write_file(scratch_ / "r", "a b\nd\n");
  const auto metrics = parse_metrics("rougeLsum, rouge1", {}, "--metrics");
  const auto summary = score_pairs(*pairs_from_texts(scratch_ / "p", scratch_ / "r"), metrics);
  EXPECT_EQ(summary.n, 2U);
  ASSERT_EQ(summary.scores.size(), 2U);
  EXPECT_EQ(summary.scores[0].value, 0.5);
  EXPECT_EQ(*summary.scores[0].part("precision"), 0.5);
  EXPECT_EQ(*summary.scores[0].part("recall"), 0.5);
  EXPECT_THAT(summary.signature,
              AllOf(HasSubstr("rougeLsum,rouge1"), HasSubstr("tok:google"), HasSubstr("stem:no"),
                    HasSubstr("nrefs:1"), HasSubstr("refs:best-f1"), HasSubstr("lsum:newline"),
                    HasSubstr("version:rwkvx-")));
}

TEST_F(Scoring, UnknownMetricsAreRefusedWithTheNearest) {
  for (const auto* name : {"rougel", "rouge-L", "rouge0", "rouge1,", ""}) {
    try {
      parse_metrics(name, {}, "--metrics");
      ADD_FAILURE() << name << " was taken";
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), HasSubstr("--metrics: expected rouge1, "));
    }
  }
  try {
    parse_metrics("rouge1,rougel", {}, "--metrics");
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"rougeL\""));
  }
}

TEST_F(Scoring, BleuAndChrfAreOfTheWholeSet) {
  const auto golden = test::golden_dirs("bleu").back();
  const auto path = golden / "segments.jsonl";
  const auto metrics = parse_metrics("chrf++,rougeL,bleu,chrf", {}, "--metrics");
  ScoringOptions options;
  options.threads = 2;
  options.per_sample = scratch_ / "samples.jsonl";
  const auto summary =
      score_pairs(*pairs_from_json(path, {"prediction", "references"}), metrics, options);
  std::ifstream corpus_file(golden / "corpus.json");
  const auto corpus = json::parse(corpus_file)["corpus"];
  ASSERT_EQ(summary.scores.size(), 4U);
  EXPECT_NEAR(summary.scores[1].value, corpus["bleu_13a_multiref"]["score"].get<double>(), 1e-9);
  EXPECT_NEAR(summary.scores[2].value, corpus["chrf_multiref"]["score"].get<double>(), 1e-9);
  EXPECT_THAT(summary.signature, AllOf(HasSubstr("metrics:rougeL,bleu,chrf,chrf++|nrefs:3|"),
                                       HasSubstr("|bleu:tok:13a,case:mixed,smooth:exp,eff:no|"),
                                       HasSubstr("|chrf++:nc:6,nw:2,")));
  std::ifstream segments(path), samples(options.per_sample);
  for (std::string segment, sample; std::getline(segments, segment);) {
    ASSERT_TRUE(std::getline(samples, sample));
    const auto wanted = json::parse(segment)["sentence"], found = json::parse(sample)["scores"];
    EXPECT_NEAR(found["bleu"]["score"].get<double>(), wanted["bleu"].get<double>(), 1e-9);
    EXPECT_NEAR(found["chrf"]["score"].get<double>(), wanted["chrf"].get<double>(), 1e-9);
    EXPECT_NEAR(found["chrf++"]["score"].get<double>(), wanted["chrfpp"].get<double>(), 1e-9);
  }
}

TEST_F(Scoring, OddTextsAreCounted) {
  PairScorer scorer(parse_metrics("rouge1", {}, "--metrics"));
  TextPair pair;
  pair.prediction =
      "\xff"
      "a\xc3";
  pair.references = {std::string_view("\0", 1), "中", "a"};
  SampleScores scores;
  scorer.score(pair, scores);
  EXPECT_EQ(scores.texts, 4U);
  EXPECT_EQ(scores.without_tokens, 2U);
  EXPECT_EQ(scores.invalid_utf8, 2U);
  EXPECT_EQ(scores.with_nul, 1U);
  EXPECT_EQ(scores.statistics, (std::vector<double>{1, 1, 1}));
}

// An empty text has no tokens whatever the tokenizer, which is not to blame for it.
TEST_F(Scoring, EmptyTextsAreCountedApart) {
  PairScorer scorer(parse_metrics("rouge1", {}, "--metrics"));
  TextPair pair;
  pair.prediction = " \n";
  pair.references = {"", "中", "a"};
  SampleScores scores;
  scorer.score(pair, scores);
  EXPECT_EQ(scores.empty, 2U);
  EXPECT_EQ(scores.without_tokens, 1U);
}

TEST_F(Scoring, SampleLinesAreJsonWhateverTheId) {
  const auto metrics = parse_metrics("rouge1", {}, "");
  TextPair pair;
  pair.line = 3;
  pair.id = "\"\xff\t\"";
  SampleScores scores;
  scores.statistics = {1, 0.1, 2.0 / 3};
  std::string line;
  append_sample_json(metrics, pair, scores, line);
  const auto sample = json::parse(line);
  EXPECT_EQ(sample["id"], "\ufffd\ufffd");
  EXPECT_EQ(sample["scores"]["rouge1"]["precision"].dump(), "1.0");
  EXPECT_EQ(sample["scores"]["rouge1"]["f1"].get<double>(), 2.0 / 3);
}

}  // namespace
}  // namespace rwkvx
