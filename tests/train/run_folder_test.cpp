// What a run keeps in its folder, whatever happens to it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <limits>
#include <set>

#include "rwkvx/base/files.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/formats/safetensors.h"
#include "support/kernel_bodies.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::corpus;
using test::failure;
using test::log_lines;
using test::quiet;
using test::resuming;
using test::stopped_run;
using test::text_file;
using test::tiny;
using testing::AllOf;
using testing::HasSubstr;

TEST(RunFolder, ARefusedRunHasChangedNothing) {
  const ScratchDirectory folder;
  const auto config = stopped_run(folder);
  const auto before = contents(folder.path());
  const auto refused = [&](const TrainConfig& changed, const TrainOptions& options,
                           const std::string& text) {
    EXPECT_THAT(failure(changed, options), HasSubstr(text));
    EXPECT_EQ(contents(folder.path()), before) << text;
  };
  auto other = config;
  other.tokenizer.model_type = SentencePieceModel::kBpe;
  other.data.separator = "--";
  other.train.learning_rate = 1;
  refused(other, quiet(), "already holds a run (");
  refused(other, resuming(), "was trained with another tokenizer");
  other = config;
  other.model.n_layer = 3;
  other.data.separator = "--";
  refused(other, resuming(), "model.n_layer was 2 and is 3");
  auto overwriting = quiet();
  overwriting.overwrite = true;
  other = config;
  other.train.ctx_len = 100000;
  refused(other, overwriting, "ctx_len = 100000 needs at least 100001");
  other = config;
  other.model.vocab_size = 100;
  refused(other, overwriting, "model.vocab_size");
  other = config;
  other.train.device = "cuda:99";
  refused(other, overwriting, "cuda:99");
  other = config;
  other.data.train = {(folder / "none.txt").string()};
  refused(other, overwriting, "none.txt");
  const auto owner = FileLock::of_directory(config.train.output);
  EXPECT_THAT(failure(config, overwriting), HasSubstr("run: is in use by process "));
  EXPECT_THAT(failure(config, resuming()), HasSubstr("run: is in use by process "));
}

TEST(RunFolder, ARefusedFirstRunLeavesNoFolder) {
  const ScratchDirectory folder;
  auto config = tiny(folder, "a/b/run");
  config.train.ctx_len = 100000;
  EXPECT_THAT(failure(config, quiet()), HasSubstr("100001"));
  config = tiny(folder, "a/b/run");
  config.data.cache = (folder / "cache").string();
  config.data.train = {text_file(folder, "bad.jsonl", "{\"text\": \"good\"}\n[]\n")};
  EXPECT_THAT(failure(config, quiet()), HasSubstr("bad.jsonl:2"));
  EXPECT_FALSE(fs::exists(folder / "a"));
  EXPECT_FALSE(fs::exists(folder / "cache"));
}

TEST(RunFolder, FilesThatAreNotARunsAreLeftAlone) {
  const ScratchDirectory folder;
  const auto config = tiny(folder);
  const fs::path run = config.train.output;
  auto options = quiet();
  options.overwrite = true;
  const auto refused = [&](const std::string& name, const std::string& text) {
    fs::create_directories((run / name).parent_path());
    write_file(run / name, text);
    const auto before = contents(folder.path());
    EXPECT_THAT(failure(config, options), HasSubstr("not ")) << name;
    EXPECT_EQ(contents(folder.path()), before) << name;
    fs::remove_all(run);
  };
  refused("config.json", "{\"architectures\": [\"RwkvForCausalLM\"]}");
  refused("config.json", "{\"format\": \"rwkvx checkpoint 1\", \"model\": {}, \"train\": {}}");
  refused("config.json", "");
  refused("log.jsonl", "2026-01-01 12:00 something of mine\n");
  refused("log.jsonl", "no line end");
  refused("checkpoints/best/thesis.txt", "mine");
  refused("checkpoints/step-00000003/thesis.txt", "mine");
  refused("data/train.bin", "mine");
  auto trained = config;
  trained.tokenizer.kind = TokenizerKind::kSentencePiece;
  trained.tokenizer.vocab_size = 286;
  fs::create_directories(run / "tokenizer");
  write_file(run / "tokenizer/tokenizer.json", "{}");
  EXPECT_THAT(failure(trained, options), HasSubstr("was not trained by a run"));
  EXPECT_EQ(read_file(run / "tokenizer/tokenizer.json"), "{}");
}

