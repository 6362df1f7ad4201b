// The command eval on predictions and references, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/golden.h"
#include "support/program.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class EvalCommand : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  std::string write(const std::string& name, const std::string& bytes) const {
    write_file(path(name), bytes);
    return path(name);
  }
  static std::vector<json> lines_of(const std::string& path) {
    std::ifstream file(path);
    std::vector<json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }
  static void expect_refused(const std::vector<std::string>& args, int status,
                             const std::string& text) {
    std::vector<std::string> all = {"eval"};
    all.insert(all.end(), args.begin(), args.end());
    rwkvx::expect_refused(run_program(all), status, text);
  }
  ScratchDirectory scratch_;
};

TEST_F(EvalCommand, PrintsOneJsonObjectForTwoTextFiles) {
  const auto predictions = write("p.txt", "police kill the gunman\nnothing\n");
  const auto references = write("r.txt", "\xef\xbb\xbfpolice killed the gunman\r\nelse\r\n");
  const auto result =
      run_program({"eval", "--predictions", predictions, "--references", references});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const auto found = json::parse(result.out);
  EXPECT_EQ(found["n"], 2);
  EXPECT_EQ(found["scores"].size(), 4U);
  EXPECT_EQ(found["scores"]["rougeL"],
            (json{{"precision", 0.375}, {"recall", 0.375}, {"f1", 0.375}}));
  EXPECT_EQ(found["scores"]["rouge2"]["f1"].get<double>(), 1.0 / 3 / 2);
  EXPECT_THAT(found["signature"].get<std::string>(),
              HasSubstr("metrics:rouge1,rouge2,rougeL,rougeLsum|nrefs:1|rouge:tok:google"));
}

