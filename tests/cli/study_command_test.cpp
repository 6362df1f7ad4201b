// `rwkvx study` and `rwkvx inspect` as programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

class StudyCommand : public TinyRun {
 protected:
  void SetUp() override {
    study_ = json::parse(R"({
      "base": {"model": {"n_layer": 1, "n_embd": 32}, "tokenizer": {"kind": "byte"},
               "train": {"ctx_len": 32, "batch_size": 2, "max_steps": 6, "log_every": 2,
                         "threads": 1}},
      "seeds": [1, 2],
      "measure": {"prompts": 4, "prompt_words": 8, "reference_words": 6, "test_tokens": 512,
                  "probe_bytes": 2048, "probe_targets": 6, "resamples": 100, "gate_snapshots": 2,
                  "generate": {"max_new_tokens": 8}},
      "data": {"stories": {"synth": "stories", "megabytes": 0.03, "test_megabytes": 0.01},
               "copy": {"synth": "copy", "megabytes": 0.03, "test_megabytes": 0.01}},
      "variants": {"baseline": {"model": {"shift": {"kind": "none"}}}, "enhanced": {}},
      "studies": {
        "ablation": {"data": ["stories"], "variants": ["baseline", "enhanced"]},
        "complexity": {"data": ["stories"], "variants": ["baseline", "enhanced"],
                       "lengths": [32, 64], "batches": [1, 2], "threads": [1], "repeats": 2},
        "domains": {"data": ["stories"], "variants": ["baseline", "enhanced"]},
        "boundaries": {"data": ["stories"], "variants": ["baseline", "enhanced"]},
        "failures": {"data": ["stories", "copy"], "variants": ["baseline", "enhanced"],
                     "lengths": [32, 128]}}})");
    save();
  }
  void save() const { write_file(path("study.json"), study_.dump()); }
  ProgramResult study(const std::vector<std::string>& flags) const {
    std::vector<std::string> all{"study"};
    all.insert(all.end(), flags.begin(), flags.end());
    return run_program(all);
  }
  ProgramResult run(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> flags{"run", path("study.json"), "--output", path(output), "--quiet"};
    flags.insert(flags.end(), more.begin(), more.end());
    return study(flags);
  }
  // Every cell's result without what differs from run to run.
  json results(const std::string& output) const {
    json all = json::object();
    for (const auto& cell : fs::directory_iterator(path(output) + "/cells")) {
      auto one = json::parse(read_file(cell.path() / "result.json"));
      one.erase("seconds");
      one.erase("checksum");  // of the times too
      if (one["result"].contains("log")) one["result"]["log"].erase("tokens_per_second");
      if (one["result"].contains("seconds")) continue;  // of times
      all[cell.path().filename().string()] = one;
    }
    return all;
  }
  json study_;
};