TEST(RunFolder, ResumeNeverStartsAtZeroByItself) {
  const ScratchDirectory folder;
  const auto config = stopped_run(folder);
  const auto checkpoints = fs::path(config.train.output) / "checkpoints";
  const auto refused = [&](const std::string& text) {
    const auto before = contents(folder.path());
    const auto message = failure(config, resuming());
    EXPECT_THAT(message, HasSubstr(text));
    EXPECT_THAT(message, HasSubstr("start again at step 0 with --overwrite"));
    EXPECT_EQ(contents(folder.path()), before);
  };
  for (const int step : {6, 7}) fs::resize_file(checkpoints / step_name(step) / kWeightsFile, 100);
  refused("step-00000006/model.safetensors: expected ");
  fs::remove(checkpoints / step_name(6) / kChecksumsFile);
  refused("step-00000006/checksums.json: is missing");
  for (const int step : {6, 7}) fs::remove_all(checkpoints / step_name(step));
  refused("best has no trainer state");
  fs::remove_all(checkpoints);
  refused("its log has steps, but no checkpoint was saved");
  auto options = resuming();
  options.overwrite = true;
  EXPECT_TRUE(train(config, options).finished);
  EXPECT_EQ(log_lines(config).front()["step"], 4);
  // Where there is nothing, there is nothing to lose.
  fs::remove_all(config.train.output);
  EXPECT_TRUE(train(config, resuming()).finished);
}

TEST(RunFolder, ADamagedCheckpointIsNamedAndSetAside) {
  const ScratchDirectory folder;
  const auto config = stopped_run(folder);
  const auto newest = fs::path(config.train.output) / "checkpoints" / step_name(7);
  auto bytes = read_file(newest / kWeightsFile);
  bytes[bytes.size() / 2] ^= 1;
  write_file(newest / kWeightsFile, bytes);
  testing::internal::CaptureStderr();
  EXPECT_TRUE(train(config, resuming()).finished);
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      AllOf(HasSubstr("warning: "), HasSubstr("step-00000007/model.safetensors"),
            HasSubstr("resuming from step-00000006 instead"), HasSubstr("step-00000007.damaged")));
  EXPECT_EQ(read_file(newest.string() + ".damaged/" + kWeightsFile), bytes);
}

TEST(RunFolder, KeepsLinesOfTheLogThatItDoesNotUnderstand) {
  const ScratchDirectory folder;
  const auto config = stopped_run(folder);
  const auto log = fs::path(config.train.output) / "log.jsonl";
  write_file(log, read_file(log) + "{\"note\": \"mine\"}\n{\"step\":9}\n{\"step\":7,\"cut");
  EXPECT_TRUE(train(config, resuming()).finished);
  const auto text = read_file(log);
  EXPECT_THAT(text, HasSubstr("{\"note\": \"mine\"}\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("{\"step\":9}")));
  EXPECT_THAT(text, testing::Not(HasSubstr("cut")));
}

// Puts a value into a weight of a checkpoint, which is intact afterwards.
void set_weight(const fs::path& checkpoint, const std::string& tensor, std::size_t index,
                float value) {
  CheckpointWriter writer(checkpoint);
  {
    fs::copy(checkpoint, writer.path(), fs::copy_options::recursive);
    fs::remove(writer.path() / kChecksumsFile);
    const auto file = read_safetensors(checkpoint / kWeightsFile);
    auto views = file.tensors();
    std::vector<std::byte> changed;
    for (auto& view : views) {
      if (view.name != tensor) continue;
      changed.assign(view.bytes.begin(), view.bytes.end());
      std::memcpy(changed.data() + index * sizeof value, &value, sizeof value);
      view.bytes = changed;
    }
    ASSERT_FALSE(changed.empty());
    write_safetensors(writer.path() / kWeightsFile, views, {{"format", "rwkvx"}});
  }
  writer.commit();
}

std::set<std::string> step_names(const TrainConfig& config) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(fs::path(config.train.output) / "checkpoints"))
    if (entry.path().filename() != kBestName) names.insert(entry.path().filename().string());
  return names;
}

constexpr std::size_t kUnused = 'Z';  // a byte that the text has not

TEST(GoodCheckpoint, AValidationThatIsNotFiniteIsAnError) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.data.valid = {text_file(folder, "valid.txt", corpus() + "Z Z Z\n")};
  config.train.save_every = 5;
  config.train.eval_tokens = 0;
  auto options = quiet();
  options.stop_after = 5;
  train(config, options);
  const auto checkpoints = fs::path(config.train.output) / "checkpoints";
  // Training never sees this row, so that its own losses stay finite.
  set_weight(checkpoints / step_name(5), "emb.weight", kUnused * 16,
             std::numeric_limits<float>::quiet_NaN());
  const auto message = failure(config, resuming());
  EXPECT_THAT(message,
              AllOf(HasSubstr("step 6: the validation loss is "), HasSubstr("nan"),
                    HasSubstr("parameter emb.weight"), HasSubstr("last good checkpoint: ")));
  EXPECT_EQ(step_names(config), (std::set<std::string>{step_name(5)})) << "nothing was saved";
}

TEST(GoodCheckpoint, ParametersThatAreNotFiniteAreNotSaved) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.eval_every = 0;
  auto options = quiet();
  options.stop_after = 5;
  train(config, options);
  const auto checkpoints = fs::path(config.train.output) / "checkpoints";
  set_weight(checkpoints / step_name(5), "emb.weight", kUnused * 16,
             std::numeric_limits<float>::infinity());
  EXPECT_THAT(failure(config, resuming()), AllOf(HasSubstr("step 6: the parameters are not finite"),
                                                 HasSubstr("parameter emb.weight")));
  EXPECT_EQ(step_names(config), (std::set<std::string>{step_name(5)}));
}

