// The command eval on questions with several answers, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class EvalChoices : public TinyRun {
 protected:
  void SetUp() override { make_model(); }
  // Items of the tiny model's text; the right answer goes round.
  std::string items(const std::string& name, int count) const {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const std::string right = " " + std::to_string(i % 17) + " sings";
      std::vector<std::string> choices = {" zzz", " ünïcödé", " 3 q"};
      choices[static_cast<std::size_t>(i % 3)] = right;
      text += json{{"id", "q" + std::to_string(i)},
                   {"prompt", "bird number"},
                   {"choices", choices},
                   {"answer", i % 3}}
                  .dump() +
              "\n";
    }
    write_file(path(name), text);
    return path(name);
  }
  ProgramResult eval(const std::string& file, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"eval", "--model", path("run"), "--choices", file, "--quiet"});
    return run_program(more);
  }
};

TEST_F(EvalChoices, ScoresEveryChoiceAndAddsUp) {
  const auto file = items("items.jsonl", 12), details = path("details.jsonl");
  const auto result = eval(file, {"--per-sample", details});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  EXPECT_EQ(found["n"], 12);
  EXPECT_THAT(found["signature"].get<std::string>(),
              HasSubstr("few_shot:0|tokens:joint|delimiter:\"\"|interval:95,wilson"));
  std::istringstream lines(read_file(details));
  std::vector<json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(json::parse(line));
  ASSERT_EQ(rows.size(), 12U);
  double acc = 0, acc_norm = 0, brier = 0;
  for (const auto& row : rows) {
    const auto lls = row["logprobs"].get<std::vector<double>>();
    std::size_t best = 0, best_norm = 0;
    double sum = 0;
    for (std::size_t k = 0; k < lls.size(); ++k) {
      const auto per = [&](std::size_t i) { return lls[i] / row["characters"][i].get<double>(); };
      if (lls[k] > lls[best]) best = k;
      if (per(k) > per(best_norm)) best_norm = k;
      sum += std::exp(lls[k]);
    }
    const auto answer = row["answer"].get<std::size_t>();
    acc += best == answer;
    acc_norm += best_norm == answer;
    EXPECT_EQ(row["choice"], best);
    for (std::size_t k = 0; k < lls.size(); ++k)
      brier += std::pow(std::exp(lls[k]) / sum - (k == answer), 2);
  }
  EXPECT_NEAR(found["scores"]["acc"]["score"].get<double>(), acc / 12, 1e-12);
  EXPECT_NEAR(found["scores"]["acc_norm"]["score"].get<double>(), acc_norm / 12, 1e-12);
  EXPECT_NEAR(found["scores"]["brier_score"]["score"].get<double>(), brier / 12, 1e-9);
  EXPECT_EQ(rows[0]["id"], "q0");
  EXPECT_EQ(rows[0]["characters"][1], 8);
  EXPECT_EQ(rows[0]["bytes"][1], 12);
  EXPECT_EQ(rows[0]["tokens"][1], 12);  // of the byte tokenizer
  std::int64_t confused = 0;
  for (const auto& row : found["confusion"]["answers_by_choice"])
    for (const auto& one : row) confused += one.get<std::int64_t>();
  EXPECT_EQ(confused, 12);
  EXPECT_EQ(eval(file, {"--threads", "1"}).out, eval(file, {"--threads", "2"}).out);
}

TEST_F(EvalChoices, OutcomesAreComparedPairByPair) {
  const auto file = items("items.jsonl", 30), a = path("a.jsonl"), b = path("b.jsonl");
  const auto examples = items("examples.jsonl", 3);
  ASSERT_EQ(eval(file, {"--per-sample", a}).status, 0);
  ASSERT_EQ(eval(file, {"--per-sample", b, "--few-shot", "3", "--few-shot-from", examples}).status,
            0);
  const auto page = path("page.html");
  const auto result = run_program({"eval", "--compare", a, b, "--report", page});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  ASSERT_EQ(found["comparisons"].size(), 4U);
  const auto& acc = found["comparisons"][0];
  EXPECT_EQ(acc["metric"], "acc");
  EXPECT_NEAR(
      (acc["mcnemar"]["only_b"].get<double>() - acc["mcnemar"]["only_a"].get<double>()) / 30,
      acc["difference"].get<double>(), 1e-12);
  EXPECT_THAT(read_file(page), HasSubstr("acc_norm"));
  expect_refused(run_program({"eval", "--compare", a, b, "--metrics", "bleu"}), 2,
                 "--metrics: has no effect here");
  ASSERT_EQ(eval(items("fewer.jsonl", 29), {"--per-sample", b}).status, 0);
  expect_refused(run_program({"eval", "--compare", a, b}), 3, "has 29 pairs but");
  write_file(path("pairs.jsonl"), "{\"prediction\": \"a\", \"reference\": \"b\"}\n");
  expect_refused(run_program({"eval", "--compare", a, path("pairs.jsonl")}), 3,
                 "expected outcomes of eval --choices as in");
  write_file(path("bad.jsonl"), "{\"item\": \"x\", \"answer\": 5, \"logprobs\": [1]}\n");
  expect_refused(run_program({"eval", "--compare", path("bad.jsonl"), b}), 3, "bad.jsonl:1");
}

