#include "rwkvx/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <set>

#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "support/kernel_bodies.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::log_lines;
using test::quiet;
using test::text_file;
using test::tiny;
using testing::HasSubstr;

TEST(Trainer, LowersTheLossAndKeepsTheBestAndTheLastCheckpoints) {
  const ScratchDirectory folder;
  const auto config = tiny(folder);
  const auto result = train(config, quiet());
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.step, 24);
  std::vector<double> valid;
  for (const auto& line : log_lines(config))
    if (line.contains("valid_loss")) valid.push_back(line["valid_loss"]);
  ASSERT_EQ(valid.size(), 4u);
  EXPECT_LT(valid.back(), valid.front());
  EXPECT_LT(valid.back(), std::log(257.0) - 1);
  std::set<std::string> names;
  for (const auto& entry : list_checkpoints(fs::path(config.train.output) / "checkpoints")) {
    EXPECT_TRUE(entry.complete);
    names.insert(entry.name);
  }
  EXPECT_EQ(names, (std::set<std::string>{"step-00000018", "step-00000024", "best"}));
}

TEST(Trainer, FusedAndReferenceOperatorsGiveTheSameLosses) {
  const ScratchDirectory folder;
  auto fused = tiny(folder, "fused"), reference = tiny(folder, "reference"),
       again = tiny(folder, "again");
  reference.train.operators = Operators::kReference;
  again.train.grad_checkpoint = GradCheckpoint::kBlock;
  train(fused, quiet());
  train(reference, quiet());
  train(again, quiet());
  const auto a = log_lines(fused), b = log_lines(reference), c = log_lines(again);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char* field = a[i].contains("loss") ? "loss" : "valid_loss";
    EXPECT_NEAR(a[i][field].get<double>(), b[i][field].get<double>(), 1e-4);
    EXPECT_EQ(a[i][field], c[i][field]);
  }
}

TEST(Trainer, ADevicesKernelsGiveTheLossesOfTheCpus) {
  for (const char* what : {"plain", "rwkv7", "dropout", "segments", "averages", "guarded"}) {
    const ScratchDirectory folder;
    const auto configure = [&](const std::string& output) {
      auto config = tiny(folder, output);
      const std::string chosen = what;
      config.train.max_steps = 8;
      if (chosen == "rwkv7") {
        config.model.core = "rwkv7", config.model.head_size = 16;
        config.train.learning_rate = 1e-3;
      }
      if (chosen == "dropout") config.train.dropout = 0.2;
      if (chosen == "segments") config.train.segment_tokens = 5;
      if (chosen == "averages") config.train.ema_decay = 0.9, config.train.eval_every = 3;
      if (chosen == "guarded") config.train.on_spike = OnSpike::kSkip;
      return config;
    };
    const auto cpu = configure("cpu"), device = configure("device"), half = configure("half");
    train(cpu, quiet());
    {
      const KernelBodies bodies("f32");
      train(device, quiet());
    }
    {
      const KernelBodies bodies("bf16");
      train(half, quiet());
    }
    const auto a = log_lines(cpu), b = log_lines(device), c = log_lines(half);
    ASSERT_EQ(a.size(), b.size());
    ASSERT_EQ(a.size(), c.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const char* field = a[i].contains("loss") ? "loss" : "valid_loss";
      const double wanted = a[i][field];
      EXPECT_NEAR(b[i][field].get<double>(), wanted, 1e-4 * wanted) << what;
      EXPECT_NEAR(c[i][field].get<double>(), wanted, 2e-2 * wanted) << what;
      EXPECT_NE(c[i][field].get<double>(), wanted) << what;
    }
  }
}

