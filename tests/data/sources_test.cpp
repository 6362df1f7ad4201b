// Token files, arrays, directories and mixtures as what a training reads.
#include "data/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/data/corpus.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<TokenId>;

template <class Value>
std::string bytes_of(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

class DataSources : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) {
    const auto path = scratch_ / name;
    std::filesystem::create_directories(path.parent_path());
    write_file(path, content);
    return path.string();
  }
  // A token file as Megatron's tools write it: one item per document.
  template <class Value>
  std::string tokens(const std::string& name, unsigned char type,
                     const std::vector<std::vector<Value>>& documents) {
    std::string bin, index("MMIDIDX\0\0", 9);
    std::vector<std::int32_t> sizes;
    std::vector<std::int64_t> offsets, bounds{0};
    for (const auto& document : documents) {
      sizes.push_back(static_cast<std::int32_t>(document.size()));
      offsets.push_back(static_cast<std::int64_t>(bin.size()));
      bounds.push_back(bounds.back() + 1);
      bin += bytes_of(document);
    }
    index += bytes_of<std::uint64_t>({1}) + static_cast<char>(type) +
             bytes_of<std::uint64_t>({documents.size(), bounds.size()}) + bytes_of(sizes) +
             bytes_of(offsets) + bytes_of(bounds);
    file(name + ".bin", bin);
    return file(name + ".idx", index);
  }
  std::string npy(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& numbers) {
    std::string header =
        "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(118, ' ');
    return file(name, std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + numbers);
  }
  Ids built(const std::vector<std::string>& sources, const Tokenizer& tokenizer) {
    build_tokens(sources, config_, tokenizer, scratch_ / "out", 1, true);
    const TokenFile found(scratch_ / "out");
    return found.read(0, found.size());
  }
  TokenSets sets(const Tokenizer& tokenizer) {
    return build_token_sets(config_, tokenizer, scratch_ / "run", 1, true);
  }
  std::string refusal(const std::vector<std::string>& sources, const Tokenizer& tokenizer) {
    try {
      built(sources, tokenizer);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  ScratchDirectory scratch_;
  DataConfig config_;
  const std::unique_ptr<Tokenizer> ids_ = make_ids_tokenizer(100, 100);
};

TEST_F(DataSources, FindsTheFilesOfDirectoriesAndPatterns) {
  file("d/b.txt", "b");
  file("d/a.jsonl", "{}");
  file("d/sub/c.txt.gz", "c");
  file("d/.hidden/x.txt", "x");
  file("d/picture.png", "x");
  tokens<std::uint16_t>("d/t", 8, {{1}});
  file("d/t.json", "{}");
  const auto found = find_sources({(scratch_ / "d").string()}, "data.train");
  EXPECT_THAT(found.texts,
              ElementsAre(HasSubstr("a.jsonl"), HasSubstr("b.txt"), HasSubstr("c.txt")));
  EXPECT_THAT(found.tokens, ElementsAre(scratch_ / "d/t"));
  EXPECT_THAT(find_sources({(scratch_ / "d/*.txt").string()}, "").texts,
              ElementsAre(HasSubstr("b.txt")));
  EXPECT_THAT(find_sources({(scratch_ / "d/t*").string()}, "").tokens,
              ElementsAre(scratch_ / "d/t"));
  for (const char* name : {"d/t", "d/t.bin", "d/t.idx"})
    EXPECT_THAT(find_sources({(scratch_ / name).string()}, "").tokens,
                ElementsAre(scratch_ / "d/t"));
  // A name with such characters is a file first.
  EXPECT_THAT(find_sources({file("d/[x].txt", "x")}, "").texts, ElementsAre(HasSubstr("[x].txt")));
  EXPECT_THROW(find_sources({(scratch_ / "d/*.md").string()}, ""), DataError);
  std::filesystem::create_directories(scratch_ / "empty");
  EXPECT_THROW(find_sources({(scratch_ / "empty").string()}, ""), DataError);
  EXPECT_THROW(find_sources({}, "data.train"), ConfigError);
}

TEST_F(DataSources, ReadArraysOfIds) {
  const auto lines =
      file("a.jsonl", "[1, 2,3]\n{\"text\": [4]}\n{\"text\": \"5 6\"}\n[]\n [7 ]\r\n");
  EXPECT_EQ(built({lines}, *ids_), (Ids{1, 2, 3, 100, 4, 100, 5, 6, 100, 7, 100}));
  EXPECT_THAT(refusal({lines}, *make_byte_tokenizer()), HasSubstr("need an ids tokenizer"));
  EXPECT_THAT(refusal({file("c.jsonl", "[1]\n[1, 101]")}, *ids_),
              HasSubstr("c.jsonl:2: number 2 of the array is 101, expected an id from 0 to 100"));
  for (const std::string array :
       {"[1.5]", "[\"1\"]", "[-1]", "[99999999999999999999]", "[[1]]", "[null]", "[1 2]", "[1,]",
        "[", "[1", "[1]]", "{\"text\": [true]}"})
    EXPECT_THAT(refusal({file("d.jsonl", array)}, *ids_), HasSubstr("d.jsonl:1")) << array;
}

TEST_F(DataSources, ReadArraysOfNumPy) {
  EXPECT_EQ(built({npy("a.npy", "<i2", "(3,)", bytes_of<std::int16_t>({1, 2, 3}))}, *ids_),
            (Ids{1, 2, 3, 100}));
  EXPECT_EQ(built({npy("b.npy", "|u1", "(2, 2)", std::string("\x05\x06\x07\x08", 4))}, *ids_),
            (Ids{5, 6, 100, 7, 8, 100}));
  EXPECT_EQ(built({npy("c.npy", "<u8", "(1, 1)", bytes_of<std::uint64_t>({9}))}, *ids_),
            (Ids{9, 100}));
  EXPECT_THAT(refusal({npy("d.npy", "<i4", "(1,)", bytes_of<std::int32_t>({-1}))}, *ids_),
              HasSubstr("d.npy:1: number 1 of the array is -1"));
  EXPECT_THAT(refusal({npy("e.npy", "<f4", "(1,)", "1234")}, *ids_),
              HasSubstr("numbers of type '<f4'"));
  EXPECT_THAT(refusal({npy("f.npy", ">i4", "(1,)", "1234")}, *ids_), HasSubstr("'>i4'"));
  EXPECT_THAT(refusal({npy("g.npy", "<i4", "(1, 1, 1)", "1234")}, *ids_),
              HasSubstr("3 dimensions"));
  EXPECT_THAT(refusal({npy("h.npy", "<i4", "(2,)", "1234")}, *ids_), HasSubstr("is damaged"));
  EXPECT_THAT(refusal({npy("i.npy", "<i8", "(4294967296, 4294967296)", "")}, *ids_),
              HasSubstr("is damaged"));
  EXPECT_THAT(refusal({npy("j.npy", "<i4", "(0,)", "")}, *ids_), HasSubstr("holds no text"));
}

TEST_F(DataSources, TokenFilesOfOtherToolsTrainAsTheyAre) {
  std::vector<std::vector<std::int32_t>> documents;
  for (int i = 0; i < 20; ++i) documents.push_back({i, i, 0});
  config_.train = {tokens("a", 4, documents), tokens<std::uint8_t>("b", 1, {{1, 2, 3, 4, 5}})};
  const auto split = sets(*ids_);
  EXPECT_EQ(split.train_tokens->size() + split.valid_tokens->size(), 65);
  // A tenth, from the end of the document that is nearest.
  EXPECT_EQ(split.valid_tokens->read(0, split.valid_tokens->size()),
            (Ids{19, 19, 0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(split.train_tokens->read(55, 2), (Ids{18, 0}));
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "run")) << "nothing is copied";
  config_.valid = {tokens<std::int64_t>("c", 5, {{7, 8}})};
  const auto given = sets(*ids_);
  EXPECT_EQ(given.train_tokens->size(), 65);
  EXPECT_EQ(given.train_tokens->read(59, 3), (Ids{0, 1, 2})) << "read over the end of a file";
  EXPECT_EQ(given.valid_tokens->read(0, 2), (Ids{7, 8}));
  EXPECT_NE(given.train_manifest.hash, split.train_manifest.hash);
  EXPECT_THROW(given.train_tokens->check_vocab(19), DataError);
  EXPECT_NO_THROW(given.train_tokens->check_vocab(20));
}

TEST_F(DataSources, TextAndTokenFilesStandSideBySide) {
  config_.train = {file("a.jsonl", "[1,2,3,4,5,6,7,8,9,10]\n[11]"),
                   tokens<std::uint16_t>("b", 8, {{50, 51, 52, 53, 54, 55, 56, 57, 58, 59}})};
  config_.valid = {file("v.jsonl", "[60]")};
  const auto both = sets(*ids_);
  EXPECT_EQ(both.train_tokens->read(0, 14), (Ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 11, 100, 50}));
  EXPECT_EQ(both.train_tokens->size(), 23);
  EXPECT_EQ(both.train_manifest.tokens, 23);
  EXPECT_EQ(both.valid_tokens->size(), 2);
}

TEST_F(DataSources, OurTokenFilesOfAnotherTokenizerAreRefused) {
  built({file("a.txt", "text")}, *make_byte_tokenizer());
  config_.train = {(scratch_ / "out").string()};
  config_.valid = config_.train;
  EXPECT_THROW(sets(*ids_), DataError);
  EXPECT_EQ(sets(*make_byte_tokenizer()).train_tokens->size(), 5);
}

TEST_F(DataSources, AMixtureDrawsByItsWeights) {
  std::vector<std::vector<std::uint16_t>> low(1), high(1);
  for (std::uint16_t i = 0; i < 400; ++i) {
    low[0].push_back(i % 50);
    high[0].push_back(50 + i % 50);
  }
  config_.train = {tokens("low", 8, low), file("high.jsonl", [&] {
                     std::string line = "[0";
                     for (int i = 0; i < 300; ++i) line += "," + std::to_string(50 + i % 50);
                     return line + "]";
                   }())};
  config_.weights = {3, 1};
  const auto mixed = sets(*ids_);
  ASSERT_EQ(mixed.mixture.size(), 2u);
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "run/train-2.bin"));
  const Batcher batches(mixed.mixture, 10, 4, 1), again(mixed.mixture, 10, 4, 1);
  std::int64_t counts[2] = {};
  std::vector<std::int64_t> seen[2];
  constexpr std::int64_t kSequences = 2 * Batcher::kCycle;
  for (std::int64_t i = 0; i < kSequences; ++i) {
    const auto [part, offset] = batches.window(i);
    ++counts[part];
    seen[part].push_back(offset);
    ASSERT_EQ(again.window(kSequences - 1 - i).part, batches.window(kSequences - 1 - i).part);
  }
  EXPECT_EQ(counts[0], kSequences * 3 / 4);
  // Within an epoch of a part, no window comes twice, whatever the order within a cycle.
  for (const std::size_t part : {0u, 1u}) {
    const auto windows = static_cast<std::size_t>(batches.windows(part));
    std::sort(seen[part].begin(), seen[part].end());
    EXPECT_GE(std::unique(seen[part].begin(), seen[part].end()) - seen[part].begin(),
              static_cast<std::ptrdiff_t>(windows));
  }
  config_.weights = {1e-9, 1};
  const auto rare = sets(*ids_);
  const Batcher few(rare.mixture, 10, 1, 1);
  std::int64_t least = 0;
  for (std::int64_t i = 0; i < Batcher::kCycle; ++i) least += few.window(i).part == 0;
  EXPECT_EQ(least, 1);
}

TEST_F(DataSources, WeightsBelongToEntries) {
  config_.train = {"a", "b"};
  config_.weights = {1};
  EXPECT_THROW(config_.check("data"), ConfigError);
  config_.weights = {1, 0};
  EXPECT_THROW(config_.check("data"), ConfigError);
  config_.weights = {1, 2};
  EXPECT_NO_THROW(config_.check("data"));
}

}  // namespace
}  // namespace rwkvx
