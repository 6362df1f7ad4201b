// Sentencepiece models that other programs trained, with the settings they usually have.
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/text/tokenizer.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

std::vector<std::string> sentences() {
  static constexpr const char* kWords[] = {"river", "lamp", "seven", "Old",     "stone",
                                           "walks", "the",  "under", "morning", "glass"};
  std::mt19937 random(4);
  std::vector<std::string> lines;
  for (int i = 0; i < 300; ++i) {
    std::string line;
    for (int word = 0; word < 8; ++word)
      line += (word == 0 ? "" : " ") + std::string(kWords[random() % 10]);
    lines.push_back(line);
  }
  return lines;
}

// A model of the library's own making, in a file.
std::filesystem::path make_model(const ScratchDirectory& scratch,
                                 std::unordered_map<std::string, std::string> settings) {
  settings.insert({{"vocab_size", "320"}, {"hard_vocab_limit", "false"}, {"minloglevel", "4"}});
  std::string model;
  class Lines : public sentencepiece::SentenceIterator {
   public:
    bool done() const override { return at_ == lines_.size(); }
    void Next() override { ++at_; }
    const std::string& value() const override { return lines_[at_]; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    std::vector<std::string> lines_ = sentences();
    std::size_t at_ = 0;
  } lines;
  EXPECT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model).ok());
  write_file(scratch / "other.model", model);
  return scratch / "other.model";
}

std::vector<int> library_ids(const std::filesystem::path& path, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  EXPECT_TRUE(processor.Load(path.string()).ok());
  std::vector<int> ids;
  EXPECT_TRUE(processor.Encode(text, &ids).ok());
  return ids;
}

TEST(ForeignModel, KeepsItsOwnNormalizationAndIds) {
  for (const char* fallback : {"true", "false"}) {
    const ScratchDirectory scratch;
    const auto path = make_model(scratch, {{"model_type", "bpe"}, {"byte_fallback", fallback}});
    const auto tokenizer = load_tokenizer(path);
    EXPECT_FALSE(tokenizer->lossless());
    EXPECT_EQ(tokenizer->document_end(), 2);
    for (const std::string text : {"the river", "  Old  lamp\nseven ", "stone \xC3\xA9 \xFF", ""})
      EXPECT_EQ(tokenizer->encode(text), library_ids(path, text)) << text;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode("the river  walks")), "the river walks");
  }
}

TEST(ForeignModel, DecodesAsTheLibrary) {
  const std::vector<std::pair<const char*, const char*>> kPrefixes{
      {"true", "true"}, {"true", "false"}, {"false", "true"}, {"false", "false"}};
  for (const char* algorithm : {"bpe", "unigram"})
    for (const auto& [prefix, extra] : kPrefixes) {
      const ScratchDirectory scratch;
      const auto path = make_model(scratch, {{"model_type", algorithm},
                                             {"byte_fallback", "true"},
                                             {"add_dummy_prefix", prefix},
                                             {"remove_extra_whitespaces", extra}});
      const auto tokenizer = load_tokenizer(path);
      sentencepiece::SentencePieceProcessor library;
      ASSERT_TRUE(library.Load(path.string()).ok());
      const auto expect_same = [&](const std::vector<int>& ids, const std::string& what) {
        std::string wanted;
        ASSERT_TRUE(library.Decode(ids, &wanted).ok());
        EXPECT_EQ(tokenizer->decode(ids), wanted)
            << what << ", " << algorithm << ", prefix " << prefix << ", extra " << extra;
      };
      for (const std::string text :
           {"the river", " the river", "   Old  lamp ", "\xC3\xA9t\xC3\xA9 stone", " ", "", "x"})
        expect_same(tokenizer->encode(text), "\"" + text + "\"");
      // Any order of ids, document ends and marks of their own at the start too.
      const int mark = library.PieceToId("\xE2\x96\x81"), word = tokenizer->encode("lamp")[0];
      for (const std::vector<int>& ids :
           std::vector<std::vector<int>>{{mark},
                                         {mark, mark},
                                         {mark, word},
                                         {2, mark, mark, word},
                                         {word, mark, word},
                                         {2, 2, word, 2, word},
                                         {library.PieceToId("<0x20>"), mark, word}})
        expect_same(ids, "ids");
      std::mt19937 random(5);
      for (int i = 0; i < 200; ++i) {
        std::vector<int> ids;
        for (int k = 0; k < 5; ++k) {
          const int id = static_cast<int>(random() % static_cast<unsigned>(library.GetPieceSize()));
          // The library replaces bytes that are no UTF-8; the unknown id has another text here.
          if (!library.IsByte(id) && !library.IsUnknown(id)) ids.push_back(id);
        }
        expect_same(ids, "random");
      }
    }
}

TEST(ForeignModel, IsLosslessWhereItDoesNotRewriteItsInput) {
  const ScratchDirectory scratch;
  const auto path = make_model(scratch, {{"model_type", "unigram"},
                                         {"byte_fallback", "true"},
                                         {"normalization_rule_name", "identity"},
                                         {"add_dummy_prefix", "false"},
                                         {"remove_extra_whitespaces", "false"}});
  const auto tokenizer = load_tokenizer(path);
  EXPECT_TRUE(tokenizer->lossless());
  const std::string text("  Old\xE2\x96\x81 lamp\n\n\xFF\0 seven", 22);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  EXPECT_EQ(tokenizer->encode("the river\nwalks"), library_ids(path, "the river\nwalks"));
}

TEST(ForeignModel, IsRefusedWithoutAnIdThatEndsDocuments) {
  const ScratchDirectory scratch;
  const auto path = make_model(scratch, {{"model_type", "unigram"}, {"eos_id", "-1"}});
  EXPECT_THROW(load_tokenizer(path), DataError);
}

}  // namespace
}  // namespace rwkvx
