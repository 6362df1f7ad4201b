#include "rwkvx/base/json_line.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "support/long_tests.h"

namespace rwkvx {
namespace {

std::string text_of(const std::string& line, const std::string& name) {
  JsonLine json;
  json.read(line);
  const auto value = json.find(name);
  if (value.empty()) return "(none)";
  std::string room;
  room.reserve(value.size());
  return std::string(json_text(value, room));
}

TEST(JsonLine, DecodesEveryEscape) {
  EXPECT_EQ(text_of(R"({"a": "\" \\ \/ \b\f\n\r\t \u0041 \u00e9 \u20ac \ud83d\ude00"})", "a"),
            "\" \\ / \b\f\n\r\t A é € 😀");
  EXPECT_EQ(text_of("{\"a\": \"x\\u0000y\"}", "a"), std::string("x\0y", 3));
  EXPECT_EQ(text_of(R"({"a": "\ud83d!"})", "a"), "\xed\xa0\xbd!") << "a lone surrogate stays bytes";
  EXPECT_EQ(text_of(R"({"\u0061b": "c"})", "ab"), "c");
}

TEST(JsonLine, KeepsBytesThatAreNotUtf8) {
  EXPECT_EQ(text_of("{\"a\": \"\xff\xc3\t\"}", "a"), "\xff\xc3\t");
}

TEST(JsonLine, TheLastOfEqualNamesCounts) {
  EXPECT_EQ(text_of(R"({"a": "1", "b": {"a": "2"}, "a": "3"})", "a"), "3");
  EXPECT_EQ(text_of(R"({"a": "1"})", "b"), "(none)");
}

TEST(JsonLine, SaysWhereALineIsBroken) {
  JsonLine json;
  for (const auto& [line, column] :
       std::vector<std::pair<std::string, std::string>>{{"", "column 1:"},
                                                        {"[1]", "column 1:"},
                                                        {"{\"a\": \"x", "column 9:"},
                                                        {"{\"a\": 1,}", "column 9:"},
                                                        {"{\"a\" 1}", "column 6:"},
                                                        {"{\"a\": 01}", "column 8:"},
                                                        {"{\"a\": nul}", "column 7:"},
                                                        {"{\"a\": 1} x", "column 10:"},
                                                        {"{\"a\": \"\\x\"}", "column 9:"},
                                                        {"{\"a\": \"\\u12g4\"}", "column 12:"}}) {
    try {
      json.read(line);
      ADD_FAILURE() << line << " was taken";
    } catch (const JsonLineError& error) {
      EXPECT_EQ(std::string(error.what()).substr(0, column.size()), column) << line << error.what();
    }
  }
  EXPECT_THROW(json.read("{\"a\": " + std::string(100000, '[')), JsonLineError);
}

// The same lines are taken as by a full JSON parser, and give the same texts.
TEST(JsonLine, AgreesWithAFullParserOnRandomLines) {
  std::mt19937 random(5);
  const std::string pieces[] = {"{",  "}",    "[",    "]",           "\"a\"", "\"\\n\"",
                                ":",  ",",    " ",    "1",           "-",     ".",
                                "e1", "true", "null", "\"\\u00e9\"", "\"b\"", "0"};
  JsonLine json;
  std::size_t taken = 0;
  const int lines = test::rounds(50000, 200000);
  for (int i = 0; i < lines; ++i) {
    std::string line = random() % 2 == 0 ? "{\"a\":" : "{";
    for (auto count = random() % 7; count > 0; --count)
      line += pieces[random() % std::size(pieces)];
    if (random() % 2 == 0) line += "}";
    const auto wanted = nlohmann::json::parse(line, nullptr, false);
    bool good = true;
    try {
      json.read(line);
    } catch (const JsonLineError&) {
      good = false;
    }
    ASSERT_EQ(good, wanted.is_object()) << line;
    if (!good) continue;
    ++taken;
    const auto value = json.find("a");
    ASSERT_EQ(!value.empty(), wanted.contains("a")) << line;
    if (value.empty()) continue;
    ASSERT_EQ(nlohmann::json::parse(value), wanted["a"]) << line;
    if (json_kind(value) != JsonKind::kString) continue;
    std::string room;
    room.reserve(value.size());
    ASSERT_EQ(json_text(value, room), wanted["a"].get<std::string>()) << line;
  }
  EXPECT_GT(taken, static_cast<std::size_t>(lines / 200));
}

}  // namespace
}  // namespace rwkvx
