// tokenizer.json against what the library tokenizers gives (tests/golden/make_tokenizers.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/text/tokenizer.h"
#include "support/golden.h"
#include "support/scratch.h"
#include "text/unicode.h"
#include "text/words.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

const char* const kNames[] = {"nfc", "prefix", "whole"};

std::filesystem::path golden_file(const std::string& name) {
  return test::golden_dirs("tokenizer").front() / name;
}

ordered_json tree(const std::string& name) {
  return ordered_json::parse(read_file(golden_file(name + ".json")));
}

std::unique_ptr<Tokenizer> load_text(const std::string& json) {
  const ScratchDirectory scratch;
  write_file(scratch / "t.json", json);
  return load_tokenizer(scratch / "t.json");
}

std::string refusal(const ordered_json& json) {
  try {
    load_text(json.dump());
  } catch (const DataError& error) {
    return error.what();
  }
  return "no DataError";
}

constexpr TokenId kCafe = 421;  // the first of these, or the last of the others

TEST(HuggingFace, GivesTheIdsAndTextsOfTheLibrary) {
  for (const std::string name : kNames) {
    const auto tokenizer = load_tokenizer(golden_file(name + ".json"));
    const auto ends = tokenizer->document_end();
    std::ifstream lines(golden_file(name + ".jsonl"));
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const auto row = nlohmann::json::parse(line);
      const auto ids = row["ids"].get<std::vector<TokenId>>();
      ASSERT_EQ(tokenizer->encode(row["text"].get<std::string>()), ids) << name << " " << row;
      // The end of a document has no text here; of added tokens with letters that are not ASCII the
      // library's decoder loses bytes.
      const auto differs = [&](TokenId id) { return id == ends || id >= kCafe; };
      if (std::any_of(ids.begin(), ids.end(), differs)) continue;
      ASSERT_EQ(replace_invalid_utf8(tokenizer->decode(ids)), row["decoded"]) << name << " " << row;
    }
    EXPECT_GT(count, 300);
  }
}

TEST(HuggingFace, GivesTheSameIdsPieceByPieceAndAgain) {
  const auto tokenizer = load_tokenizer(golden_file("nfc.json"));
  const std::string text = "The ship's captain. The ship's captain. \xF0\x9F\x98\x80";
  const auto ids = tokenizer->encode(text);
  EXPECT_EQ(tokenizer->encode(text), ids);
  std::string pieces;
  for (const auto id : ids) pieces += tokenizer->piece(id);
  EXPECT_EQ(pieces, text);
}

TEST(HuggingFace, KeepsTheBytesOfTextThatIsNotUtf8) {
  const std::string text = "a\xFF\xC0 b\xE3\x81 \xED\xA0\x80";
  for (const std::string name : {"nfc", "whole"}) {
    const auto tokenizer = load_tokenizer(golden_file(name + ".json"));
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << name;
  }
  // A file may leave out the bytes that no character has.
  auto json = tree("nfc");
  json["model"]["vocab"].erase("\xC3\xBF");  // the byte 0xFF
  const auto tokenizer = load_text(json.dump());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xFF")), "a\xEF\xBF\xBD");
  EXPECT_FALSE(tokenizer->lossless());
}

TEST(HuggingFace, SaysWhetherItKeepsTexts) {
  EXPECT_FALSE(load_tokenizer(golden_file("nfc.json"))->lossless());
  EXPECT_FALSE(load_tokenizer(golden_file("prefix.json"))->lossless());
  EXPECT_TRUE(load_tokenizer(golden_file("whole.json"))->lossless());
}

TEST(HuggingFace, IsSavedAsItWas) {
  const auto tokenizer = load_tokenizer(golden_file("prefix.json"));
  const ScratchDirectory scratch;
  tokenizer->save(scratch.path());
  EXPECT_EQ(read_file(scratch / "tokenizer.json"), read_file(golden_file("prefix.json")));
  for (const auto& path : {scratch.path(), scratch / "tokenizer.json"}) {
    const auto loaded = load_tokenizer(path);
    EXPECT_EQ(loaded->kind(), "huggingface");
    EXPECT_EQ(loaded->hash(), tokenizer->hash());
    EXPECT_EQ(loaded->vocab_size(), 423);
    EXPECT_EQ(loaded->document_end(), 0);
  }
}