void expect_the_last_good_one_is_kept() {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.keep_last = 1;
  config.train.save_every = 1;
  config.train.eval_every = 0;
  auto options = quiet();
  options.stop_after = 4;
  train(config, options);
  // Step 3 was passed through, step 4 not yet.
  EXPECT_EQ(step_names(config), (std::set<std::string>{step_name(3), step_name(4)}));
  const auto checkpoints = fs::path(config.train.output) / "checkpoints";
  set_weight(checkpoints / step_name(4), "head.weight", 0, std::numeric_limits<float>::quiet_NaN());
  const auto message = failure(config, resuming());
  EXPECT_THAT(message,
              AllOf(HasSubstr("step 5: "),
                    HasSubstr("last good checkpoint: " + (checkpoints / step_name(3)).string()),
                    HasSubstr("step-00000004, which gives this, is set aside as "
                              "step-00000004.diverged")));
  EXPECT_EQ(step_names(config), (std::set<std::string>{step_name(3), step_name(4) + ".diverged"}));
  EXPECT_TRUE(train(config, resuming()).finished) << "from step 3";
  EXPECT_EQ(step_names(config), (std::set<std::string>{step_name(24), step_name(4) + ".diverged"}));
}

TEST(GoodCheckpoint, TheLastGoodOneIsKeptWhateverKeepLastSays) {
  expect_the_last_good_one_is_kept();
}

TEST(GoodCheckpoint, TheLastGoodOneIsKeptWhereADevicesLossesAreReadLater) {
  const KernelBodies bodies("f32");
  expect_the_last_good_one_is_kept();
}

TEST(GoodCheckpoint, OfADivergedRunGivesAFiniteStep) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.learning_rate = config.train.final_learning_rate = 10;
  config.train.grad_clip = 0;
  config.train.weight_decay = 10;
  config.train.shift_lr_scale = 1000;
  config.train.max_steps = 400;
  config.train.save_every = config.train.keep_last = 1;
  config.train.eval_every = 0;
  config.train.warmup_steps = 0;
  const auto message = failure(config, quiet());
  if (message == "no error") GTEST_SKIP() << "this model survives every rate";
  const auto latest = latest_checkpoint(config.train.output);
  ASSERT_TRUE(latest.has_value());
  EXPECT_THAT(message, HasSubstr("last good checkpoint: " + latest->string()));
  auto options = resuming();
  options.stop_after = 1;
  config.train.learning_rate = config.train.final_learning_rate = 0;
  EXPECT_EQ(failure(config, options), "no error");
}

TEST(Saving, ALogThatCannotBeWrittenLosesNoStep) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.log_every = 1;
  config.train.save_every = 1000;
  fs::create_directories(config.train.output);
  fs::create_symlink("/dev/full", fs::path(config.train.output) / "log.jsonl");
  EXPECT_THAT(failure(config, quiet()),
              AllOf(HasSubstr("log.jsonl: cannot be written: No space left on device"),
                    HasSubstr("step 1 is saved in "), HasSubstr("--resume")));
  EXPECT_EQ(step_names(config), (std::set<std::string>{step_name(1)}));
}

TEST(Saving, AFullDiskKeepsTheCheckpointsBeforeAndSaysSo) {
  const ScratchDirectory folder;
  const auto config = stopped_run(folder);
  const auto before = contents(fs::path(config.train.output) / "checkpoints");
  // As on a full disk, no file may grow beyond a few kilobytes.
  struct rlimit old {};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 4096, old.rlim_max };
  ::setrlimit(RLIMIT_FSIZE, &small);
  auto options = resuming();
  options.stop_after = 1;
  const auto message = failure(config, options);
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, AllOf(HasSubstr("step 8 could not be saved: "), HasSubstr("File too large"),
                             HasSubstr("earlier checkpoints are kept, the last good one: "),
                             HasSubstr(step_name(7))));
  EXPECT_EQ(contents(fs::path(config.train.output) / "checkpoints"), before);
  EXPECT_TRUE(train(config, resuming()).finished);
}

TEST(Saving, MemoryThatRunsOutNamesTheSettingsToLower) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.batch_size = 1 << 20;
  config.train.ctx_len = 8000;
  struct rlimit old {};
  ::getrlimit(RLIMIT_AS, &old);
  const struct rlimit small { std::min<rlim_t>(old.rlim_max, rlim_t{1} << 36), old.rlim_max };
  ::setrlimit(RLIMIT_AS, &small);
  const auto message = failure(config, quiet());
  ::setrlimit(RLIMIT_AS, &old);
  EXPECT_THAT(message, AllOf(HasSubstr("memory: not enough"), HasSubstr("1048576 x 8000 tokens"),
                             HasSubstr("lower train.batch_size")));
}

}  // namespace
}  // namespace rwkvx
