#include "rwkvx/base/field.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "rwkvx/config/train_config.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

// The message of the ConfigError that `work` must throw.
template <class Work>
std::string refusal(const Work& work) {
  try {
    work();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.exit_status(), 2);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

TrainConfig read(const std::string& text) {
  return config_from_json<TrainConfig>(parse_json(text, "c.json"), "c.json: ");
}

std::string refusal_of(const std::string& text) {
  return refusal([&] { read(text); });
}

enum class Taste { kSweet, kSour };
constexpr std::string_view enum_names(Taste) { return "sweet|sour"; }
struct Fruit {
  Taste taste = Taste::kSour;
  static constexpr auto fields() {
    return std::tuple{Field<Fruit, Taste>{"taste", &Fruit::taste, "what it tastes of"}};
  }
};

TEST(Field, AnEnumIsOneOfItsNames) {
  EXPECT_EQ(config_from_json<Fruit>({{"taste", "sweet"}}, "f").taste, Taste::kSweet);
  EXPECT_EQ(config_to_json(Fruit()).dump(), R"({"taste":"sour"})");
  EXPECT_EQ(describe_fields<Fruit>()[0].allowed, "sweet or sour");
  EXPECT_EQ(describe_fields<Fruit>()[0].initial, "\"sour\"");
  try {
    config_from_json<Fruit>({{"taste", "swet"}}, "f");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("f.taste"));
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"sweet\""));
  }
}

TEST(Field, AbsentKeysKeepTheirDefaults) {
  const auto config = read(R"({"model": {"n_layer": 3}, "train": {"grad_clip": 0}})");
  EXPECT_EQ(config.model.n_layer, 3);
  EXPECT_EQ(config.model.n_embd, ModelConfig{}.n_embd);
  EXPECT_EQ(config.train.grad_clip, 0);
  EXPECT_EQ(config.model.shift.kind, ShiftKind::kGatedPositional);
}

TEST(Field, AnUnknownKeyIsRefusedWithTheNearestOne) {
  EXPECT_EQ(refusal_of(R"({"model": {"n_layers": 3}})"),
            R"(c.json: model: unknown key "n_layers"; did you mean "n_layer"?)");
  EXPECT_THAT(refusal_of(R"({"trian": {}})"),
              testing::AllOf(testing::StartsWith("c.json: "),
                             HasSubstr(R"(unknown key "trian"; did you mean "train"?)")));
  EXPECT_EQ(refusal_of(R"({"model": {"zzzzzzzz": 3}})"),
            R"(c.json: model: unknown key "zzzzzzzz")");
}

TEST(Field, AWrongTypeIsRefusedWithItsPath) {
  EXPECT_EQ(refusal_of(R"({"model": {"n_layer": 1.5}})"),
            "c.json: model.n_layer: expected a whole number, got 1.5");
  EXPECT_EQ(refusal_of(R"({"model": {"n_layer": true}})"),
            "c.json: model.n_layer: expected a whole number, got true");
  EXPECT_EQ(refusal_of(R"({"train": {"learning_rate": "1e-3"}})"),
            R"(c.json: train.learning_rate: expected a number, got "1e-3")");
  EXPECT_EQ(refusal_of(R"({"train": {"layerwise_lr": 1}})"),
            "c.json: train.layerwise_lr: expected true or false, got 1");
  EXPECT_EQ(refusal_of(R"({"train": {"output": null}})"),
            "c.json: train.output: expected a text, got null");
  EXPECT_EQ(refusal_of(R"({"data": {"train": 7}})"),
            "c.json: data.train: expected a list of texts, got 7");
  EXPECT_THAT(refusal_of(R"({"data": {"train": ["a", ""]}})"),
              HasSubstr("data.train: expected texts that say something, got \"\" as number 2"));
  EXPECT_EQ(refusal_of(R"({"data": {"train": ["a", 7]}})"),
            "c.json: data.train: expected a text, got 7");
  EXPECT_THAT(refusal_of(R"({"model": [1]})"), HasSubstr("expected a JSON object of settings"));
  EXPECT_THAT(refusal_of("[]"), HasSubstr("expected a JSON object of settings"));
}

TEST(Field, ALongWrongValueIsShortened) {
  const auto message = refusal_of(R"({"model": {"n_layer": ")" + std::string(5000, 'x') + R"("}})");
  EXPECT_LT(message.size(), 200u);
}

TEST(Field, AWholeNumberBeyond63BitsIsRefused) {
  EXPECT_THAT(refusal_of(R"({"train": {"seed": 18446744073709551615}})"), HasSubstr("train.seed"));
}