TEST_F(EvalChoices, AnExamplesAnswerStandsBeforeThePrompt) {
  write_file(path("one.jsonl"), R"({"q": "A:", "options": ["x", "y"], "gold": "y", "id": 1})"
                                "\n");
  write_file(path("whole.jsonl"),
             R"({"prompt": "A: y\n\nA:", "choices": [" x", " y"], "answer": 1})"
             "\n");
  write_file(path("two.jsonl"), R"({"q": "A:", "options": ["x", "y"], "gold": 1})"
                                "\n");
  ASSERT_EQ(eval(path("one.jsonl"),
                 {"--prompt-field", "q", "--choices-field", "options", "--answer-field", "gold",
                  "--few-shot", "1", "--few-shot-from", path("two.jsonl"), "--target-delimiter",
                  " ", "--per-sample", path("a.jsonl")})
                .status,
            0);
  ASSERT_EQ(eval(path("whole.jsonl"), {"--per-sample", path("b.jsonl")}).status, 0);
  const auto a = json::parse(read_file(path("a.jsonl"))),
             b = json::parse(read_file(path("b.jsonl")));
  EXPECT_EQ(a["logprobs"], b["logprobs"]);
  EXPECT_EQ(a["characters"][0], 1);
  EXPECT_EQ(b["characters"][0], 2);
}

TEST_F(EvalChoices, ATemplateMakesThePrompt) {
  write_file(path("a.jsonl"),
             R"({"q": "who?", "hint": "{x}", "choices": [" x", " y"], "answer": 1})"
             "\n");
  write_file(path("b.jsonl"),
             R"({"prompt": "{Q} who? ({x}):", "choices": [" x", " y"], "answer": 1})"
             "\n");
  ASSERT_EQ(eval(path("a.jsonl"),
                 {"--prompt-template", "{{Q}} {q} ({hint}):", "--per-sample", path("a.out")})
                .status,
            0);
  ASSERT_EQ(eval(path("b.jsonl"), {"--per-sample", path("b.out")}).status, 0);
  EXPECT_EQ(read_file(path("a.out")), read_file(path("b.out")));
  for (const char* wrong : {"{", "}", "a {} b", "{q", "{q{", "q}"})
    expect_refused(eval(path("a.jsonl"), {"--prompt-template", wrong}), 2, "expected {FIELD}");
  expect_refused(eval(path("a.jsonl"), {"--prompt-template", "{p}"}), 3, "no field \"p\"");
  expect_refused(eval(path("a.jsonl"), {"--prompt-template", "{q}", "--prompt-field", "q"}), 2,
                 "is replaced by --prompt-template");
}

TEST_F(EvalChoices, SpaceAtThePromptsEndBelongsToTheChoices) {
  write_file(path("a.jsonl"), R"({"prompt": "A: ", "choices": ["x", "y"], "answer": 1})"
                              "\n");
  write_file(path("b.jsonl"), R"({"prompt": "A:", "choices": [" x", " y"], "answer": 1})"
                              "\n");
  const auto logprobs = [&](const std::string& name) {
    EXPECT_EQ(eval(path(name), {"--per-sample", path("out")}).status, 0);
    return json::parse(read_file(path("out")))["logprobs"];
  };
  EXPECT_EQ(logprobs("a.jsonl"), logprobs("b.jsonl"));
}