TEST_F(StudyCommand, TasksAreSearchedLearnedMeasuredAndComparedOverSeeds) {
  const auto lines = [](int count, bool choices) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const std::string prompt = "name[N" + std::to_string(i % 7) + "]";
      json line = {{"id", i}, {"prompt", prompt}};
      if (choices)
        line.update({{"choices", {" one", " two"}}, {"answer", i % 2}});
      else
        line.update({{"reference", "This is N" + std::to_string(i % 7)},
                     {"references", {"This is N" + std::to_string(i % 7), "N it is"}}});
      text += line.dump() + "\n";
    }
    return text;
  };
  for (const bool choices : {false, true}) {
    write_file(path(choices ? "c.train" : "p.train"), lines(60, choices));
    write_file(path(choices ? "c.test" : "p.test"), lines(5, choices));
  }
  study_["base"]["train"].update({{"eval_every", 2}, {"patience", 2}});
  study_["search"] = {
      {"steps", 3},
      {"candidates",
       {{{"train", {{"learning_rate", 1e-3}}}}, {{"train", {{"learning_rate", 1e-2}}}}}}};
  study_["data"] = {
      {"pairs",
       {{"train_pairs", "p.train"},
        {"test_pairs", "p.test"},
        {"responses", true},
        {"swap_variants", 1}}},
      {"choices", {{"train_choices", "c.train"}, {"test_choices", "c.test"}}},
      {"recall",
       {{"recall_pairs", 4},
        {"recall_fewest_pairs", 2},
        {"recall_test_pairs", 8},
        {"recall_tokens", 24},
        {"recall_vocab", 32},
        {"recall_lines", 100}}},
      {"stories",
       {{"synth", "stories"}, {"responses", true}, {"megabytes", 0.02}, {"test_megabytes", 0.01}}}};
  study_["studies"] = {{"tasks",
                        {{"data", {"pairs", "choices", "recall", "stories"}},
                         {"variants", {"baseline", "enhanced"}}}}};
  save();
  const auto listed =
      study({"cells", path("study.json"), "--output", path("out"), "--parallel"}).out;
  EXPECT_LT(listed.rfind("searching settings"), listed.find("tasks: training"))
      << "what others need comes first";
  const auto done = run("out", {"--data", path("")});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto before = results("out");
  int searches = 0, trainings = 0;
  for (const auto& cell : before) {
    const auto& result = cell["result"];
    if (result.contains("chosen")) {
      EXPECT_EQ(result["valid_losses"].size(), 2u);
      ++searches;
      continue;
    }
    ++trainings;
    EXPECT_TRUE(result["changes"]["train"].contains("learning_rate"));
    for (const auto& way : result["scores"])
      for (const auto& values : way) {
        if (values.is_array() && !values.empty() && values[0].is_number()) {
          EXPECT_GE(values.size(), 4u);
        }
      }
  }
  EXPECT_EQ(searches, 8);
  EXPECT_EQ(trainings, 16);
  const auto report = study({"report", path("out"), "--output", path("docs"), "--name", "found"});
  ASSERT_EQ(report.status, 0) << report.err;
  const auto text = read_file(path("docs/found.md"));
  for (const char* wanted :
       {"Tasks that are learned", "the nearest training example", "the most frequent answer",
        "recall-pairs-recall.svg", "recall-recall.svg", "seeds needed"})
    EXPECT_THAT(text, HasSubstr(wanted));
  const auto found = json::parse(read_file(path("docs/found/results.json")));
  EXPECT_EQ(found["trainings"].size(), 16u);
  for (const auto& training : found["trainings"])
    if (training["data"] == "pairs" || training["data"] == "stories") {
      const double share = training["scores"]["greedy"]["rougeL"];
      EXPECT_TRUE(share >= 0 && share <= 1) << share;
    } else if (training["data"] == "recall") {
      EXPECT_EQ(training["scores"]["recall"]["by_pairs"].size(), 3u);
    }
  ASSERT_EQ(found["claims"].size(), 4u);
  EXPECT_EQ(found["claims"][0]["numbers"]["by_seed"].size(), 2u);
  const auto again = run("out", {"--data", path("")});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(results("out"), before);
}

TEST_F(StudyCommand, AllStudiesRunAndTheReportHasThem) {
  study_["variants"]["two taps"] = {{"model", {{"shift", {{"kernel", 2}}}}}};
  study_["studies"]["ablation"]["variants"].push_back("two taps");
  save();
  const auto first = run("out");
  ASSERT_EQ(first.status, 0) << first.err;
  const auto report = study({"report", path("out"), "--output", path("docs"), "--name", "found"});
  ASSERT_EQ(report.status, 0) << report.err;
  const auto text = read_file(path("docs/found.md"));
  for (const std::string heading :
       {"## In short", "## What was run", "## Ablation", "## Complexity", "## Domains",
        "## Boundaries", "## Failure signatures", "## The same again"})
    EXPECT_THAT(text, HasSubstr(heading + "\n"));
  for (const char* wanted : {"### Gates at names", "| later name |", "### Names in stories",
                             "### Variants beside the default enhancement",
                             "| two taps is below enhanced on every text |"})
    EXPECT_THAT(text, HasSubstr(wanted));
  EXPECT_THAT(text, HasSubstr("logged losses are equal to the last digit"));
  EXPECT_THAT(text, HasSubstr("byte for byte"));
  EXPECT_THAT(text, HasSubstr("](found/domains.svg)"));
  EXPECT_THAT(read_file(path("docs/found/domains.svg")), HasSubstr("xmlns"));
  EXPECT_THAT(read_file(path("docs/found/report.html")), HasSubstr("</html>"));

  // Nothing is left to do, and the report is the same text.
  const auto before = results("out");
  ASSERT_EQ(run("out").status, 0);
  EXPECT_EQ(results("out"), before);
  ASSERT_EQ(study({"report", path("out"), "--output", path("docs"), "--name", "found"}).status, 0);
  EXPECT_EQ(read_file(path("docs/found.md")), text);
}

