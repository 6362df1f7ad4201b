// A training run at work: what it holds, its steps, and what it looks at and saves between them.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/train/schedule.h"
#include "train/computation.h"
#include "train/gradient_sum.h"
#include "train/prepared_data.h"
#include "train/ranks.h"
#include "train/response_check.h"
#include "train/run_folder.h"
#include "train/tuning.h"
#include "train/watch.h"

namespace rwkvx {

// Batches one ahead: while a step runs, the next batch is read.
class BatchAhead {
 public:
  explicit BatchAhead(const TrainingBatches& batches) : batches_(batches) {}
  // Valid until the next call.
  const TokenBatch& get(std::int64_t position) {
    if (reading_.valid()) reading_.get();
    if (next_.position != position) batches_.fill(position, next_);
    std::swap(current_, next_);
    reading_ = std::async(std::launch::async,
                          [this, next = current_.next] { batches_.fill(next, next_); });
    return current_;
  }

 private:
  const TrainingBatches& batches_;
  TokenBatch current_, next_;
  std::future<void> reading_;  // waits in its destructor
};

// Where a run, or an estimate of one, reads and keeps its tokenizer and token files.
class Place {
 public:
  // A run's own folder.
  Place(const std::filesystem::path& output, const TrainOptions& options)
      : root_(output), run_(std::in_place, output, options) {}
  // Of another rank than 0: what that one has prepared there is read.
  struct Reader {};
  Place(const std::filesystem::path& output, Reader) : root_(output) {}
  // For an estimate: the same folder, so that the run finds what was made, but one that goes again
  // where the folder holds a run, which an estimate leaves alone.
  explicit Place(const std::filesystem::path& output) : root_(output) {
    if (holds_run(output)) {
      temporary_.emplace();
      root_ = temporary_->path();
    } else {
      made_.emplace(output);
      lock_.emplace(FileLock::of_directory(output));
    }
  }
  RunFolder* run() { return run_ ? &*run_ : nullptr; }
  std::filesystem::path data() const { return root_ / "data"; }
  std::filesystem::path tokenizer() const { return root_ / kTokenizerFolder; }

 private:
  std::filesystem::path root_;
  std::optional<RunFolder> run_;
  std::optional<TemporaryFolder> temporary_;
  std::optional<MadeDirectories> made_;
  std::optional<FileLock> lock_;
};

// Everything a run works with.
class Run {
 public:
  // Nothing in the place is changed before everything that could refuse the run was looked at.
  // `ranks`: the processes that train together; null for one alone.
  // `device` is that of a rank; else train.device says it.
  Run(const TrainConfig& given, Place& place, bool quiet, Ranks* ranks = nullptr,
      const std::string& device = "");

  TrainResult train(const TrainOptions& options);
  TrainEstimate estimate();

 private:
  std::int64_t step_tokens() const {
    return config_.train.grad_accum_steps * config_.train.batch_size * config_.train.ctx_len;
  }
  // Whether this process trains alone, or is rank 0, which alone writes.
  bool first() const { return ranks_ == nullptr || ranks_->rank() == 0; }
  bool asked_to_stop() const;
  bool bfloat16() const;
  PassPlace pass_place() const;
  std::string no_graph() const;
  const TokenBatch& next_batch();
  LossSum gradients();
  double gradients_of_ranks();
  int own_signal() const;
  void agree_on_signal(const std::vector<double>& signals);
  void share_state();
  void wait_for_first();
  void check_ranks(const std::string& own);
  bool step();
  void read_steps();
  void guard(const std::string& what, double loss);
  void begin_with_base();
  std::optional<double> validate();
  std::optional<double> validate_with_ranks();
  std::optional<ResponseScore> responses();
  [[noreturn]] void not_finite(std::int64_t step, const std::string& what);
  std::string last_good() const;
  nlohmann::ordered_json log_line(double loss, double seconds, std::int64_t tokens) const;
  void log(const nlohmann::ordered_json& line);
  void save();
  void with_adapter(const std::function<void(const Adapter*)>& save);
  struct Measured {
    double loss;
    std::optional<ResponseScore> responses;
  };
  std::optional<Measured> measure();
  bool keep_if_best(const Measured& measured, std::string_view weights);
  bool out_of_patience() const;
  void validate_and_keep_best();
  nlohmann::ordered_json gates();

  c10::Device device_;
  Ranks* ranks_;       // null: alone
  RunFolder* folder_;  // none for an estimate, and on other ranks than 0
  EventLog events_;
  bool quiet_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TrainConfig config_;
  PreparedData data_;
  std::optional<BatchAhead> ahead_;
  Rwkv model_{nullptr};
  std::unique_ptr<Tuning> tuning_;
  std::optional<ModelSource> base_;  // that an adapter is trained beside
  std::string base_hash_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<SupervisedPrompt> prompts_;  // answered at each validation
  bool fused_ = false;                     // or the reference modules train
  std::unique_ptr<Computation> computation_;
  std::unique_ptr<GradientSum> gradient_sum_;
  bool interrupted_together_ = false;  // a signal came to one of the ranks
  TrainingBudget budget_;
  Progression progress_;
  std::int64_t step_tokens_ = 0, step_next_ = 0;  // of the step in progress
  double grad_norm_ = 0, rate_ = 0;
  // Steps that a device has been asked for and whose numbers were not read yet.
  struct UnreadStep {
    LossSum loss;
    at::Tensor norm;
  };
  bool reads_later_ = false;
  std::vector<UnreadStep> unread_;
  // Of the steps read: NaN before the first; the sum since the last line of the log.
  double last_loss_ = std::numeric_limits<double>::quiet_NaN(), loss_sum_ = 0;
  // Expected at the peak, bytes; 0 where the modules train, and beside a device.
  double memory_ = 0;
  // The last step from which a pass was finite: checkpoints up to it are good.
  std::int64_t verified_ = -1;
  std::int64_t saved_ = -1;           // the step of the newest checkpoint
  std::filesystem::path checkpoint_;  // itself
};

}  // namespace rwkvx
