// A fixture with a config that trains within a second.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"

namespace rwkvx {

class TinyRun : public ::testing::Test {
 protected:
  TinyRun() {
    write_file(path("text.txt"), text());
    const nlohmann::json config = {
        {"model", {{"n_layer", 2}, {"n_embd", 16}, {"shift", {{"kind", "gps"}}}}},
        {"tokenizer", {{"kind", "byte"}}},
        {"data", {{"train", path("text.txt")}}},
        {"train",
         {{"output", path("run")},
          {"ctx_len", 32},
          {"batch_size", 2},
          {"max_steps", 12},
          {"warmup_steps", 2},
          {"eval_every", 6},
          {"eval_tokens", 512},
          {"save_every", 4},
          {"log_every", 2},
          {"threads", 1}}}};
    write_file(path("tiny.json"), config.dump());
  }
  static std::string text() {
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += "bird number " + std::to_string(i % 17) + " sings, the fox listens.\n";
    return text;
  }
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  std::vector<std::string> train_args(const std::vector<std::string>& flags) const {
    std::vector<std::string> args = {"train", "--config", path("tiny.json")};
    args.insert(args.end(), flags.begin(), flags.end());
    return args;
  }
  // The tiny model, trained into path("run"). A process trains it once and copies it.
  void make_model() const {
    namespace fs = std::filesystem;
    static const ScratchDirectory kept;
    const auto made = kept.path() / "run";
    if (!fs::exists(made)) {
      const auto result = run_program(train_args({"--quiet"}));
      ASSERT_EQ(result.status, 0) << result.err;
      fs::copy(path("run"), made, fs::copy_options::recursive);
      return;
    }
    fs::copy(made, path("run"), fs::copy_options::recursive);
  }

 private:
  ScratchDirectory scratch_;
};

}  // namespace rwkvx