TEST_F(StudyCommand, CellsOneByOneGiveTheSameResults) {
  study_["studies"].erase("complexity");
  study_["studies"].erase("domains");
  save();
  ASSERT_EQ(run("whole").status, 0);
  const auto cells = study({"cells", path("study.json"), "--output", path("single")});
  ASSERT_EQ(cells.status, 0) << cells.err;
  std::istringstream lines(cells.out);
  std::vector<std::string> keys;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(line.starts_with("rwkvx study run '")) << line;
    const auto at = line.find("--cell ") + 7;
    keys.push_back(line.substr(at, line.find(' ', at) - at));
  }
  // Backwards, so that cells find what they need not done.
  for (auto key = keys.rbegin(); key != keys.rend(); ++key)
    ASSERT_EQ(run("single", {"--cell", *key}).status, 0);
  EXPECT_EQ(results("single"), results("whole"));
}

TEST_F(StudyCommand, WrongInputIsOneClearLine) {
  auto result = study({"run", path("none.json"), "--output", path("out")});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("does not exist"));
  result = run("out", {"--only", "domain"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("did you mean"));
  result = run("out", {"--cell", "0123"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("has no cell 0123"));
  result = study({"report", path("nowhere")});
  EXPECT_EQ(result.status, 2);
  study_["data"]["stories"] = {{"train", {"missing.txt"}}};
  save();
  result = run("out");
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.err, HasSubstr("missing.txt"));
  EXPECT_THAT(result.err, HasSubstr("--data"));
  EXPECT_FALSE(fs::exists(path("out"))) << "what was refused has changed nothing";
}

TEST_F(StudyCommand, AnotherStudysFileIsLeftAlone) {
  fs::create_directories(path("out"));
  write_file(path("out/study.json"), "{\"mine\": 1}");
  const auto result = run("out");
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.err, HasSubstr("study.json: already exists and belongs to another study"));
  EXPECT_EQ(read_file(path("out/study.json")), "{\"mine\": 1}");
  EXPECT_EQ(std::distance(fs::directory_iterator(path("out")), {}), 1);
}

TEST_F(StudyCommand, AnInterruptedStudyGoesOnAndTwoAtOnceShareTheWork) {
  study_["studies"] = {
      {"ablation", {{"data", {"stories"}}, {"variants", {"baseline", "enhanced"}}}}};
  save();
  ASSERT_EQ(run("whole").status, 0);
  const std::vector<std::string> words{"study",    "run",       path("study.json"),
                                       "--output", path("out"), "--quiet"};
  {
    const Program program(words);
    for (int i = 0; i < 600 && !fs::exists(path("out/cells")); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    program.signal(SIGHUP);
    const auto result = program.result();
    EXPECT_TRUE(result.status == 128 + SIGHUP || result.status == 0) << result.err;
  }
  const Program first(words), second(words);
  for (const auto* program : {&first, &second}) {
    const auto result = program->result();
    EXPECT_EQ(result.status, 0) << result.err;
  }
  EXPECT_EQ(results("out"), results("whole"));
}

TEST_F(StudyCommand, InspectShowsGatesKernelsAndMemory) {
  make_model();
  const auto result = run_program({"inspect", "--model", path("run"), "--prompt",
                                   "The bird <sang>.", "--json", "--output", path("page.html")});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  ASSERT_FALSE(found["sites"].empty());
  for (const auto& site : found["sites"]) {
    EXPECT_EQ(site["gate"].size(), found["tokens"].size());
    for (const double gate : site["gate"]) EXPECT_TRUE(gate >= 0 && gate <= 1);
  }
  EXPECT_EQ(found["kernels"].size(), found["sites"].size());
  for (const auto& layer : found["half_lives"]) EXPECT_GT(layer["tokens"]["least"], 0);
  const auto page = read_file(path("page.html"));
  EXPECT_THAT(page, HasSubstr("Kernel by position"));
  EXPECT_THAT(page, testing::Not(HasSubstr("<sang>")));

  EXPECT_EQ(run_program({"inspect", "--model", path("run"), "--json"}).status, 2);
  EXPECT_EQ(run_program({"inspect", "--model", path("run"), "--prompt", "a"}).status, 2);
}

}  // namespace
}  // namespace rwkvx