TEST_F(EvalChoices, ReferencesLastWordsAndWindowsAreNamedInTheSignature) {
  const auto run = [&](std::vector<std::string> args) {
    args.insert(args.begin(), {"eval", "--model", path("run"), "--quiet"});
    const auto result = run_program(args);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.status == 0 ? json::parse(result.out) : json();
  };
  write_file(path("prompts.jsonl"), R"({"prompt": "bird number", "reference": " 3 sings"})"
                                    "\n");
  write_file(path("texts.jsonl"), R"({"text": "bird number 3 sings"})"
                                  "\n");
  const auto reference = run({"--prompts", path("prompts.jsonl"), "--reference-loss"});
  EXPECT_THAT(reference["signature"].get<std::string>(),
              AllOf(HasSubstr("task:reference-loss"), HasSubstr("tokens:joint")));
  EXPECT_NEAR(reference["perplexity"].get<double>(), std::exp(reference["loss"].get<double>()),
              1e-9);
  const auto last = run({"--prompts", path("texts.jsonl"), "--last-word", "--continuation-tokens",
                         "apart", "--per-sample", path("out.jsonl")});
  EXPECT_THAT(last["signature"].get<std::string>(),
              AllOf(HasSubstr("task:last-word"), HasSubstr("tokens:apart")));
  // lm-evaluation-harness: perplexity is exp(-mean of the log-likelihoods), one per text.
  EXPECT_NEAR(last["word_perplexity"].get<double>(),
              std::exp(-json::parse(read_file(path("out.jsonl")))["logprobs"][0].get<double>()),
              1e-9);
  const auto windows = run({"--text", path("text.txt"), "--window", "64"});
  EXPECT_THAT(windows["signature"].get<std::string>(), HasSubstr("state:windows-64-stride-32"));
  EXPECT_GT(windows["windows"].get<int>(), 100);
  const auto refused = [&](std::vector<std::string> args, const std::string& text) {
    args.insert(args.begin(), {"eval", "--model", path("run")});
    expect_refused(run_program(args), 2, text);
  };
  refused({"--text", path("text.txt"), "--stride", "5"}, "needs --window");
  refused({"--text", path("text.txt"), "--window", "5", "--stride", "6"}, "at most --window 5");
  refused({"--text", path("text.txt"), "--window", "5", "--by-position"}, "not --window");
  refused({"--text", path("text.txt"), "--last-word"}, "needs --prompts");
  refused({"--prompts", path("texts.jsonl"), "--last-word", "--reference-loss"},
          "cannot be combined");
  refused({"--prompts", path("texts.jsonl"), "--last-word", "--top-k", "3"}, "not generated");
  refused({"--prompts", path("texts.jsonl"), "--last-word", "--metrics", "bleu"},
          "scores of texts");
  refused({"--prompts", path("texts.jsonl"), "--continuation-tokens", "apart"},
          "needs --choices, --reference-loss or --last-word");
}

TEST_F(EvalChoices, RefusesWhatIsNoItem) {
  const auto with = [&](const std::string& line) {
    write_file(path("bad.jsonl"), line + "\n");
    return eval(path("bad.jsonl"));
  };
  expect_refused(with(R"({"prompt": "a", "choices": ["x"], "answer": 0})"), 3,
                 "expected 2 to 1000");
  expect_refused(with(R"({"prompt": "a", "choices": ["x", ""], "answer": 0})"), 3, "choices[1]");
  expect_refused(with(R"({"prompt": "a", "choices": ["x", 3], "answer": 0})"), 3, "a string");
  expect_refused(with(R"({"prompt": "a", "choices": "xy", "answer": 0})"), 3,
                 "an array of strings");
  expect_refused(with(R"({"prompt": "a", "choices": ["x", "y"], "answer": 2})"), 3, "got 2");
  expect_refused(with(R"({"prompt": "a", "choices": ["x", "y"], "answer": -1})"), 3, "got -1");
  expect_refused(with(R"({"prompt": "a", "choices": ["x", "y"], "answer": 0.5})"), 3, "got 0.5");
  expect_refused(with(R"({"prompt": "a", "choices": ["x", "y"], "answer": "z"})"), 3,
                 "another string");
  expect_refused(with(R"({"prompt": "a", "choice": ["x", "y"], "answer": 0})"), 3,
                 "did you mean \"choice\"?");
  expect_refused(with(""), 3, "expected at least one item");
  const auto file = items("items.jsonl", 2);
  expect_refused(eval(file, {"--few-shot", "2"}), 2, "--few-shot: requires --few-shot-from FILE");
  expect_refused(eval(file, {"--few-shot", "2", "--few-shot-from", file}), 2, "another file than");
  expect_refused(eval(file, {"--few-shot", "3", "--few-shot-from", items("x", 2)}), 3,
                 "expected at least 3 items");
  expect_refused(eval(file, {"--text", file}), 2, "got two");
  expect_refused(eval(file, {"--metrics", "bleu"}), 2, "--metrics: has no effect here");
  expect_refused(eval(file, {"--per-sample", file}), 2, "same file as --choices");
  expect_refused(run_program({"eval", "--choices", file}), 2, "--choices: requires --model");
  expect_refused(run_program({"eval", "--pairs", file, "--few-shot", "2"}), 2, "needs --choices");
}

}  // namespace
}  // namespace rwkvx
