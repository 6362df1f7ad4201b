#include "rwkvx/eval/pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Pairs : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    write_file(scratch_ / name, bytes);
    return scratch_ / name;
  }
  // "line|id|prediction|reference|reference…" of each pair.
  static std::vector<std::string> read_all(PairSource& source) {
    std::vector<std::string> found;
    PairBatch batch;
    PairSource::Scratch scratch;
    TextPair pair;
    while (source.next(batch))
      for (const auto& item : batch.items) {
        source.parse(batch, item, scratch, pair);
        std::string text = std::to_string(pair.line) + "|" + std::string(pair.id) + "|" +
                           std::string(pair.prediction);
        for (const auto reference : pair.references) text += "|" + std::string(reference);
        found.push_back(text);
      }
    return found;
  }
  // The message of the DataError that reading ends with.
  static std::string refusal(PairSource& source) {
    try {
      read_all(source);
    } catch (const DataError& error) {
      return error.what();
    }
    return "(no error)";
  }
  ScratchDirectory scratch_;
};

TEST_F(Pairs, TextLinesKeepAllButLineEndsAndByteOrderMarks) {
  const auto predictions = write("p",
                                 "\xef\xbb\xbf"
                                 "a b\r\n\r\nc\rd");
  const auto references = write("r", std::string("x\0\xff\ny \n\xef\xbb\xbfz\n", 12));
  EXPECT_THAT(read_all(*pairs_from_texts(predictions, references)),
              ElementsAre(std::string("1||a b|x\0\xff", 10), "2|||y ", "3||c\rd|\xef\xbb\xbfz"));
}

TEST_F(Pairs, BothLineCountsAreNamedWhereTheyDiffer) {
  const auto two = write("p", "a\nb\n"), five = write("r", "1\n2\n3\n4\n5");
  EXPECT_THAT(refusal(*pairs_from_texts(two, five)),
              AllOf(HasSubstr("p: has 2 lines"), HasSubstr("r has 5 lines")));
  EXPECT_THAT(refusal(*pairs_from_texts(five, two)),
              AllOf(HasSubstr("has 5 lines"), HasSubstr("has 2 lines")));
}

TEST_F(Pairs, EmptyFilesAreRefused) {
  const auto empty = write("p", "");
  EXPECT_THAT(refusal(*pairs_from_texts(empty, empty)), HasSubstr("got no lines"));
  EXPECT_THAT(refusal(*pairs_from_json(empty)), HasSubstr("got an empty file"));
  EXPECT_THAT(refusal(*pairs_from_json(write("q", "\n \n"))), HasSubstr("got an empty file"));
  EXPECT_THROW(pairs_from_json(scratch_ / "none"), FileError);
  EXPECT_THROW(pairs_from_json(scratch_.path()), FileError);
}

TEST_F(Pairs, JsonTakesOneOrManyReferencesAndIds) {
  const auto path =
      write("j",
            "\xef\xbb\xbf{\"id\": \"x\", \"prediction\": \"a\\nb\", \"reference\": \"c\"}\r\n"
            "\n"
            "{\"reference\": [\"\\u0041\", \"d\"], \"prediction\": \"\", \"id\": 7}\n"
            "{\"hyp\": 1, \"id\": null, \"prediction\": \"p\", \"reference\": [\"r\"]}");
  EXPECT_THAT(read_all(*pairs_from_json(path)),
              ElementsAre("1|\"x\"|a\nb|c", "3|7||A|d", "4||p|r"));
}

TEST_F(Pairs, JsonFieldsCanBeNamed) {
  const auto path = write("j", R"({"hyp": "a", "refs": ["b"], "prediction": 3})");
  EXPECT_THAT(read_all(*pairs_from_json(path, {"hyp", "refs"})), ElementsAre("1||a|b"));
}

TEST_F(Pairs, JsonErrorsNameLineAndField) {
  const std::string good = "{\"prediction\": \"a\", \"reference\": \"b\"}\n";
  const auto refused = [&](const std::string& line) {
    return refusal(*pairs_from_json(write("j.jsonl", good + line)));
  };
  EXPECT_THAT(refused("{\"prediction\": \"a\""),
              AllOf(HasSubstr("j.jsonl:2: not a JSON object"), HasSubstr("column 19")));
  EXPECT_THAT(refused("{\"predicton\": \"a\", \"reference\": \"b\"}"),
              AllOf(HasSubstr("j.jsonl:2: no field \"prediction\""),
                    HasSubstr("did you mean \"predicton\"")));
  EXPECT_THAT(refused("{\"prediction\": 5, \"reference\": \"b\"}"),
              HasSubstr("j.jsonl:2: field \"prediction\": expected a string, got a number"));
  EXPECT_THAT(refused("{\"prediction\": \"a\", \"reference\": null}"),
              HasSubstr("expected a string or an array of strings, got null"));
  EXPECT_THAT(refused("{\"prediction\": \"a\", \"reference\": []}"), HasSubstr("an empty array"));
  EXPECT_THAT(refused("{\"prediction\": \"a\", \"reference\": [\"b\", {}]}"),
              HasSubstr("field \"reference[1]\": expected a string, got an object"));
  EXPECT_THAT(refused("{\"prediction\": \"a\", \"reference\": \"b\", \"id\": []}"),
              HasSubstr("field \"id\""));
}

TEST_F(Pairs, BatchesEndWhereverAndLinesMayBeLong) {
  std::string bytes, longest(3 << 20, 'a');
  for (int i = 0; i < 1000; ++i)
    bytes += "{\"prediction\": \"" + (i == 500 ? longest : std::to_string(i)) +
             "\", \"reference\": \"\"}\n";
  const auto found = read_all(*pairs_from_json(write("j", bytes)));
  ASSERT_EQ(found.size(), 1000U);
  EXPECT_EQ(found[500], "501||" + longest + "|");
  EXPECT_EQ(found[999], "1000||999|");
}

}  // namespace
}  // namespace rwkvx
