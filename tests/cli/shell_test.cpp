// What shell users ask of generate and embed, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<json> lines_of(const std::string& text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  return lines;
}

class ShellCommands : public TinyRun {
 protected:
  void SetUp() override { make_model(); }
  ProgramResult generate(std::vector<std::string> flags, const std::string& input = "") const {
    flags.insert(flags.begin(), {"generate", "--model", path("run")});
    return run_program(flags, input);
  }
  ProgramResult embed(std::vector<std::string> flags, const std::string& input = "") const {
    flags.insert(flags.begin(), {"embed", "--model", path("run")});
    return run_program(flags, input);
  }
};

TEST_F(ShellCommands, PromptLogprobsAfterADocumentsEndAddUpToTheLossOfEval) {
  write_file(path("one.txt"), "the fox sings, bird number 16");
  const auto eval =
      run_program({"eval", "--model", path("run"), "--text", path("one.txt"), "--quiet"});
  ASSERT_EQ(eval.status, 0) << eval.err;
  ASSERT_EQ(generate({"--prompt", "", "--max-new-tokens", "0", "--save-state", path("s")}).status,
            0);
  const auto events =
      generate({"--load-state", path("s"), "--prompt-file", path("one.txt"), "--max-new-tokens",
                "0", "--json-events", "--prompt-logprobs", "--top-logprobs", "2"});
  ASSERT_EQ(events.status, 0) << events.err;
  double sum = 0;
  int tokens = 0;
  std::string text;
  for (const auto& one : lines_of(events.out))
    if (one["event"] == "prompt_token") {
      sum += one["logprob"].get<double>();
      text += one["text"].get<std::string>();
      EXPECT_EQ(one["top"].size(), 2u);
      EXPECT_GE(one["top"][0]["logprob"], one["top"][1]["logprob"]);
      ++tokens;
    }
  EXPECT_EQ(text, "the fox sings, bird number 16");
  const auto found = json::parse(eval.out);
  EXPECT_EQ(found["tokens"], tokens);
  EXPECT_NEAR(-sum / tokens, found["loss"].get<double>(), 1e-6);
}

TEST_F(ShellCommands, AlternativesStandInEveryKindOfOutput) {
  const auto greedy = generate({"--prompt", "bird", "--temperature", "0", "--json-events",
                                "--top-logprobs", "5", "--max-new-tokens", "8"});
  for (const auto& one : lines_of(greedy.out)) {
    if (one["event"] != "token") continue;
    EXPECT_EQ(one["top"][0]["token"], one["token"]);
    EXPECT_EQ(one["top"][0]["logprob"], one["logprob"]);
    EXPECT_EQ(one["top"].size(), 5u);
  }
  write_file(path("in.jsonl"), "{\"prompt\":\"bird\"}\n{\"prompt\":\"fox\"}\n");
  const std::vector<std::string> batch = {"--input",         path("in.jsonl"),   "--output",
                                          path("out.jsonl"), "--max-new-tokens", "6",
                                          "--quiet"};
  auto with = batch;
  with.insert(with.end(), {"--top-logprobs", "2"});
  ASSERT_EQ(generate(with).status, 0);
  const auto first = read_file(path("out.jsonl"));
  for (const auto& one : lines_of(first)) {
    EXPECT_EQ(one["token_logprobs"].size(), one["tokens"]);
    double sum = 0;
    for (const auto& token : one["token_logprobs"]) sum += token["logprob"].get<double>();
    EXPECT_NEAR(sum, one["logprob"].get<double>(), 1e-9);
  }
  ASSERT_EQ(generate(with).status, 0);  // resumes: nothing to do
  EXPECT_EQ(read_file(path("out.jsonl")), first);
  expect_refused(generate(batch), 3, "was not made with this model and these settings");
  for (const auto& one : lines_of(generate({"--prompt", "bird", "--samples", "2", "--top-logprobs",
                                            "1", "--max-new-tokens", "3"})
                                      .out))
    EXPECT_EQ(one["token_logprobs"].size(), 3u);
  expect_refused(generate({"--prompt", "a", "--top-logprobs", "2"}), 2, "needs --json-events");
  expect_refused(generate({"--prompt", "a", "--prompt-logprobs"}), 2, "needs --json-events");
}

TEST_F(ShellCommands, BansAndBiasesBelongToTheSettings) {
  write_file(path("in.jsonl"), "{\"prompt\":\"bird\"}\n");
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--input", path("in.jsonl"), "--output", "-", "--max-new-tokens", "40",
                             "--quiet"});
    const auto result = generate(more);
    EXPECT_EQ(result.status, 0) << result.err;
    return lines_of(result.out).front();
  };
  const auto plain = run({});
  std::vector<std::string> seen = {plain["settings"]};
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--ignore-end"}, {"--ban-id", "32"}, {"--bias", "32=-4"}}) {
    const auto line = run(flags);
    EXPECT_THAT(seen, Not(testing::Contains(line["settings"])));
    seen.push_back(line["settings"]);
    if (flags[0] == "--ban-id") {
      EXPECT_THAT(line["prediction"].get<std::string>(), Not(HasSubstr(" ")));
    }
  }
  EXPECT_THAT(generate({"--interactive", "--max-new-tokens", "40", "--ban-id", "32"}, "bird\n").out,
              Not(HasSubstr(" ")));
  EXPECT_EQ(generate({"--prompt", "bird", "--max-new-tokens", "3", "--temperature", "0", "--bias",
                      "122=1000"})
                .out,
            "zzz\n");
  expect_refused(generate({"--prompt", "a", "--ban-id", "257"}), 2,
                 "--ban-id: expected a token id from 0 to 256, got 257");
  expect_refused(generate({"--prompt", "a", "--bias", "5"}), 2, "--bias: expected ID=X");
  expect_refused(generate({"--prompt", "a", "--bias", "5=inf"}), 2, "--bias: expected a finite");
  expect_refused(generate({"--prompt", "a", "--ignore-ends"}), 2, "--ignore-end");
  expect_refused(run_program({"eval", "--model", path("run"), "--prompts", path("in.jsonl"),
                              "--ban-id", "999"}),
                 2, "--ban-id: expected a token id");
}

