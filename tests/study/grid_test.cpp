#include "rwkvx/study/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/study/data_sets.h"

namespace rwkvx {
namespace {

using nlohmann::json;

class StudyFiles : public testing::Test {
 protected:
  json minimal() const {
    return json::parse(R"({"base": {"model": {"n_layer": 1, "n_embd": 32}},
      "seeds": [1, 2], "data": {"stories": {"synth": "stories"}, "copy": {"synth": "copy"}},
      "variants": {"baseline": {"model": {"shift": {"kind": "none"}}}, "enhanced": {}},
      "studies": {"ablation": {"data": ["stories"], "variants": ["baseline", "enhanced"]},
                  "failures": {"data": ["stories", "copy"], "variants": ["baseline", "enhanced"],
                               "lengths": [64, 128]}}})");
  }
  StudyFile read(const json& document) {
    write_file(folder_.path() / "study.json", document.dump());
    return read_study_file((folder_.path() / "study.json").string());
  }
  std::string error(const json& document) {
    try {
      read(document);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
};

TEST_F(StudyFiles, StudiesShareTheirTrainings) {
  const auto cells = expand_grid(read(minimal()));
  int trainings = 0, probes = 0;
  std::set<std::string> keys;
  for (const auto& cell : cells) {
    (cell.work == CellKind::kTraining ? trainings : probes) += 1;
    EXPECT_TRUE(keys.insert(cell.key).second);
    for (const auto& need : cell.needs) EXPECT_TRUE(keys.contains(need)) << "made before";
  }
  EXPECT_EQ(trainings, 2 * 2 * 2 + 1);  // data x seeds x variants, and one of them once more
  EXPECT_EQ(probes, 4);
}

TEST_F(StudyFiles, AKeyChangesWithWhatTheResultDependsOnAlone) {
  const auto before = expand_grid(read(minimal()));
  auto other = minimal();
  other["studies"]["failures"]["lengths"] = {64, 256};
  const auto same = expand_grid(read(other));
  EXPECT_EQ(find_training(before, "enhanced", "stories", 1)->key,
            find_training(same, "enhanced", "stories", 1)->key);
  EXPECT_NE(before.back().key, same.back().key);
  other["base"]["train"]["max_steps"] = 7;
  EXPECT_NE(find_training(before, "enhanced", "stories", 1)->key,
            find_training(expand_grid(read(other)), "enhanced", "stories", 1)->key);
}

TEST_F(StudyFiles, WhatIsWrongIsNamed) {
  auto document = minimal();
  document["studies"]["ablations"] = document["studies"]["ablation"];
  EXPECT_THAT(error(document), testing::HasSubstr("did you mean"));
  document = minimal();
  document["studies"]["ablation"]["data"] = {"storys"};
  EXPECT_THAT(error(document), testing::HasSubstr("studies.ablation.data"));
  document = minimal();
  document["variants"].erase("baseline");
  EXPECT_THAT(error(document), testing::HasSubstr("\"baseline\""));
  document = minimal();
  document["variants"]["enhanced"]["train"]["max_steps"] = 5;
  EXPECT_THAT(error(document), testing::HasSubstr("as for all variants"));
  document = minimal();
  document["variants"]["enhanced"]["model"]["n_embdd"] = 5;
  EXPECT_THAT(error(document), testing::HasSubstr("n_embdd"));
  document = minimal();
  document["seeds"] = json::array();
  EXPECT_THAT(error(document), testing::HasSubstr("seeds"));
  document = minimal();
  document["data"]["copy"] = json{{"synth", "copy"}, {"train", {"a.txt"}}};
  EXPECT_THAT(error(document), testing::HasSubstr("one of train, train_pairs"));
}

TEST_F(StudyFiles, SettingsAreSearchedOncePerVariantBeforeItsTrainings) {
  auto document = minimal();
  document["data"] = {{"recall", {{"recall_pairs", 4}}}};
  document["base"]["train"] = {{"max_steps", 100}, {"eval_every", 10}, {"patience", 2}};
  document["studies"] = {{"tasks", {{"data", {"recall"}}, {"variants", {"baseline", "enhanced"}}}}};
  const auto without = expand_grid(read(document));
  EXPECT_EQ(without.size(), 4u);
  document["search"] = {
      {"steps", 20},
      {"candidates",
       {{{"train", {{"learning_rate", 1e-3}}}}, {{"train", {{"learning_rate", 1e-2}}}}}}};
  const auto cells = expand_grid(read(document));
  int searches = 0;
  std::set<std::string> keys;
  for (const auto& cell : cells) {
    searches += cell.work == CellKind::kSearch;
    keys.insert(cell.key);
    EXPECT_EQ(cell.config.train.eval_every, 10);
    EXPECT_EQ(cell.config.train.patience, 2);
    if (cell.work == CellKind::kSearch) {
      EXPECT_EQ(cell.seed, 3) << "a seed of its own";
      continue;
    }
    ASSERT_EQ(cell.needs.size(), 1u);
    EXPECT_TRUE(keys.contains(cell.needs[0])) << "made before";
  }
  EXPECT_EQ(searches, 2);
  EXPECT_EQ(cells.size(), 6u);
  EXPECT_NE(find_training(cells, "enhanced", "recall", 1)->key,
            find_training(without, "enhanced", "recall", 1)->key);
}

TEST_F(StudyFiles, AStudyOfAnswersTakesNoRunningTextAndTheOthersNothingElse) {
  auto document = minimal();
  document["data"]["recall"] = {{"recall_pairs", 4}};
  document["studies"]["ablation"]["data"] = {"recall"};
  EXPECT_THAT(error(document), testing::HasSubstr("running text"));
  document = minimal();
  document["studies"]["tasks"] = {{"data", {"stories"}}, {"variants", {"baseline", "enhanced"}}};
  EXPECT_THAT(error(document), testing::HasSubstr("running text"));
  document["data"]["stories"] = {{"recall_pairs", 100}, {"recall_vocab", 256}};
  EXPECT_THAT(error(document), testing::HasSubstr("recall_vocab"));
  document["data"]["stories"] = {{"recall_pairs", 8}, {"recall_test_pairs", 4}};
  EXPECT_THAT(error(document), testing::HasSubstr("recall_test_pairs"));
  document["data"]["stories"] = {{"train", {"a.txt"}}, {"responses", true}};
  EXPECT_THAT(error(document), testing::HasSubstr("needs test"));
  document = minimal();
  document["search"] = {{"candidates", {{{"train", {{"learning_rat", 1e-3}}}}}}};
  EXPECT_THAT(error(document), testing::HasSubstr("learning_rat"));
}

TEST_F(StudyFiles, RecallIsTestedOnMorePairsInAsManyTokensAsTheyNeed) {
  DataSetConfig config;
  config.recall_pairs = 8, config.recall_fewest_pairs = 2, config.recall_tokens = 64;
  config.recall_test_pairs = 32;
  std::vector<std::int64_t> pairs, tokens;
  for (const auto& shape : config.recall_shapes(/*test=*/true)) {
    pairs.push_back(shape.pairs);
    tokens.push_back(shape.tokens);
  }
  EXPECT_THAT(pairs, testing::ElementsAre(2, 4, 8, 16, 32));
  EXPECT_THAT(tokens, testing::ElementsAre(64, 64, 64, 64, 128));
  EXPECT_EQ(config.recall_shapes(/*test=*/false).size(), 3u);
  config.recall_test_pairs = 0;
  EXPECT_EQ(config.recall_shapes(/*test=*/true).size(), 3u);
}

TEST_F(StudyFiles, StoriesAreContinuedInAFolderNamedFromHere) {
  DataSetConfig config;
  config.synth = "stories", config.responses = true;
  config.megabytes = 0.02, config.test_megabytes = 0.01;
  const auto folder = std::filesystem::relative(folder_.path() / "stories");
  const auto set =
      prepare_data_set("stories", config, MeasureConfig(), folder_.path() / "sources", folder);
  EXPECT_GT(set.prompts_count, 0);
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "stories" / "train.jsonl"));
}

TEST(Studies, TheTableIsWhole) {
  std::set<std::string_view> names;
  for (const auto* study : studies()) {
    EXPECT_TRUE(names.insert(study->name).second) << study->name;
    EXPECT_EQ(study_named(study->name), study);
    EXPECT_FALSE(study->question.empty());
    EXPECT_FALSE(study->measures.empty());
    EXPECT_NE(study->report, nullptr);
  }
  EXPECT_EQ(study_named("ablations"), nullptr);
}

TEST(StudyData, WhatStandsInBothTextsIsCounted) {
  const std::string shared = "one two three four five six seven eight nine ten eleven\n";
  const auto overlap = text_overlap("other words here\n" + shared, "something else\n" + shared);
  EXPECT_EQ(overlap.lines, 1);
  EXPECT_EQ(overlap.lines_in_training, 1);
  EXPECT_EQ(overlap.spans, 6);  // of "something else one … eleven"
  EXPECT_EQ(overlap.spans_in_training, 4);
}

}  // namespace
}  // namespace rwkvx
