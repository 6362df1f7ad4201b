#include "rwkvx/data/supervised.h"

#include <gtest/gtest.h>

#include "rwkvx/base/output_file.h"
#include "rwkvx/data/batches.h"
#include "rwkvx/data/chat_template.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

class Supervised : public ::testing::Test {
 protected:
  SupervisedSet read(const std::string& text, std::int64_t ctx_len = 1000) {
    write_file(folder_.path() / "a.jsonl", text);
    return read_supervised({(folder_.path() / "a.jsonl").string()}, config_, *make_byte_tokenizer(),
                           ctx_len, TextPart::kAll, 2, /*quiet=*/true);
  }
  std::string refusal(const std::string& text) {
    try {
      read(text);
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }
  // The inputs as text, with | for the id that starts and ends documents.
  static std::string text_of(std::span<const TokenId> ids) {
    std::string text;
    for (const auto id : ids) text += id == 256 ? '|' : static_cast<char>(id);
    return text;
  }
  static std::string learned(const SupervisedSet& set, std::int64_t document) {
    std::string text;
    const auto targets = set.targets(document);
    const auto weights = set.weights(document);
    for (std::size_t i = 0; i < targets.size(); ++i)
      if (weights[i] != 0) text += targets[i] == 256 ? '|' : static_cast<char>(targets[i]);
    return text;
  }
  DataConfig config_ = [] {
    DataConfig config;
    config.format = DataFormat::kPairs;
    return config;
  }();
  ScratchDirectory folder_;
};

TEST_F(Supervised, PairsComeAgainWithOtherValues) {
  const std::string text = R"({"prompt": "n[Abc]", "response": ["to Abc now", "no name"]})";
  const auto before = read(text);
  config_.swap_variants = 3, config_.swap_share = 1;
  const auto set = read(text);
  ASSERT_EQ(set.size(), 2 + 3) << "a response without the value comes once";
  EXPECT_EQ(text_of(set.inputs(0)), text_of(before.inputs(0)));
  for (std::int64_t i = 1; i < 4; ++i) {
    const auto inputs = text_of(set.inputs(i));
    const auto value = inputs.substr(3, inputs.find(']') - 3);
    EXPECT_NE(value, "Abc");
    EXPECT_EQ(inputs, "|n[" + value + "]\nto " + value + " now");
    EXPECT_EQ(learned(set, i), "to " + value + " now|");
  }
  EXPECT_EQ(text_of(set.inputs(4)), "|n[Abc]\nno name");
}

TEST_F(Supervised, LearnsTheResponseAndTheEnd) {
  const auto set = read(R"({"prompt": "ab", "response": "cd"})"
                        "\n\n"
                        R"({"prompt": "", "response": "x", "weight": 0.5})"
                        "\n");
  ASSERT_EQ(set.size(), 2);
  EXPECT_EQ(text_of(set.inputs(0)), "|ab\ncd");
  EXPECT_EQ(text_of(set.targets(0)), "ab\ncd|");
  EXPECT_EQ(learned(set, 0), "cd|");
  EXPECT_EQ(learned(set, 1), "x|");
  EXPECT_EQ(set.weights(1).back(), 0.5f);
  EXPECT_EQ(set.learned, 5);
}

TEST_F(Supervised, EveryResponseMakesAPair) {
  config_.response_field = "references";
  config_.chat_template = "<{prompt}>{response}.";
  const auto set = read(R"({"prompt": "p", "references": ["a", "b"]})");
  ASSERT_EQ(set.size(), 2);
  EXPECT_EQ(text_of(set.inputs(0)), "|<p>a.");
  EXPECT_EQ(learned(set, 1), "b.|");
}

TEST_F(Supervised, CanLearnAllOfIt) {
  config_.loss_on = LossOn::kAll;
  EXPECT_EQ(learned(read(R"({"prompt": "ab", "response": "c"})"), 0), "ab\nc|");
}

TEST_F(Supervised, CutsPromptsAtTheirBeginning) {
  const std::string line = R"({"prompt": "0123456789", "response": "abc"})";
  auto set = read(line, 8);
  EXPECT_EQ(text_of(set.inputs(0)), "|789\nabc");
  EXPECT_EQ(set.cut, 1);
  config_.too_long = TooLong::kCutResponse;
  EXPECT_EQ(text_of(read(line, 13).inputs(0)), "|0123456789\na");
  config_.too_long = TooLong::kSkip;
  EXPECT_EQ(read(line + "\n" + R"({"prompt": "", "response": "x"})", 8).skipped, 1);
}

TEST_F(Supervised, MessagesBecomeATemplatesText) {
  config_.format = DataFormat::kMessages;
  const std::string line =
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"},)"
      R"( {"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]})";
  config_.chat_template = "user_assistant";
  auto set = read(line);
  EXPECT_EQ(text_of(set.inputs(0)), "|User: Hi\n\nAssistant: Yo\n\nUser: A\n\nAssistant: B");
  EXPECT_EQ(learned(set, 0), " Yo\n\n B|");
  config_.chat_template = "chatml";
  set = read(line);
  EXPECT_EQ(learned(set, 0), "Yo<|im_end|>\nB<|im_end|>|");
  config_.chat_template = "[{role}]{content};";
  EXPECT_EQ(text_of(read(line).inputs(0)), "|[user]Hi;[assistant]Yo;[user]A;[assistant]B;");
}

