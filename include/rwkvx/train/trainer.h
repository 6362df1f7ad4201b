// A training run: text to tokens, steps, validation, checkpoints, resuming.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/launch.h"
#include "rwkvx/config/train_config.h"

namespace rwkvx {

struct TrainOptions {
  bool resume = false;     // go on from the newest intact checkpoint of the output folder
  bool overwrite = false;  // remove an earlier run first; with resume: where it has none to resume
  std::int64_t stop_after = 0;  // leave after this many steps of this call, saved; 0: do not
  bool quiet = false;           // no progress, no messages
  RankPlace ranks;              // which of several processes this is; default: it is alone
};

// What ended this process's part of a training is shown by another process.
class ShownElsewhere : public Error {
 public:
  ShownElsewhere(const std::string& text, int status) : Error(text, "shown"), status_(status) {}
  int exit_status() const noexcept override { return status_; }

 private:
  int status_;
};

struct TrainResult {
  std::int64_t step = 0;  // steps taken in all
  double valid_loss = 0;  // natural-log loss per token of the last validation, NaN for none
  double best_valid_loss = 0;
  std::int64_t best_step = 0;
  bool finished = false;             // the end of its budget reached
  int signal = 0;                    // that ended it early, 0 for none
  std::filesystem::path checkpoint;  // the last one written
  double seconds = 0;                // of this call, from its first step to its last checkpoint
  std::int64_t tokens = 0;           // trained on by this call
  std::filesystem::path best_checkpoint;  // empty where nothing was validated
};

// Runs `config` in its output folder, which afterwards holds
//   config.json              the settings in full
//   log.jsonl                a line for every logged step; see docs/training.md
//   checkpoints/step-…, best what generate, eval and --resume read
//   data/, tokenizer/        token files and the tokenizer, reused by later runs
// Training goes on bit for bit after --resume on a processor: weights, moments and the order of the
// data depend on the step alone. One process at a time works in the folder, and changes nothing
// there before everything that could refuse the run was looked at. SIGINT, SIGTERM, SIGHUP and a
// closed pipe of messages save and leave; Interrupted is thrown where the data are not built yet.
// Throws ConfigError, DataError, CheckpointError, FileError; Error where the loss, the gradient,
// the parameters or a validation is not finite, naming the step, the first tensor that is not and
// the last good checkpoint: the newest one from which a pass was finite, which keep_last never
// removes.
// With several ranks every process calls this; rank 0 alone prepares, logs and saves, and the
// result is the same on all; see docs/scale.md. A job that its launcher restarted goes on from its
// newest checkpoint. Throws ShownElsewhere on other ranks than 0 for what rank 0 shows.
TrainResult train(const TrainConfig& config, const TrainOptions& options);

// What a run would need, found by preparing the data and timing a few steps of the real model.
struct TrainEstimate {
  std::int64_t parameters = 0, vocab_size = 0;
  std::int64_t train_tokens = 0, valid_tokens = 0;
  std::int64_t tokens_per_step = 0;
  std::int64_t steps = 0;   // of the run, if all batches are full
  double epochs = 0;        // passes over the training tokens
  double memory_bytes = 0;  // resident, at the peak of a step
  double seconds_per_step = 0;
};
TrainEstimate estimate_training(const TrainConfig& config, bool quiet = false);

// The table of `train --explain`: one line per parameter with shape, initial value, learning-rate
// multiplier and weight decay. config.model.vocab_size 0 stands for the tokenizer's size as set.
std::string explain_parameters(const TrainConfig& config);

}  // namespace rwkvx
