#include "rwkvx/data/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>

#include "rwkvx/base/error.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

// Three documents of 4, 1 and 3 tokens, each ending in 0.
void write_sample(const std::filesystem::path& prefix, std::int64_t vocab_size = 1000) {
  TokenFileWriter writer(prefix, vocab_size);
  writer.add(std::vector<TokenId>{5, 6, 999});
  writer.end_document(0);
  writer.end_document(0);
  writer.add(std::vector<TokenId>{7});
  writer.add(std::vector<TokenId>{8});
  writer.end_document(0);
  EXPECT_EQ(writer.tokens(), 8);
  EXPECT_EQ(writer.documents(), 3);
  writer.commit();
}

std::string open_error(const std::filesystem::path& prefix) {
  try {
    const TokenFile file(prefix);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_status(), 3);
    return error.what();
  }
  return "no error";
}

TEST(TokenFile, GivesBackWhatWasWritten) {
  for (const std::int64_t vocab_size : {1000, 65536, 65537}) {
    const ScratchDirectory scratch;
    write_sample(scratch / "text", vocab_size);
    for (const char* name : {"text", "text.idx", "text.bin", "text.json"}) {
      const TokenFile file(scratch / name);
      EXPECT_EQ(file.width(), vocab_size <= 65536 ? 2 : 4);
      EXPECT_EQ(file.size(), 8);
      EXPECT_EQ(file.read(0, 8), (std::vector<TokenId>{5, 6, 999, 0, 0, 7, 8, 0}));
      EXPECT_EQ(file.read(2, 3), (std::vector<TokenId>{999, 0, 0}));
      EXPECT_TRUE(file.read(8, 0).empty());
      ASSERT_EQ(file.documents(), 3);
      EXPECT_EQ(file.document(0).begin, 0);
      EXPECT_EQ(file.document(1).begin, 4);
      EXPECT_EQ(file.document(1).end, 5);
      EXPECT_EQ(file.document(2).end, 8);
    }
  }
}

TEST(TokenFile, HasTheDocumentedLayout) {
  const ScratchDirectory scratch;
  write_sample(scratch / "text");
  std::string wanted("MMIDIDX\0\0", 9);
  const auto number = [&](std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) wanted += static_cast<char>(value >> (8 * i));
  };
  number(1, 8), number(8, 1), number(3, 8), number(4, 8);
  number(4, 4), number(1, 4), number(3, 4);
  number(0, 8), number(8, 8), number(10, 8);
  number(0, 8), number(1, 8), number(2, 8), number(3, 8);
  EXPECT_EQ(read_file(scratch / "text.idx"), wanted);
  EXPECT_EQ(read_file(scratch / "text.bin"),
            std::string("\5\0\6\0\xE7\3\0\0\0\0\7\0\x8\0\0\0", 16));
}

TEST(TokenFile, RefusesToReadOutsideItself) {
  const ScratchDirectory scratch;
  write_sample(scratch / "text");
  const TokenFile file(scratch / "text");
  std::vector<std::int64_t> out(16);
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  for (const auto& [offset, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 9}, {8, 1}, {9, 0}, {-1, 2}, {0, -1}, {kMost, 1}, {1, kMost}, {kMost, kMost}})
    EXPECT_THROW(file.read(offset, count, out.data()), DataError) << offset << " " << count;
  EXPECT_THROW(file.read(1, kMost), DataError);
  EXPECT_THROW(file.document(3), DataError);
  EXPECT_THROW(file.document(-1), DataError);
}

TEST(TokenFile, SaysWhichIdDoesNotFitAVocabulary) {
  const ScratchDirectory scratch;
  write_sample(scratch / "text");
  const TokenFile file(scratch / "text");
  file.check_vocab(1000);
  file.check_vocab(65536);
  try {
    file.check_vocab(999);
    FAIL() << "999 does not fit 999 ids";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("token number 2 is id 999"));
    EXPECT_THAT(error.what(), HasSubstr("the vocabulary has 999 ids"));
  }
}