TEST(Field, AnIntegerServesAsANumber) {
  EXPECT_EQ(read(R"({"train": {"learning_rate": 1}})").train.learning_rate, 1.0);
}

TEST(Field, AValueOutOfRangeIsRefusedWithTheRange) {
  EXPECT_EQ(refusal_of(R"({"model": {"n_layer": 0}})"),
            "c.json: model.n_layer: expected 1 to 1000, got 0");
  EXPECT_EQ(refusal_of(R"({"data": {"valid_fraction": 0.75}})"),
            "c.json: data.valid_fraction: expected 0 to 0.5, got 0.75");
  EXPECT_THAT(refusal_of(R"({"train": {"learning_rate": -1e-3}})"),
              HasSubstr("expected 0 to 10, got"));
}

TEST(Field, BothEndsOfARangeAreInIt) {
  EXPECT_EQ(read(R"({"data": {"valid_fraction": 0}})").data.valid_fraction, 0);
  EXPECT_EQ(read(R"({"data": {"valid_fraction": 0.5}})").data.valid_fraction, 0.5);
}

TEST(Field, ATextOutsideTheChoicesIsRefusedWithAllOfThem) {
  EXPECT_EQ(
      refusal_of(R"({"tokenizer": {"kind": "bytes"}})"),
      R"(c.json: tokenizer.kind: expected sentencepiece, byte, world, huggingface or ids, got "bytes"; )"
      R"(did you mean "byte"?)");
}

TEST(Field, AnOldNameIsReadWithANoticeAndAsTheLastOfTwo) {
  testing::internal::CaptureStderr();
  auto config = read(R"({"train": {"accumulation": 3}, "tokenizer": {"algorithm": "bpe",
                         "coverage": 0.99}})");
  read(R"({"train": {"accumulation": 3}})");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "rwkvx: warning: c.json: tokenizer.algorithm: renamed to model_type; the old name "
            "works in this "
            "release only\n"
            "rwkvx: warning: c.json: tokenizer.coverage: renamed to character_coverage; the old "
            "name works "
            "in this release only\n"
            "rwkvx: warning: c.json: train.accumulation: renamed to grad_accum_steps; the old name "
            "works in "
            "this release only\n");
  EXPECT_EQ(config.train.grad_accum_steps, 3);
  EXPECT_EQ(config.tokenizer.model_type, SentencePieceModel::kBpe);
  EXPECT_EQ(config.tokenizer.character_coverage, 0.99);
  EXPECT_EQ(config_to_json(config)["train"]["grad_accum_steps"], 3);

  testing::internal::CaptureStderr();
  const nlohmann::json saved = {{"accumulation", 5}};
  EXPECT_EQ(config_from_json<TrainingConfig>(saved, "saved", OldNames::kSilent).grad_accum_steps,
            5);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");

  EXPECT_EQ(refusal_of(R"({"train": {"accumulation": 3, "grad_accum_steps": 4}})"),
            "c.json: train.accumulation: is the old name of grad_accum_steps, which is set as "
            "well; remove one of the two");
  auto json = parse_json(R"({"train": {"grad_accum_steps": 4}})", "c.json");
  set_by_paths<TrainConfig>(json, {"train.accumulation=6"}, "c.json: ");
  EXPECT_EQ(json["train"]["grad_accum_steps"], 6);
}

TEST(Field, HashesSeeTheFirstNamesAndNotWhatWasAddedLater) {
  TrainingConfig config;
  const auto key = settings_key(config);
  EXPECT_TRUE(key.contains("accumulation"));
  EXPECT_FALSE(key.contains("grad_accum_steps"));
  EXPECT_FALSE(key.contains("lr_schedule"));
  config.lr_schedule = Schedule::kLinear;
  EXPECT_EQ(settings_key(config)["lr_schedule"], "linear");
}

TEST(Field, NullSaysNoneWhereNoneIsAChoice) {
  EXPECT_EQ(read(R"({"model": {"shift": {"kind": null}}})").model.shift.kind, ShiftKind::kNone);
  EXPECT_THAT(refusal_of(R"({"tokenizer": {"kind": null}})"), HasSubstr("expected a text"));
}

TEST(Field, OneTextServesAsAListOfTexts) {
  EXPECT_THAT(read(R"({"data": {"train": "a.txt"}})").data.train, testing::ElementsAre("a.txt"));
  EXPECT_TRUE(read(R"({"data": {"valid": ""}})").data.valid.empty());
  EXPECT_THAT(read(R"({"data": {"train": ["a", "b"]}})").data.train,
              testing::ElementsAre("a", "b"));
}