// A device's losses are read where one is wanted, and what a run leaves does not depend on it.
TEST(Trainer, ADeviceIsReadAsRarelyAsTheLogIsWritten) {
  const ScratchDirectory folder;
  const KernelBodies bodies("bf16");
  auto often = tiny(folder, "often"), rarely = tiny(folder, "rarely");
  for (auto* config : {&often, &rarely}) config->train.max_steps = 12, config->train.eval_every = 5;
  often.train.log_every = 1, rarely.train.log_every = 6;
  train(often, quiet());
  train(rarely, quiet());
  double sum = 0;
  std::vector<double> means, validations;
  for (const auto& line : log_lines(often)) {
    if (line.contains("valid_loss")) validations.push_back(line["valid_loss"]);
    if (!line.contains("loss")) continue;
    sum += line["loss"].get<double>();
    if (line["step"].get<int>() % 6 == 0) means.push_back(std::exchange(sum, 0) / 6);
  }
  std::vector<double> found, validated;
  for (const auto& line : log_lines(rarely)) {
    if (line.contains("loss")) found.push_back(line["loss"]);
    if (line.contains("valid_loss")) validated.push_back(line["valid_loss"]);
  }
  ASSERT_EQ(found.size(), means.size());
  for (std::size_t i = 0; i < means.size(); ++i) EXPECT_NEAR(found[i], means[i], 1e-9);
  EXPECT_EQ(validated, validations);
}

// With validations between them, averages that take the weights' place there, and a rest of the
// data.
TEST(Trainer, BatchesThatAreStartedAsAWholeLeaveTheSameRun) {
  const ScratchDirectory folder;
  const KernelBodies bodies("bf16");
  auto one_by_one = tiny(folder, "one"), whole = tiny(folder, "whole");
  for (auto* config : {&one_by_one, &whole}) {
    config->train.max_steps = 12, config->train.eval_every = 5, config->train.ema_decay = 0.9;
    config->train.grad_accum_steps = 2;
  }
  whole.train.cuda_graph = true;
  train(one_by_one, quiet());
  train(whole, quiet());
  const auto wanted = log_lines(one_by_one), found = log_lines(whole);
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    for (const char* field : {"loss", "valid_loss", "grad_norm"})
      if (wanted[i].contains(field)) {
        EXPECT_EQ(found[i][field], wanted[i][field]) << i << " " << field;
      }
}

TEST(Trainer, ACudaGraphHasNoDropoutAndNoModules) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.cuda_graph = true;
  config.train.dropout = 0.1;
  EXPECT_THAT(
      [&] { config.train.check("train"); },
      testing::ThrowsMessage<ConfigError>(HasSubstr("train.cuda_graph: true needs dropout")));
  config.train.dropout = 0;
  config.train.operators = Operators::kReference;
  EXPECT_THAT([&] { config.train.check("train"); },
              testing::ThrowsMessage<ConfigError>(HasSubstr("needs operators = fused")));
}

TEST(Trainer, RefusesAnUnknownTypeOfKernelBodies) {
  const ScratchDirectory folder;
  const KernelBodies bodies("fp8");
  EXPECT_THAT([&] { train(tiny(folder), quiet()); },
              testing::ThrowsMessage<ConfigError>(HasSubstr("expected f32 or bf16, got \"fp8\"")));
}

// Words in no order: a text that cannot be learned by heart, where a rounding would grow tenfold in
// twenty steps.
std::string drawn_words() {
  std::string text;
  std::uint64_t state = 1;
  for (int i = 0; i < 6000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto drawn = state >> 33;
    text += std::string(1, static_cast<char>('a' + drawn % 23)) +
            std::string(1 + drawn % 4, static_cast<char>('a' + drawn / 32 % 19)) +
            (drawn % 11 == 0 ? ".\n" : " ");
  }
  return text;
}

void expect_the_same_losses(const std::string& core) {
  const ScratchDirectory folder;
  auto fused = tiny(folder, "fused");
  fused.data.train = {text_file(folder, "words.txt", drawn_words())};
  fused.model.core = core;
  if (core == "rwkv7") fused.model.head_size = 16;
  fused.model.n_layer = 3;
  fused.model.n_embd = 48;
  fused.train.ctx_len = 64;
  fused.train.grad_accum_steps = 1;
  fused.train.max_steps = 200;
  fused.train.log_every = 1;
  fused.train.eval_every = fused.train.save_every = 0;
  fused.train.learning_rate = 1e-3;
  fused.train.final_learning_rate = 1e-4;
  auto reference = fused;
  reference.train.output = (folder / "reference").string();
  reference.train.operators = Operators::kReference;
  train(fused, quiet());
  train(reference, quiet());
  const auto a = log_lines(fused), b = log_lines(reference);
  ASSERT_EQ(a.size(), b.size());
  ASSERT_GE(a.size(), 200u);
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].contains("loss")) {
      EXPECT_NEAR(a[i]["loss"].get<double>(), b[i]["loss"].get<double>(), 1e-4) << a[i];
    }
  EXPECT_LT(a[199]["loss"].get<double>(), 3);
}

