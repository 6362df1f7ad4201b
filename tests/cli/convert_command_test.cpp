// `rwkvx convert`, and weights of other tools in the commands that read a model.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

class ConvertCommand : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  // transformers' own model, with more ids than bytes.
  const std::string golden_ = std::string(RWKVX_SOURCE_DIR) + "/tests/golden/model/hf_rwkv4.pth";
  ScratchDirectory scratch_;
};

TEST_F(ConvertCommand, WritesTheFormatThatTheNameShows) {
  const auto result = run_program({"convert", golden_, path("a.safetensors"), "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["format"], "safetensors");
  EXPECT_EQ(json["bytes"], fs::file_size(path("a.safetensors")));
  EXPECT_EQ(run_program({"convert", path("a.safetensors"), path("b.pth")}).status, 0);
  EXPECT_EQ(run_program({"convert", golden_, path("c.pth")}).status, 0);
  EXPECT_EQ(read_file(path("b.pth")), read_file(path("c.pth")));
}

TEST_F(ConvertCommand, RefusesWhatDoesNotFit) {
  expect_refused(run_program({"convert", golden_, path("out")}), 2, "--to: is required");
  expect_refused(run_program({"convert", golden_, path("a.pth"), "--to", "hf"}), 2,
                 "is the name of a pth");
  expect_refused(run_program({"convert", golden_, path("a.gguf")}), 3, "GGUF files do not hold");
  expect_refused(run_program({"convert", golden_, path("a"), "--to", "checkpoint"}), 2,
                 "--tokenizer: is required");
  expect_refused(run_program({"convert", golden_, golden_, "--overwrite"}), 2, "IN");
  write_file(path("b.pth"), "mine");
  expect_refused(run_program({"convert", golden_, path("b.pth")}), 3,
                 "already exists; replace it with --overwrite");
  EXPECT_EQ(read_file(path("b.pth")), "mine");
}

TEST_F(ConvertCommand, EveryCommandReadsADirectoryOfTransformers) {
  ASSERT_EQ(run_program({"convert", golden_, path("hf"), "--to", "hf"}).status, 0);
  EXPECT_EQ(run_program({"info", "--model", path("hf")}).status, 0);
  expect_refused(run_program({"generate", "--model", path("hf"), "--prompt", "x"}), 2,
                 "--tokenizer: is required for weights without a tokenizer beside them");
  write_file(path("t.txt"), "a text");
  expect_refused(run_program({"eval", "--model", path("hf"), "--text", path("t.txt")}), 2,
                 "--model-tokenizer: is required");
}

TEST_F(ConvertCommand, TheOldNameOfRougesTokenizerWorks) {
  write_file(path("pairs"), R"({"prediction": "a b", "reference": "a b"})");
  const auto result = run_program({"eval", "--pairs", path("pairs"), "--tokenizer", "unicode"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, testing::HasSubstr("--rouge-tokenizer"));
}

}  // namespace
}  // namespace rwkvx