TEST(Field, SettingsThatContradictEachOtherAreRefused) {
  EXPECT_THAT(refusal_of(R"({"model": {"shift": {"gate": "group", "gate_groups": 7}}})"),
              HasSubstr("model.shift.gate_groups: 7 does not divide n_embd = 768"));
  EXPECT_THAT(refusal_of(R"({"train": {"learning_rate": 1e-5}})"),
              HasSubstr("train.final_learning_rate: must not be larger than learning_rate"));
}

TEST(Field, JsonWrittenAndReadAgainIsTheSame) {
  auto config = read(R"({"model": {"n_embd": 96, "shift": {"pos": "sin"}},
                         "data": {"train": ["x"]}, "train": {"learning_rate": 0.3}})");
  const auto json = config_to_json(config);
  EXPECT_EQ(config_to_json(config_from_json<TrainConfig>(json, "")).dump(), json.dump());
  EXPECT_EQ(json["train"]["learning_rate"], 0.3);
}

TEST(ParseJson, AcceptsComments) {
  EXPECT_EQ(parse_json("// all of it\n{\"a\": 1 /* one */}\n", "c.json"),
            nlohmann::json({{"a", 1}}));
}

TEST(ParseJson, NamesLineAndColumnOfWhatIsWrong) {
  const auto message = refusal([] { parse_json("{\n  \"a\": 1,\n  }\n", "c.json"); });
  EXPECT_THAT(message, testing::StartsWith("c.json:3:3: not valid JSON: syntax error"));
  EXPECT_THAT(refusal([] { parse_json("", "c.json"); }), testing::StartsWith("c.json:1:1: "));
}

TEST(SetByPath, ReadsNumbersFlagsListsAndTexts) {
  auto json = nlohmann::json::object();
  set_by_path(json, "train.max_steps=20");
  set_by_path(json, "train.learning_rate=3e-3");
  set_by_path(json, "train.layerwise_lr=false");
  set_by_path(json, "train.output=runs/a=b");
  set_by_path(json, R"(data.train=["a", "b"])");
  set_by_path(json, "model.shift.kind=none");
  const auto config = config_from_json<TrainConfig>(json, "");
  EXPECT_EQ(config.train.max_steps, 20);
  EXPECT_EQ(config.train.learning_rate, 3e-3);
  EXPECT_FALSE(config.train.layerwise_lr);
  EXPECT_EQ(config.train.output, "runs/a=b");
  EXPECT_EQ(config.data.train.size(), 2u);
  EXPECT_EQ(config.model.shift.kind, ShiftKind::kNone);
}

TEST(SetByPath, RefusesWhatIsNoAssignment) {
  auto json = nlohmann::json::object();
  for (const std::string wrong : {"train.max_steps", "=3", ""})
    EXPECT_THAT(refusal([&] { set_by_path(json, wrong); }), HasSubstr("expected KEY=VALUE"))
        << wrong;
}

TEST(SetByPath, RefusesAPathThroughAValue) {
  nlohmann::json json = {{"model", {{"n_layer", 2}}}};
  EXPECT_THAT(refusal([&] { set_by_path(json, "model.n_layer.x=1"); }),
              HasSubstr("is not inside a section"));
}

TEST(SetByPath, AnUnknownKeyIsRefusedLikeOneInAFile) {
  auto json = nlohmann::json::object();
  set_by_path(json, "train.max_step=20");
  EXPECT_THAT(refusal([&] { config_from_json<TrainConfig>(json, "c.json: "); }),
              HasSubstr(R"(unknown key "max_step"; did you mean "max_steps"?)"));
}

TEST(ReadJsonFile, AMissingFileIsNamed) {
  try {
    read_json_file("no/such/file.json");
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("no/such/file.json"));
  }
}

TEST(DescribeFields, GivesEveryRowWithTypeDefaultAndRange) {
  const auto rows = describe_fields<TrainConfig>();
  const auto row = std::find_if(rows.begin(), rows.end(),
                                [](const FieldInfo& info) { return info.path == "model.n_layer"; });
  ASSERT_NE(row, rows.end());
  EXPECT_EQ(row->type, "integer");
  EXPECT_EQ(row->initial, "12");
  EXPECT_EQ(row->allowed, "1 to 1000");
}

}  // namespace
}  // namespace rwkvx