TEST(TokenFile, LeavesNothingWithoutCommit) {
  const ScratchDirectory scratch;
  {
    TokenFileWriter writer(scratch / "text", 100);
    writer.add(std::vector<TokenId>{1, 2, 3});
    writer.end_document(0);
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(TokenFile, RefusesIdsOutsideTheVocabularyWhenWriting) {
  const ScratchDirectory scratch;
  TokenFileWriter writer(scratch / "text", 100);
  EXPECT_THROW(writer.add(std::vector<TokenId>{100}), DataError);
  EXPECT_THROW(writer.add(std::vector<TokenId>{-1}), DataError);
}

TEST(TokenFile, NamesTheFileThatIsMissing) {
  const ScratchDirectory scratch;
  EXPECT_THAT(open_error(scratch / "none"), HasSubstr("none.bin: cannot open"));
  write_file(scratch / "none.bin", "");
  EXPECT_THAT(open_error(scratch / "none"), HasSubstr("none.idx: cannot open"));
}

TEST(TokenFile, RefusesAnIndexThatDoesNotDescribeItsTokens) {
  const ScratchDirectory scratch;
  write_sample(scratch / "text");
  const std::string index = read_file(scratch / "text.idx"), bin = read_file(scratch / "text.bin");
  const auto with = [&](std::size_t offset, std::uint64_t value, std::size_t bytes) {
    std::string changed = index;
    std::memcpy(changed.data() + offset, &value, bytes);
    write_file(scratch / "text.idx", changed);
    return open_error(scratch / "text");
  };
  constexpr auto kHuge = std::uint64_t{1} << 62;
  const std::uint64_t all_ones = ~std::uint64_t{0};
  EXPECT_THAT(with(0, 'X', 1), HasSubstr("text.idx: is not a binidx index"));
  EXPECT_THAT(with(9, 2, 8), HasSubstr("expected version 1, got 2"));
  EXPECT_THAT(with(17, 6, 1), HasSubstr("got type 6"));
  EXPECT_THAT(with(17, 9, 1), HasSubstr("got type 9"));
  EXPECT_THAT(with(17, 4, 1), HasSubstr("expected 16"));  // widths of 4 where 2 was written
  for (const std::uint64_t count : {kHuge, all_ones, std::uint64_t{4}, std::uint64_t{2}}) {
    EXPECT_THAT(with(18, count, 8), HasSubstr("does not fit its")) << count;
    EXPECT_THAT(with(26, count + 1, 8), HasSubstr("does not fit its")) << count;
  }
  EXPECT_THAT(with(26, 0, 8), HasSubstr("does not fit its"));
  EXPECT_THAT(with(34, all_ones, 4), HasSubstr("item 0 has the size -1"));
  EXPECT_THAT(with(34, 3, 4), HasSubstr("item 1 starts at byte 8, expected 6"));
  EXPECT_THAT(with(34, 0x7FFFFFFF, 4), HasSubstr("beyond the 8"));
  EXPECT_THAT(with(34 + 8, 4, 4), HasSubstr("beyond the 8"));
  EXPECT_THAT(with(34 + 8, 2, 4), HasSubstr("text.bin: has 16 bytes"));
  EXPECT_THAT(with(46, 2, 8), HasSubstr("item 0 starts at byte 2"));
  EXPECT_THAT(with(46 + 8, 4, 8), HasSubstr("without gap or overlap"));
  EXPECT_THAT(with(46 + 8, kHuge, 8), HasSubstr("without gap or overlap"));
  EXPECT_THAT(with(70, 1, 8), HasSubstr("document bound 0 is item 1"));
  EXPECT_THAT(with(78, 3, 8), HasSubstr("document bound 2 is item 2"));
  EXPECT_THAT(with(78, all_ones, 8), HasSubstr("document bound 1 is item -1"));
  EXPECT_THAT(with(78, kHuge, 8), HasSubstr("document bound 1"));
  EXPECT_THAT(with(94, 2, 8), HasSubstr("document bound 3 is item 2"));

  write_file(scratch / "text.idx", index);
  for (const std::size_t length : {std::size_t{0}, std::size_t{2}, std::size_t{15}}) {
    write_file(scratch / "text.bin", bin.substr(0, length));
    EXPECT_NE(open_error(scratch / "text"), "no error") << length;
  }
  write_file(scratch / "text.bin", bin + "xy");
  EXPECT_THAT(open_error(scratch / "text"), HasSubstr("text.bin: has 18 bytes"));
}

TEST(TokenFile, RefusesEveryTruncationAndSurvivesEveryChangedByte) {
  const ScratchDirectory scratch;
  write_sample(scratch / "text");
  const std::string index = read_file(scratch / "text.idx");
  for (std::size_t length = 0; length < index.size(); length += 3) {
    write_file(scratch / "text.idx", index.substr(0, length));
    EXPECT_NE(open_error(scratch / "text"), "no error") << length;
  }
  std::mt19937 random(5);
  for (std::size_t at = 0; at < index.size(); ++at) {
    std::string changed = index;
    changed[at] = static_cast<char>(random());
    write_file(scratch / "text.idx", changed);
    try {
      const TokenFile file(scratch / "text");
      EXPECT_EQ(file.read(0, file.size()).size(), 8u);
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace rwkvx