TEST_F(Supervised, TakesReadyIds) {
  const auto set = read(R"({"ids": [1, 2, 3], "weights": [0, 2, 0]})");
  EXPECT_EQ(set.inputs(0)[1], 2);
  EXPECT_EQ(set.weights(0)[0], 2);
  EXPECT_NE(refusal(R"({"ids": [1, 999]})").find("999"), std::string::npos);
}

TEST_F(Supervised, RefusesInOneClearLine) {
  EXPECT_NE(refusal(R"({"prompt": "a", "response": ""})")
                .find("a.jsonl:1: field \"response\": the "
                      "response is empty"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"promt": "a", "response": "b"})").find("did you mean \"promt\""),
            std::string::npos);
  EXPECT_NE(refusal(R"({"prompt": 3, "response": "b"})").find("expected a string, got 3"),
            std::string::npos);
  config_.format = DataFormat::kMessages;
  EXPECT_NE(refusal(R"({"messages": [{"role": "bot", "content": "x"}]})")
                .find("unknown role \"bot\"; expected system, user or assistant"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"messages": [{"role": "user", "content": "x"}]})").find("last message"),
            std::string::npos);
  config_.chat_template = "no parts";
  EXPECT_NE(refusal(R"({"messages": []})").find("{role} and {content}"), std::string::npos);
  config_.chat_template = "plain";
  config_.format = DataFormat::kPairs;
  config_.skip_bad_lines = true;
  EXPECT_EQ(read("[]\n"
                 R"({"prompt": "a", "response": "b"})")
                .manifest.skipped_lines,
            1);
}

TEST_F(Supervised, BatchesHoldWholeDocumentsEachOnceInAnEpoch) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += R"({"prompt": "", "response": ")" + std::string(static_cast<std::size_t>(20 + i), 'x') +
            "\"}\n";
  const auto set = read(text);
  const auto batches = packed_batches(set, 200, 7);
  std::vector<std::int64_t> lengths;
  TokenBatch batch;
  for (std::int64_t position = 0; position < 40; position = batch.next) {
    batches->fill(position, batch);
    EXPECT_EQ(batch.position, position);
    EXPECT_LE(batch.inputs.size(), 200u);
    EXPECT_GT(batch.inputs.size(), 120u);
    lengths.insert(lengths.end(), batch.lengths.begin(), batch.lengths.end());
  }
  lengths.resize(40);
  std::ranges::sort(lengths);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(lengths[static_cast<std::size_t>(i)], 22 + i);
  std::int64_t targets = 0;
  const auto checks = packed_checks(set, 200, 0);
  for (std::int64_t i = 0; i < checks->batches(); ++i) {
    checks->fill(i, batch);
    targets += static_cast<std::int64_t>(batch.targets.size());
  }
  EXPECT_EQ(targets, set.tokens());
}

}  // namespace
}  // namespace rwkvx