TEST(TrainerSlow, FusedAndReferenceOperatorsKeepTheSameLossesOverTwoHundredSteps) {
  expect_the_same_losses("rwkv4");
}

TEST(TrainerSlow, FusedAndReferenceOperatorsKeepTheSameLossesOfRwkv7) {
  expect_the_same_losses("rwkv7");
}

TEST(Trainer, StartsFromAModelWithItsSizesAndTokenizer) {
  const ScratchDirectory folder;
  auto first = tiny(folder, "first");
  first.model.core = "rwkv7";
  first.model.head_size = 8;
  first.model.shift.kind = ShiftKind::kNone;
  train(first, quiet());
  const auto first_loss = [&](ShiftKind shift) {
    auto next = tiny(folder, "next" + enum_name(shift));
    next.model = {};
    next.model.shift.kind = shift;
    next.tokenizer = {};
    next.train.init_from = first.train.output;
    next.train.max_steps = next.train.log_every = 1;
    train(next, quiet());
    return log_lines(next).front()["loss"].get<double>();
  };
  const double plain = first_loss(ShiftKind::kNone);
  EXPECT_LT(plain, std::log(257.0) - 1);
  EXPECT_EQ(first_loss(ShiftKind::kGatedPositional), plain);  // taps of zeros change no bit

  auto other = tiny(folder, "other");
  other.model = {};
  other.model.n_layer = 5;
  other.train.init_from = first.train.output;
  EXPECT_THAT(
      test::failure(other, quiet()),
      HasSubstr("model.n_layer: is 5, but train.init_from, " + first.train.output + ", has 2"));
  // What is new in front of the model must fit the model's sizes.
  other.model = {};
  other.model.shift.gate = Gate::kGroup;
  other.model.shift.gate_groups = 3;
  EXPECT_THAT(test::failure(other, quiet()), HasSubstr("3 does not divide n_embd = 16"));
}

TEST(Trainer, WritesTheDocumentedLogFields) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 4;
  train(config, quiet());
  const auto line = log_lines(config).front();
  for (const char* field : {"step", "tokens", "loss", "learning_rate", "grad_norm",
                            "tokens_per_second", "peak_memory_bytes"})
    EXPECT_TRUE(line.contains(field)) << field;
  EXPECT_EQ(line["step"], 4);
  EXPECT_EQ(line["tokens"], 4 * 2 * 4 * 16);
}

TEST(Trainer, StopAndResumeGivesTheSameBytesAsOneRun) {
  const ScratchDirectory folder;
  test::expect_resume_gives_the_same_bytes(tiny(folder));
}

TEST(Trainer, LogOfAResumedRunHoldsEachStepOnce) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  auto options = quiet();
  options.stop_after = 11;
  train(config, options);
  // The newest checkpoint is damaged: training goes on from the one before, and so does the log.
  const auto newest = *latest_checkpoint(config.train.output);
  fs::resize_file(newest / kWeightsFile, 100);
  options.stop_after = 0;
  options.resume = true;
  EXPECT_TRUE(train(config, options).finished);
  std::multiset<std::int64_t> steps;
  for (const auto& line : log_lines(config))
    if (line.contains("loss")) steps.insert(line["step"].get<std::int64_t>());
  for (const auto step : steps) EXPECT_EQ(steps.count(step), 1u) << step;
}

TEST(Trainer, ADamagedCheckpointNeverCountsAsOneOfTheLast) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.keep_last = 1;
  config.train.save_every = 1000;
  auto options = quiet();
  options.stop_after = 5;
  train(config, options);
  options.resume = true;
  const auto first = *latest_checkpoint(config.train.output);
  fs::copy(first, first.parent_path() / step_name(20), fs::copy_options::recursive);
  fs::resize_file(first.parent_path() / step_name(20) / kWeightsFile, 100);
  options.stop_after = 1;
  train(config, options);  // goes on from step 5, below the damaged one
  EXPECT_EQ(latest_checkpoint(config.train.output)->filename(), step_name(6));
  EXPECT_FALSE(fs::exists(first.parent_path() / step_name(20)));
}