TEST_F(EvalCommand, ScoresPairsWithNamedFieldsStemsAndChosenMetrics) {
  const auto pairs =
      write("pairs.jsonl", "{\"hyp\": \"running dogs\", \"refs\": [\"a cat\", \"run dog\"]}\n");
  const auto result = run_program({"eval", "--pairs", pairs, "--prediction-field", "hyp",
                                   "--reference-field", "refs", "--metrics", "rouge3,rougeL",
                                   "--stemmer", "--per-sample", path("s.jsonl"), "--threads", "2"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  EXPECT_EQ(found["scores"].size(), 2U);
  EXPECT_EQ(found["scores"]["rougeL"]["f1"], 1.0);
  EXPECT_THAT(found["signature"].get<std::string>(),
              AllOf(HasSubstr("stem:porter-nltk"), HasSubstr("nrefs:2")));
  const auto samples = lines_of(path("s.jsonl"));
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_EQ(samples[0]["line"], 1);
  EXPECT_EQ(samples[0]["scores"], found["scores"]);
}

TEST_F(EvalCommand, EqualsTheGoldenScoresSampleBySample) {
  std::vector<std::filesystem::path> files;
  RWKVX_FOR_EACH_GOLDEN("rouge")
  for (const char* name : {"single.jsonl", "multi.jsonl", "long5k.jsonl"})
    files.push_back(golden / name);
  for (const auto& file : files)
    for (const std::string mode : {"plain", "stem"}) {
      const auto golden = file.string(), name = file.stem().string();
      std::vector<std::string> args = {"eval",
                                       "--pairs",
                                       golden,
                                       "--reference-field",
                                       name == "multi" ? "references" : "reference",
                                       "--per-sample",
                                       path("s.jsonl")};
      if (mode == "stem") args.push_back("--stemmer");
      const auto result = run_program(args);
      ASSERT_EQ(result.status, 0) << result.err;
      const auto wanted = lines_of(golden), found = lines_of(path("s.jsonl"));
      ASSERT_EQ(found.size(), wanted.size());
      double worst = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_EQ(found[i]["id"], wanted[i]["id"]);
        for (const auto& [type, score] : found[i]["scores"].items()) {
          const auto& golden_score = wanted[i]["scores"][mode][type];
          const char* const parts[] = {"precision", "recall", "f1"};
          for (std::size_t k = 0; k < 3; ++k)
            worst = std::max(
                worst, std::abs(score[parts[k]].get<double>() - golden_score[k].get<double>()));
        }
      }
      EXPECT_LE(worst, 1e-12) << name << " " << mode;
    }
}

TEST_F(EvalCommand, ScoresBleuAndChrfOfTheWholeSet) {
  const auto golden = test::golden_dirs("bleu").back();
  const auto segments = (golden / "segments.jsonl").string();
  const auto corpus = json::parse(read_file(golden / "corpus.json"))["corpus"];
  const auto result = run_program({"eval", "--pairs", segments, "--reference-field", "references",
                                   "--metrics", "bleu,chrf,chrf++"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto scores = json::parse(result.out)["scores"];
  EXPECT_EQ(scores.size(), 3U);
  EXPECT_NEAR(scores["bleu"]["score"].get<double>(),
              corpus["bleu_13a_multiref"]["score"].get<double>(), 1e-9);
  EXPECT_NEAR(scores["chrf"]["score"].get<double>(), corpus["chrf_multiref"]["score"].get<double>(),
              1e-9);
  const auto characters =
      run_program({"eval", "--pairs", segments, "--reference-field", "references", "--metrics",
                   "bleu", "--bleu-tokenizer", "char"});
  EXPECT_THAT(characters.out, HasSubstr("bleu:tok:char"));
}

TEST_F(EvalCommand, SaysHowMuchPredictionsRepeatThemselves) {
  const auto pairs = write("p.jsonl",
                           "{\"prediction\": \"a b a b a b\", \"reference\": \"x\"}\n"
                           "{\"prediction\": \"a b c d\", \"reference\": \"y\"}\n");
  const auto result = run_program({"eval", "--pairs", pairs, "--diversity", "--quiet"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto diversity = json::parse(result.out)["diversity"];
  EXPECT_EQ(diversity["texts"], 2);
  EXPECT_DOUBLE_EQ(diversity["distinct1"], 0.4);
  EXPECT_DOUBLE_EQ(diversity["repetition"], 1.0 / 6);
  expect_refused({"--compare", pairs, pairs, "--diversity"}, 2, "--diversity");
}

TEST_F(EvalCommand, RefusesFlagsThatDoNotFitTogether) {
  const auto file = write("f", "a\n");
  expect_refused({}, 2, "expected --pairs FILE, --predictions FILE and --references FILE");
  expect_refused({"--predictions", file}, 2, "--predictions: requires --references");
  expect_refused({"--references", file}, 2, "--references: requires --predictions");
  expect_refused({"--pairs", file, "--predictions", file}, 2, "--pairs: cannot be combined");
  expect_refused({"--pairs", file, "--metric", "rouge1"}, 2, "did you mean \"--metrics\"");
  expect_refused({"--pairs", file, "--metrics", "rougel"}, 2, "did you mean \"rougeL\"");
  expect_refused({"--pairs", file, "--metrics", "BLEU"}, 2, "did you mean \"bleu\"");
  expect_refused({"--pairs", file, "--metrics", "bleu", "--bleu-tokenizer", "13b"}, 2, "13a, intl");
  expect_refused({"--pairs", file, "--threads", "-1"}, 2, "--threads");
}

TEST_F(EvalCommand, RefusesDataThatCannotBeScored) {
  const auto one = write("one", "a\n"), two = write("two", "a\nb\n"), empty = write("empty", "");
  expect_refused({"--predictions", one, "--references", two}, 3, "has 1 line but");
  expect_refused({"--predictions", one, "--references", two}, 3, "has 2 lines");
  expect_refused({"--predictions", empty, "--references", empty}, 3, "got no lines");
  expect_refused({"--pairs", empty}, 3, "got an empty file");
  expect_refused({"--pairs", path("missing.jsonl")}, 3, "missing.jsonl: cannot open");
  expect_refused({"--pairs", two}, 3, "two:1: not a JSON object: column 1");
  const auto field = write(
      "field.jsonl", "{\"prediction\": \"a\", \"reference\": \"b\"}\n{\"prediction\": \"a\"}\n");
  expect_refused({"--pairs", field}, 3, "field.jsonl:2: no field \"reference\"");
  expect_refused({"--pairs", field, "--skip-bad", "--per-sample", path("no/such/folder.jsonl")}, 3,
                 "folder.jsonl");
}

TEST_F(EvalCommand, SkipsBadLinesWithACountWhenAsked) {
  const auto pairs = write("pairs.jsonl",
                           "{\"prediction\": \"a\", \"reference\": \"a\"}\n{\"prediction\n"
                           "{\"prediction\": \"a\", \"reference\": 1}\n");
  const auto result = run_program({"eval", "--pairs", pairs, "--skip-bad"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  EXPECT_EQ(found["n"], 1);
  EXPECT_EQ(found["skipped"], 2);
  EXPECT_THAT(result.err, HasSubstr("2 bad lines were skipped, the first: " + pairs + ":2"));
}

TEST_F(EvalCommand, WarnsOfTextsItCannotSee) {
  const auto predictions = write("p", std::string("a \0\xff\n中文\n", 12));
  const auto references = write("r", "a\n中文\n");
  const auto result =
      run_program({"eval", "--predictions", predictions, "--references", references});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("2 of 4 texts have no tokens"),
                                HasSubstr("1 invalid UTF-8 sequence"), HasSubstr("NUL")));
  EXPECT_EQ(json::parse(result.out)["scores"]["rouge1"]["f1"], 0.5);
}

TEST_F(EvalCommand, ReadsPipes) {
  const auto result = run_program({"eval", "--pairs", "/dev/stdin"},
                                  "{\"prediction\": \"a\", \"reference\": \"a\"}");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["scores"]["rougeLsum"]["f1"], 1.0);
}

TEST_F(EvalCommand, TakesLinesOfFiftyMegabytes) {
  std::string line;
  while (line.size() < 50'000'000) line += "word and other words \xff ";
  const auto predictions = write("p", line + "\nb\n"), references = write("r", "word\nb\n");
  const auto result =
      run_program({"eval", "--predictions", predictions, "--references", references});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["n"], 2);
}

}  // namespace
}  // namespace rwkvx
