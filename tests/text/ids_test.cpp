// Tokenizers that are known by name: bytes and ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/text/tokenizer.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using Ids = std::vector<TokenId>;

TEST(TokenizerNames, StandForBytesAndIds) {
  EXPECT_EQ(load_tokenizer("byte")->vocab_size(), 257);
  EXPECT_EQ(load_tokenizer("ids:5")->vocab_size(), 6);
  EXPECT_EQ(load_tokenizer("ids:5")->document_end(), 5);
  EXPECT_EQ(load_tokenizer("ids:5:0")->vocab_size(), 5);
  EXPECT_EQ(load_tokenizer("ids:5:0")->document_end(), 0);
  EXPECT_EQ(load_tokenizer("ids:5:none")->vocab_size(), 5);
  EXPECT_EQ(load_tokenizer("ids:5:none")->document_end(), kNoToken);
  EXPECT_EQ(load_tokenizer("ids:5:none")->text_start(), 0);
  for (const char* name :
       {"ids:", "ids:0", "ids:x", "ids:5:", "ids:5:-1", "ids:99999999999", "ids:5:1:2"})
    EXPECT_THROW(load_tokenizer(name), DataError) << name;
  EXPECT_THROW(load_tokenizer("bytes"), FileError);
}

TEST(TokenizerNames, AreSavedAndLoaded) {
  for (const char* name : {"byte", "ids:5", "ids:5:0", "ids:5:none"}) {
    const auto tokenizer = load_tokenizer(name);
    const ScratchDirectory scratch;
    tokenizer->save(scratch.path());
    const auto loaded = load_tokenizer(scratch.path());
    EXPECT_EQ(loaded->hash(), tokenizer->hash()) << name;
    EXPECT_EQ(loaded->vocab_size(), tokenizer->vocab_size()) << name;
    EXPECT_EQ(loaded->document_end(), tokenizer->document_end()) << name;
  }
}

TEST(Ids, AreWrittenAsNumbers) {
  const auto tokenizer = load_tokenizer("ids:300");
  EXPECT_EQ(tokenizer->encode(" 1 22\n[299, 0]"), (Ids{1, 22, 299, 0}));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->decode({1, 22, 299, 300, 0}), "1 22 299 0");
  EXPECT_EQ(tokenizer->piece(22), " 22");
  EXPECT_FALSE(tokenizer->lossless());
  for (const char* text : {"301", "-1", "x", "1.5", "1e2", "99999999999"})
    EXPECT_THROW(tokenizer->encode(text), DataError) << text;
}

TEST(Bytes, MayHaveNoDocumentEnd) {
  const auto bytes = make_byte_tokenizer(/*document_end=*/false);
  EXPECT_EQ(bytes->vocab_size(), 256);
  EXPECT_EQ(bytes->document_end(), kNoToken);
  EXPECT_EQ(bytes->text_start(), '\n');
  EXPECT_NE(bytes->hash(), make_byte_tokenizer()->hash());
  EXPECT_THROW(bytes->piece(256), DataError);
}

}  // namespace
}  // namespace rwkvx
