#include "rwkvx/base/json_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

template <class Work>
std::string failure(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string nested(std::size_t depth, const std::string& open = "[", const std::string& end = "]") {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open;
  for (std::size_t i = 0; i < depth; ++i) text += end;
  return text;
}

TEST(ForeignJson, DepthIsBounded) {
  EXPECT_NO_THROW(parse_foreign_json(nested(kDeepestJson), "f"));
  for (const auto& text : {nested(kDeepestJson + 1), nested(200000), nested(200000, "{\"a\":", "}"),
                           "{\"a\": 1, \"b\": " + nested(200000) + "}", std::string(200000, '[')})
    EXPECT_THAT(failure([&] { parse_foreign_json(text, "f.json:3"); }),
                HasSubstr("f.json:3: expected JSON nested at most 256 levels"));
  EXPECT_TRUE(parse_json_or_null(nested(200000)).is_null());
  EXPECT_THAT(failure([&] { parse_json(nested(200000), "f"); }), HasSubstr("f: expected JSON"));
  // Brackets in texts are none.
  EXPECT_NO_THROW(parse_foreign_json("\"" + std::string(1000, '[') + "\\\"[\"", "f"));
  // Nor may a comment hide some.
  EXPECT_THROW(parse_json("// \" \n" + nested(200000), "f"), ConfigError);
  EXPECT_THROW(parse_json("/* \" */" + nested(200000), "f"), ConfigError);
}

TEST(ForeignJson, NumbersOutOfRangeAreNamed) {
  EXPECT_THAT(failure([] { parse_foreign_json("[1e999]", "f"); }), HasSubstr("f: holds a number"));
  EXPECT_THAT(failure([] { parse_json("[1e999]", "f"); }), HasSubstr("f: holds a number"));
  EXPECT_THAT(failure([] { parse_foreign_json("{", "f"); }), HasSubstr("f: is not valid JSON"));
}

TEST(ForeignJson, ASettingThatNestsTooDeeplyIsAText) {
  nlohmann::json json = nlohmann::json::object();
  set_by_path(json, "a=" + nested(200000));
  EXPECT_TRUE(json["a"].is_string());
}

TEST(JsonObject, ChecksEveryType) {
  const auto value = parse_foreign_json(
      R"({"text": "x", "integer": -3, "number": 1.5, "flag": true, "array": [1], "object": {"a": 1},
          "huge": 123456789012345678901234567890, "large": 18446744073709551615})",
      "f");
  const JsonObject object(value, "f.json:7");
  EXPECT_EQ(object.text("text"), "x");
  EXPECT_EQ(object.integer("integer"), -3);
  EXPECT_EQ(object.number("integer"), -3);
  EXPECT_EQ(object.number("number"), 1.5);
  EXPECT_TRUE(object.flag("flag"));
  EXPECT_EQ(object.array("array").size(), 1u);
  EXPECT_EQ(object.object("object").integer("a"), 1);
  for (const char* name : {"number", "flag", "array", "object", "huge", "large"})
    EXPECT_THAT(failure([&] { object.text(name); }),
                HasSubstr(std::string("f.json:7: field \"") + name + "\": expected a string, got"));
  for (const char* name : {"text", "number", "flag", "array", "object", "huge", "large"})
    EXPECT_THAT(failure([&] { object.integer(name); }), HasSubstr("expected a whole number"))
        << name;
  for (const char* name : {"text", "integer", "array"}) {
    EXPECT_THROW(object.object(name), DataError);
    EXPECT_THROW(object.flag(name), DataError);
  }
  EXPECT_THROW(object.number("text"), DataError);
  EXPECT_THROW(object.array("object"), DataError);
  EXPECT_THAT(failure([&] { object.text("none"); }), HasSubstr("has no field \"none\""));
  EXPECT_THAT(failure([&] { object.object("object").text("a"); }),
              HasSubstr("f.json:7: object: field \"a\""));
  for (const char* other : {"3", "[]", "\"x\"", "null"})
    EXPECT_THAT(failure([&] { JsonObject(nlohmann::json::parse(other), "f"); }),
                HasSubstr("f: expected a JSON object, got"));
}

TEST(JsonDump, WritesWhatIsNotUtf8) {
  EXPECT_EQ(json_dump(nlohmann::json("a\xff")), "\"a\xEF\xBF\xBD\"");
  EXPECT_EQ(json_dump(nlohmann::ordered_json{{"a", 1}}, 1), "{\n \"a\": 1\n}");
  EXPECT_LE(json_shown(nlohmann::json(std::string(1000, 'x'))).size(), 64u);
}

}  // namespace
}  // namespace rwkvx