TEST_F(ShellCommands, AServedTextIsThatOfGenerate) {
  std::string requests;
  for (int seed = 0; seed < 6; ++seed)
    requests +=
        json{{"id", seed}, {"prompt", "bird"}, {"seed", seed}, {"stream", seed % 2 == 0}}.dump() +
        "\n";
  const auto served = generate({"--serve-stdin", "--batch", "3", "--max-new-tokens", "25"},
                               requests + "nonsense\n");
  ASSERT_EQ(served.status, 0) << served.err;
  EXPECT_EQ(served.err, "");
  std::map<int, std::string> texts;
  int errors = 0;
  for (const auto& one : lines_of(served.out)) {
    if (one["event"] == "error") ++errors;
    if (one["event"] == "token") texts[one["id"]] += one["text"];
    if (one["event"] == "end") texts[one["id"]] += one.value("prediction", one.value("text", ""));
  }
  EXPECT_EQ(errors, 1);
  for (int seed = 0; seed < 6; ++seed)
    EXPECT_EQ(texts[seed] + "\n", generate({"--prompt", "bird", "--seed", std::to_string(seed),
                                            "--max-new-tokens", "25"})
                                      .out);
}

TEST_F(ShellCommands, ASignalEndsAServerAtOnce) {
  const Program server({"generate", "--model", path("run"), "--serve-stdin"},
                       R"({"id":1,"prompt":"a","max_new_tokens":1000000000,"ignore_end":true})");
  while (server.output().find("\"token\"") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  server.signal(SIGTERM);
  const auto result = server.result();
  EXPECT_EQ(result.status, 128 + SIGTERM);
  const auto events = lines_of(result.out);
  EXPECT_EQ(events.back()["event"], "end");
  EXPECT_EQ(events.back()["ended_by"], "interrupt");
}

TEST_F(ShellCommands, RefuseFlagsThatDoNotGoWithServing) {
  expect_refused(generate({"--serve-stdin", "--prompt", "a"}), 2, "--serve-stdin");
  expect_refused(generate({"--serve-stdin", "--samples", "2"}), 2, "--serve-stdin");
  expect_refused(generate({"--serve-stdin", "--json-events"}), 2, "--serve-stdin");
  expect_refused(generate({"--serve-stdin", "--echo"}), 2, "--echo");
  expect_refused(generate({"--prompt", "a", "--keep-mib", "3"}), 2, "needs --serve-stdin");
}

TEST_F(ShellCommands, EmbedGivesAVectorPerText) {
  const auto piped = embed({"--normalize"}, "bird\nthe fox\n");
  ASSERT_EQ(piped.status, 0) << piped.err;
  const auto lines = lines_of(piped.out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1]["text"], "the fox");
  double squares = 0;
  for (const auto& one : lines[1]["embedding"]) squares += std::pow(one.get<double>(), 2);
  EXPECT_NEAR(squares, 1, 1e-5);
  EXPECT_EQ(lines_of(embed({"--normalize", "--text", "the fox", "--threads", "1"}).out)[0],
            lines[1]);
  write_file(path("in.jsonl"), "{\"id\":7,\"say\":\"the fox\"}\n");
  const auto other = lines_of(
      embed({"--normalize", "--input", path("in.jsonl"), "--field", "say", "--quiet"}).out)[0];
  EXPECT_EQ(other["id"], 7);
  EXPECT_EQ(other["embedding"], lines[1]["embedding"]);
  ASSERT_EQ(
      embed({"--input", path("in.jsonl"), "--field", "say", "--output", path("v.npy")}).status, 0);
  EXPECT_THAT(read_file(path("v.npy")), testing::StartsWith("\x93NUMPY"));
}

TEST_F(ShellCommands, EmbedRefusesWhatHasNoVector) {
  expect_refused(embed({"--text", ""}), 3, "--text: is empty");
  expect_refused(embed({}, ""), 3, "standard input: holds no texts");
  expect_refused(embed({}, "a\n\n"), 3, "standard input:2: is empty");
  expect_refused(embed({"--text", "a", "--pool", "max"}), 2, "--pool: expected mean or last");
  expect_refused(embed({"--text", "a", "--input", "b"}), 2, "--text: cannot be given together");
  expect_refused(embed({"--field", "x"}, "a\n"), 2, "--field: has no effect here");
  expect_refused(embed({"--input", path("none")}), 3, "none");
  expect_refused(embed({"--text", "a", "--output", path("none/v.npy")}), 3, "none/v.npy");
  expect_refused(embed({"--input", path("text.txt"), "--output", path("text.txt")}), 2,
                 "the same file");
  expect_refused(embed({"--text", "a", "--normalise"}), 2, "--normalize");
}

}  // namespace
}  // namespace rwkvx