TEST(HuggingFace, RefusesByNameWhatItDoesNotRead) {
  const auto with = [](const std::string& pointer, const ordered_json& value) {
    auto json = tree("nfc");
    json[ordered_json::json_pointer(pointer)] = value;
    return refusal(json);
  };
  const ordered_json split{{"type", "Split"}}, nfkc{{"type", "NFKC"}};
  EXPECT_THAT(with("/normalizer", nfkc), HasSubstr("normalizer.type = \"NFKC\""));
  EXPECT_THAT(with("/normalizer", {{"type", "Sequence"}, {"normalizers", {nfkc}}}),
              HasSubstr("normalizers.type = \"NFKC\""));
  EXPECT_THAT(with("/pre_tokenizer", split), HasSubstr("pre_tokenizer.type = \"Split\""));
  EXPECT_THAT(with("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, split}}}),
              HasSubstr("expected ByteLevel alone, got 2"));
  EXPECT_THAT(with("/decoder", {{"type", "Metaspace"}}), HasSubstr("decoder.type = \"Metaspace\""));
  EXPECT_THAT(with("/post_processor", {{"type", "TemplateProcessing"}}),
              HasSubstr("post_processor.type = \"TemplateProcessing\""));
  EXPECT_THAT(with("/truncation", {{"max_length", 3}}), HasSubstr("truncation"));
  EXPECT_THAT(with("/version", "2.0"), HasSubstr("version"));
  EXPECT_THAT(with("/novelty", 1), HasSubstr("novelty is not supported"));
  EXPECT_THAT(with("/model/novelty", 1), HasSubstr("model.novelty is not supported"));
  EXPECT_THAT(with("/model/type", "WordPiece"), HasSubstr("model.type = \"WordPiece\""));
  EXPECT_THAT(with("/model/byte_fallback", true), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(with("/model/dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(with("/model/end_of_word_suffix", "</w>"), HasSubstr("model.end_of_word_suffix"));
  EXPECT_THAT(with("/added_tokens/0/lstrip", true), HasSubstr("added_tokens.lstrip"));
  EXPECT_THAT(with("/added_tokens/0/content", "<end>"), HasSubstr("token that ends documents"));
  EXPECT_THAT(with("/added_tokens/0/content", "<|pad|>"), HasSubstr("token that ends documents"));
}

TEST(HuggingFace, NamesWhatIsWrongInAFile) {
  const auto with = [](const std::string& pointer, const ordered_json& value) {
    auto json = tree("nfc");
    json[ordered_json::json_pointer(pointer)] = value;
    return refusal(json);
  };
  EXPECT_THAT(with("/model/vocab/q", -1), HasSubstr("id -1 is not in 0 to"));
  EXPECT_THAT(with("/model/vocab/q", 8000000), HasSubstr("has id 8000000, but only"));
  EXPECT_THAT(with("/model/vocab/q", 1e30), HasSubstr("expected an integer"));
  EXPECT_THAT(with("/model/vocab/q", 20), HasSubstr("has id 20 twice"));
  EXPECT_THAT(with("/model/vocab", 3), HasSubstr("model.vocab: expected an object, got a number"));
  EXPECT_THAT(with("/model/merges", 3), HasSubstr("model.merges: expected an array"));
  EXPECT_THAT(with("/model/merges/1", "a b c"), HasSubstr("model.merges: entry 1"));
  EXPECT_THAT(with("/model/merges/1", {"q", 3}), HasSubstr("model.merges: entry 1"));
  EXPECT_THAT(with("/model/merges/1", "qq q"), HasSubstr("needs the token \"qq\""));
  EXPECT_THAT(with("/added_tokens/0/content", ""), HasSubstr("a token is empty"));
  auto json = tree("nfc");
  json["model"]["vocab"].erase("q");
  EXPECT_THAT(refusal(json), HasSubstr("no token for the single byte 113"));
  json.erase("model");
  EXPECT_THAT(refusal(json), HasSubstr("is not a Hugging Face tokenizer.json"));
  EXPECT_THAT(refusal(3), HasSubstr("is not valid JSON"));
  EXPECT_THROW(load_text("{\"model\":" + std::string(100'000, '[')), DataError);
  EXPECT_THROW(load_text(""), DataError);
}

TEST(Words, AreThoseOfTheRegularExpression) {
  const auto words = [](std::string_view text) {
    std::vector<std::string> found;
    while (!text.empty()) {
      found.emplace_back(text.substr(0, first_word(text)));
      text.remove_prefix(found.back().size());
    }
    return found;
  };
  using Words = std::vector<std::string>;
  EXPECT_EQ(words("it's 'll'x"), (Words{"it", "'s", " '", "ll", "'", "x"}));
  EXPECT_EQ(words("a  b \n c  "), (Words{"a", " ", " b", " \n", " c", "  "}));
  EXPECT_EQ(words(" 12abc!? \xFFz"), (Words{" 12", "abc", "!?", " \xFF", "z"}));
}

TEST(Compose, LeavesTextThatIsComposedWhereItIs) {
  std::string room;
  const std::string_view text = "caf\xC3\xA9 \xFF \xEA\xB0\x81";
  EXPECT_EQ(compose(text, room).data(), text.data());
  EXPECT_EQ(compose("e\xCC\x81x\xFF\xCC\x81", room), "\xC3\xA9x\xFF\xCC\x81");
  // Marks are put in order whatever their number.
  std::string marks = "a", wanted = "a";
  for (int i = 0; i < 5000; ++i) marks += "\xCC\x81\xCC\xA3";
  EXPECT_EQ(compose(marks, room).substr(0, 3), "\xE1\xBA\xA1");
}

}  // namespace
}  // namespace rwkvx