TEST(Trainer, RefusesToOverwriteARunInSilence) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 2;
  train(config, quiet());
  try {
    train(config, quiet());
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("--resume"));
  }
  auto options = quiet();
  options.overwrite = true;
  EXPECT_TRUE(train(config, options).finished);
}

TEST(Trainer, NamesTheSettingInWhichAResumedModelDiffers) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 2;
  train(config, quiet());
  config.model.shift.kernel = 3;
  config.train.max_steps = 4;
  auto options = quiet();
  options.resume = true;
  try {
    train(config, options);
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("model.shift.kernel was 4 and is 3"));
  }
}

TEST(Trainer, StopsAtALossThatIsNotFiniteAndKeepsTheLastGoodCheckpoint) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.learning_rate = 10;
  config.train.final_learning_rate = 10;
  config.train.grad_clip = 0;
  config.train.weight_decay = 10;
  config.train.shift_lr_scale = 1000;
  config.train.max_steps = 400;
  config.train.save_every = 1;
  config.train.warmup_steps = 0;
  try {
    train(config, quiet());
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_status(), 1);
    EXPECT_THAT(error.what(), HasSubstr("step "));
    EXPECT_THAT(error.what(), HasSubstr("finite"));
    EXPECT_THAT(error.what(), HasSubstr("checkpoints/step-"));
  }
  EXPECT_TRUE(latest_checkpoint(config.train.output).has_value());
}

TEST(Interrupted, WhileTheDataAreBuiltNothingIsLeft) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.tokenizer.kind = TokenizerKind::kSentencePiece;
  config.tokenizer.vocab_size = 286;
  const InterruptGuard guard;
  for (const int signal : {SIGINT, SIGHUP, SIGPIPE}) {
    interrupt_by(signal);
    EXPECT_THROW(train(config, quiet()), Interrupted) << signal;
    EXPECT_EQ(interrupt_signal(), signal);
    clear_interrupt();
    EXPECT_FALSE(fs::exists(config.train.output)) << signal;
  }
}

TEST(Trainer, ATextShorterThanTheContextIsRefusedWithBothNumbers) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.data.train = {text_file(folder, "short.txt", "too short")};
  config.train.ctx_len = 100;
  try {
    train(config, quiet());
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("101"));
  }
}

TEST(Trainer, AVocabularyTooSmallForTheTokenizerIsRefused) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.model.vocab_size = 100;
  EXPECT_THROW(train(config, quiet()), ConfigError);
}

TEST(Trainer, DoesNotDependOnTheNumberOfThreadsInItsData) {
  const ScratchDirectory folder;
  auto one = tiny(folder, "one"), two = tiny(folder, "two");
  one.train.max_steps = two.train.max_steps = 3;
  two.train.threads = 2;
  train(one, quiet());
  train(two, quiet());
  EXPECT_EQ(read_file(fs::path(one.train.output) / "data/train.bin"),
            read_file(fs::path(two.train.output) / "data/train.bin"));
}

TEST(Trainer, EstimatesWithoutTraining) {
  const ScratchDirectory folder;
  const auto config = tiny(folder);
  const auto estimate = estimate_training(config, /*quiet=*/true);
  EXPECT_GT(estimate.parameters, 0);
  EXPECT_EQ(estimate.tokens_per_step, 2 * 4 * 16);
  EXPECT_GT(estimate.seconds_per_step, 0);
  EXPECT_FALSE(fs::exists(fs::path(config.train.output) / "checkpoints"));
}

TEST(Trainer, ExplainsEveryParameter) {
  TrainConfig config;
  config.model.n_layer = 1;
  config.model.n_embd = 8;
  config.tokenizer.kind = TokenizerKind::kByte;
  const auto text = explain_parameters(config);
  for (const char* part : {"blocks.0.att.time_decay", "2x", "blocks.0.att.time_first", "3x",
                           "blocks.0.att.shift.conv", "(4, 8)", "orthogonal"})
    EXPECT_THAT(text, HasSubstr(part));
}

}  // namespace
}  // namespace rwkvx
