// What people watch a run by: event files, gates, the line of the progress bar.
#include "train/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <limits>

#include "rwkvx/model/rwkv.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::log_lines;
using test::quiet;
using test::tiny;
using testing::HasSubstr;
using testing::Not;

std::string events_of(const TrainConfig& config) {
  std::string bytes;
  for (const auto& entry : fs::directory_iterator(fs::path(config.train.output) / kEventFolder))
    bytes += read_file(entry.path());
  return bytes;
}

TEST(Watch, ChangesNeitherWhatIsTrainedNorTheRestOfTheLog) {
  const ScratchDirectory folder;
  auto plain = tiny(folder, "plain"), watched = tiny(folder, "watched");
  for (auto* config : {&plain, &watched}) config->model.shift.kind = ShiftKind::kGatedPositional;
  watched.train.tensorboard = watched.train.watch_gates = true;
  train(plain, quiet());
  train(watched, quiet());
  const auto a = log_lines(plain);
  auto b = log_lines(watched);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(b[i].contains("gates"), a[i].contains("valid_loss"));
    b[i].erase("gates");
    for (const auto& item : a[i].items())
      if (item.key() != "tokens_per_second" && item.key() != "peak_memory_bytes") {
        EXPECT_EQ(item.value(), b[i][item.key()]) << item.key();
      }
    EXPECT_EQ(a[i].size(), b[i].size());
  }
  const auto weights = [](const TrainConfig& config) {
    return read_file(fs::path(config.train.output) / "checkpoints/step-00000024/model.safetensors");
  };
  EXPECT_EQ(weights(plain), weights(watched));
  EXPECT_FALSE(fs::exists(fs::path(plain.train.output) / kEventFolder));
}

TEST(Watch, EventFilesHoldTheLogsNumbersAndTheSettings) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.model.shift.kind = ShiftKind::kGatedPositional;
  config.train.tensorboard = config.train.watch_gates = true;
  train(config, quiet());
  const auto events = events_of(config);
  for (const char* tag : {"train/loss", "train/learning_rate", "train/grad_norm",
                          "train/tokens_per_second", "valid/loss", "valid/perplexity",
                          "gates/blocks.1.ffn/mean", "gates/blocks.0.att/added", "\"grad_clip\""})
    EXPECT_THAT(events, HasSubstr(tag));
  // The very bytes of a value.
  const auto line = log_lines(config).front();
  const auto value = scalar_event({0, line["step"]}, "train/loss", line["loss"].get<float>());
  EXPECT_THAT(events, HasSubstr(value.substr(9)));  // after the time
}

TEST(Watch, ARunOnlyRemovesEventFilesOfTheRunThatItReplaces) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 2;
  const auto events = fs::path(config.train.output) / kEventFolder;
  fs::create_directories(events);
  write_file(events / "events.out.tfevents.1.host.1.0", "of another program");
  train(config, quiet());
  EXPECT_TRUE(fs::exists(events / "events.out.tfevents.1.host.1.0"));
  auto options = quiet();
  options.overwrite = true;
  train(config, options);
  EXPECT_FALSE(fs::exists(events));
}

TEST(Watch, GatesAreMeasuredForEveryFormOfTheShift) {
  torch::manual_seed(1);
  const auto tokens = torch::randint(0, 32, {1, 9}, torch::kInt64);
  for (const auto core : {"rwkv4", "rwkv7"})
    for (const auto gate : {Gate::kDiag, Gate::kOne, Gate::kScalar, Gate::kGroup, Gate::kLowrank}) {
      ModelConfig config;
      config.core = core;
      config.n_layer = 2, config.n_embd = 16, config.vocab_size = 32, config.head_size = 16;
      config.shift.kind = ShiftKind::kGatedPositional;
      config.shift.gate = gate;
      Rwkv model(config);
      model->initialize(/*seed=*/1, /*learning_rate=*/1e-3);
      const auto sites = gate_statistics(*model, tokens);
      ASSERT_EQ(sites.size(), 4U) << sites.dump();
      for (const auto& [name, site] : sites.items()) {
        EXPECT_LE(site["min"], site["mean"]) << name;
        EXPECT_LE(site["mean"], site["max"]) << name;
        EXPECT_GE(site["min"].get<double>(), 0) << name;
        EXPECT_LE(site["max"].get<double>(), 1) << name;
        EXPECT_GE(site["open"].get<double>(), 0) << name;
        EXPECT_LE(site["open"].get<double>(), 1) << name;
        EXPECT_GE(site["added"].get<double>(), 0) << name;
      }
    }
}

TEST(TrainingNote, HasTheValidationLossOnceThereIsOne) {
  EXPECT_EQ(training_note(120, 1228800, 2.34567, 2.5, 51234.4),
            "step 120  loss 2.3457  valid 2.5000  1,228,800 tokens  51,234 tokens/s");
  EXPECT_THAT(training_note(1, 2, 3, std::numeric_limits<double>::quiet_NaN(), 4),
              Not(HasSubstr("valid")));
}

}  // namespace
}  // namespace rwkvx
