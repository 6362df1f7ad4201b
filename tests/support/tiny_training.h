// A training of a second, and what its tests look at afterwards.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/train/trainer.h"
#include "support/scratch.h"

namespace rwkvx::test {

// Regular text that a small model learns something of at once.
inline std::string corpus() {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "the " + std::string(i % 3 == 0 ? "red" : "blue") + " bird number " +
            std::to_string(i % 17) + " sings.\n";
  return text;
}

inline std::string text_file(const ScratchDirectory& folder, const std::string& name,
                             const std::string& text) {
  write_file(folder / name, text);
  return (folder / name).string();
}

inline TrainConfig tiny(const ScratchDirectory& folder, const std::string& output = "run") {
  TrainConfig config;
  config.model.n_layer = 2;
  config.model.n_embd = 16;
  config.tokenizer.kind = TokenizerKind::kByte;
  config.data.train = {text_file(folder, "text.txt", corpus())};
  auto& t = config.train;
  t.output = (folder / output).string();
  t.ctx_len = 16;
  t.batch_size = 4;
  t.grad_accum_steps = 2;
  t.max_steps = 24;
  t.learning_rate = 5e-3;
  t.final_learning_rate = 1e-3;
  t.warmup_steps = 4;
  t.log_every = 4;
  t.eval_every = 6;
  t.eval_tokens = 512;
  t.save_every = 6;
  t.keep_last = 2;
  t.threads = 1;
  return config;
}

inline TrainOptions quiet() {
  TrainOptions options;
  options.quiet = true;
  return options;
}

inline std::vector<nlohmann::json> log_lines(const TrainConfig& config) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(std::filesystem::path(config.train.output) / "log.jsonl");
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// Every file below a folder with its content.
inline std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[std::filesystem::relative(entry.path(), folder).string()] = read_file(entry.path());
  return files;
}

inline std::string failure(const TrainConfig& config, const TrainOptions& options) {
  try {
    train(config, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

inline TrainOptions resuming() {
  auto options = quiet();
  options.resume = true;
  return options;
}

// One run of `last` steps, and the same in pieces, the first of which ends after `stop` steps,
// between two saves: the same bytes. The run in pieces stays.
inline void expect_resume_gives_the_same_bytes(const TrainConfig& config, std::int64_t last = 24,
                                               std::int64_t stop = 11) {
  train(config, quiet());
  const auto checkpoint =
      std::filesystem::path(config.train.output) / "checkpoints" / step_name(last);
  const auto wanted = contents(checkpoint);
  EXPECT_FALSE(wanted.empty());
  std::filesystem::remove_all(config.train.output);
  auto options = quiet();
  options.stop_after = stop;
  EXPECT_FALSE(train(config, options).finished);
  options.resume = true;
  options.stop_after = 1;
  train(config, options);
  options.stop_after = 0;
  EXPECT_TRUE(train(config, options).finished);
  const auto found = contents(checkpoint);
  EXPECT_EQ(wanted.size(), found.size());
  for (const auto& [name, bytes] : wanted)
    EXPECT_TRUE(found.contains(name) && found.at(name) == bytes) << name << " differs";
}

// A run of a sentencepiece tokenizer that stopped after 7 of 24 steps.
inline TrainConfig stopped_run(const ScratchDirectory& folder) {
  auto config = tiny(folder);
  config.tokenizer.kind = TokenizerKind::kSentencePiece;
  config.tokenizer.vocab_size = 286;
  auto options = quiet();
  options.stop_after = 7;
  train(config, options);
  return config;
}

}  // namespace rwkvx::test
