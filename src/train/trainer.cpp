#include "rwkvx/train/trainer.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <functional>
#include <future>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/precision.h"
#include "rwkvx/ops/threads.h"
#include "rwkvx/train/init_from.h"
#include "rwkvx/train/schedule.h"
#include "train/computation.h"
#include "train/ema.h"
#include "train/prepared_data.h"
#include "train/response_check.h"
#include "train/run_folder.h"
#include "train/tuning.h"
#include "train/watch.h"

namespace rwkvx {
namespace {

using Clock = std::chrono::steady_clock;

// What the matrix products' library and its threads take once they work.
constexpr double kWorkspaceBytes = 16e6;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

c10::Device training_device(const TrainingConfig& config) {
  const auto device = find_device(config.device, "train.device");
  if (!device.is_cpu() && config.grad_checkpoint != GradCheckpoint::kNone)
    throw ConfigError("train.grad_checkpoint",
                      enum_name(config.grad_checkpoint) +
                          " is only supported on the CPU, and the device is " + device.str() +
                          "; set it to none");
  if (!device.is_cpu() && config.segment_tokens > 0 && config.bptt == Bptt::kFull)
    throw ConfigError("train.bptt", "full is only supported on the CPU, and the device is " +
                                        device.str() + "; set it to truncated");
  uses_bfloat16(enum_name(config.precision), device, "train.precision");
  return device;
}

// The settings with the vocabulary size that the tokenizer has.
TrainConfig resolved(const TrainConfig& given, const Tokenizer& tokenizer) {
  TrainConfig config = given;
  const auto size = tokenizer.vocab_size();
  if (config.model.vocab_size == 0) config.model.vocab_size = size;
  if (config.model.vocab_size < size)
    throw ConfigError("model.vocab_size", std::to_string(config.model.vocab_size) +
                                              " is too small for the tokenizer's " +
                                              std::to_string(size) + " ids; 0 takes its size");
  return config;
}

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
  Run(const TrainConfig& given, Place& place, bool quiet)
      : device_(training_device(given.train)), folder_(place.run()), quiet_(quiet) {
    refuse_while_built(given.data, place.data());
    auto from = open_init_from(given);
    auto prepared = from.tokenizer == nullptr
                        ? prepare_tokenizer(from.config, place.tokenizer(), quiet)
                        : PreparedTokenizer{std::move(from.tokenizer), ""};
    config_ = resolved(from.config, *prepared.tokenizer);
    const auto& t = config_.train;
    model_ = Rwkv(config_.model);
    model_->initialize(static_cast<std::uint64_t>(t.seed), t.learning_rate);
    if (from.source) {
      load_weights(*model_, from.source->file, /*allow_new_shift=*/true);
      if (!quiet && config_.model.shift.enabled() && !from.source->config.shift.enabled())
        log_info("the gated positional shift is new in front of " + t.init_from +
                 "; model.shift.kind=none leaves it out");
    }
    model_->to(device_);
    tuning_ = std::make_unique<Tuning>(model_, t);
    if (from.source) base_hash_ = from.source->hash();
    base_ = std::move(from.source);
    optimizer_ = std::make_unique<Optimizer>(
        *model_, t, [&](const ParameterRow& row) { return tuning_->trains(row); },
        tuning_->extra());
    if (folder_ != nullptr && folder_->resume_from()) {
      folder_->restore(*model_, *optimizer_, *prepared.tokenizer, config_, progress_);
      begin_with_base();
      // The steps that led there were finite.
      verified_ = std::max(progress_.step - 1, progress_.guard.verified);
    }
    data_ =
        prepare_data(config_, *prepared.tokenizer, place.data(), quiet, [&](const TokenSets& sets) {
          if (folder_ != nullptr) folder_->check_texts(sets, config_, progress_);
        });
    save_trained(prepared, place.tokenizer());
    tokenizer_ = std::move(prepared.tokenizer);
    ahead_.emplace(*data_.batches);
    if (t.eval_generate > 0) prompts_ = supervised_prompts(config_.data, t.eval_generate);
    budget_ = training_budget(t, step_tokens(), data_.train_tokens);

    fused_ = t.operators == Operators::kFused && device_.is_cpu() &&
             TrainingPass::supports(config_.model);
    if (!fused_) {
      computation_ = module_computation(model_, t, tuning_->additions());
      return;
    }
    ::malloc_trim(0);  // what training the tokenizer and reading the text left behind
    memory_ = resident_memory_bytes() + kWorkspaceBytes;
    computation_ = fused_computation(
        model_, t, {t.batch_size * t.ctx_len, t.ctx_len, data_.batches->most_sequences()},
        tuning_->additions());
    memory_ += computation_->buffer_bytes();
  }

  TrainResult train(const TrainOptions& options);
  TrainEstimate estimate();

 private:
  std::int64_t step_tokens() const {
    return config_.train.grad_accum_steps * config_.train.batch_size * config_.train.ctx_len;
  }
  bool asked_to_stop() const {
    if (!quiet_ && messages_closed()) interrupt_by(SIGPIPE);
    return interrupted();
  }
  bool bfloat16() const {
    return uses_bfloat16(enum_name(config_.train.precision), device_, "train.precision");
  }
  const TokenBatch& next_batch();
  double gradients();
  std::optional<double> step();
  void guard(const std::string& what, double loss);
  void begin_with_base();
  std::optional<double> validate();
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
  RunFolder* folder_;  // none for an estimate
  EventLog events_;
  bool quiet_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TrainConfig config_;
  PreparedData data_;
  std::optional<BatchAhead> ahead_;
  Rwkv model_{nullptr};
  std::unique_ptr<Tuning> tuning_;
  std::optional<ModelSource> base_;  // of train.init_from
  std::string base_hash_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<SupervisedPrompt> prompts_;  // answered at each validation
  bool fused_ = false;                     // or the reference modules train
  std::unique_ptr<Computation> computation_;
  TrainingBudget budget_;
  Progression progress_;
  std::int64_t step_tokens_ = 0, step_next_ = 0;  // of the step in progress
  double grad_norm_ = 0, rate_ = 0;
  double memory_ = 0;  // expected at the peak, bytes; 0 where the modules train
  // The last step from which a pass was finite: checkpoints up to it are good.
  std::int64_t verified_ = -1;
  std::int64_t saved_ = -1;           // the step of the newest checkpoint
  std::filesystem::path checkpoint_;  // itself
};

// The next batch of the step in progress.
const TokenBatch& Run::next_batch() {
  const auto& batch = ahead_->get(step_next_);
  step_next_ = batch.next;
  step_tokens_ += static_cast<std::int64_t>(batch.inputs.size());
  return batch;
}

// The gradients of a step's batches; the mean loss.
double Run::gradients() {
  const auto parts = config_.train.grad_accum_steps;
  step_next_ = progress_.next_batch;
  step_tokens_ = 0;
  double loss = 0;
  if (!data_.weighted) {
    // Every batch counts the same.
    for (std::int64_t part = 0; part < parts; ++part) {
      const auto& batch = next_batch();
      loss += computation_->gradients(batch, 1 / static_cast<double>(parts), batch.weight);
    }
    return loss / static_cast<double>(parts);
  }
  // Every token with a loss counts the same.
  std::vector<TokenBatch> batches;
  double weight = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    batches.push_back(next_batch());
    weight += batches.back().weight;
  }
  if (weight == 0) return 0;
  for (const auto& batch : batches) loss += computation_->gradients(batch, 1, weight);
  return loss;
}

// One optimizer step; the mean loss over its batches. None where a guard took the step back.
std::optional<double> Run::step() {
  const auto& c = config_.train;
  const double loss = gradients();
  grad_norm_ = std::isfinite(loss) ? optimizer_->grad_norm() : 0;
  const bool finite = std::isfinite(loss) && std::isfinite(grad_norm_);
  if (finite) verified_ = std::max(verified_, progress_.step);
  if (const auto what = find_spike(c, loss, grad_norm_, progress_.guard); !what.empty()) {
    guard(what, loss);
    return std::nullopt;
  }
  rate_ = scheduled_rate(c, budget_, progress_.step, progress_.tokens);
  optimizer_->step(rate_, grad_norm_);
  ++progress_.step;
  progress_.tokens += step_tokens_;
  progress_.next_batch = step_next_;
  return loss;
}

// Does what on_spike says about the step that would come next. The data go on after its batches, so
// that they do not come again.
void Run::guard(const std::string& what, double loss) {
  const auto& c = config_.train;
  const bool finite = std::isfinite(loss) && std::isfinite(grad_norm_);
  const auto step = progress_.step + 1, batch = progress_.next_batch;
  if (c.on_spike == OnSpike::kStop || progress_.guard.used >= c.max_guards) {
    const auto all = c.on_spike == OnSpike::kStop
                         ? what
                         : what + ", and train.max_guards = " + std::to_string(c.max_guards) +
                               " steps were skipped or rolled back before";
    if (!finite) not_finite(step, all);
    throw Error("step " + std::to_string(step), all + "; last good checkpoint: " + last_good() +
                                                    "; a smaller learning_rate usually helps");
  }
  ++progress_.guard.used;
  progress_.next_batch = step_next_;
  optimizer_->clear_gradients();
  nlohmann::ordered_json line = {
      {"step", step}, {"guard", "skip"}, {"reason", what}, {"batch", batch}};
  auto told = "step " + std::to_string(step) + ": " + what + "; ";
  std::optional<std::filesystem::path> target;
  if (c.on_spike == OnSpike::kRollback && folder_ != nullptr)
    target = folder_->roll_back(verified_, *model_, *optimizer_, progress_);
  if (target) {
    begin_with_base();
    checkpoint_ = *target;
    verified_ = saved_ = progress_.step;
    line["guard"] = "rollback";
    line["to_step"] = progress_.step;
    told += "back to step " + std::to_string(progress_.step) + ", with the data that follow";
  } else {
    told += c.on_spike == OnSpike::kRollback
                ? "skipped, as there is no good checkpoint to go back to"
                : "skipped";
  }
  log_warning(told + " (guard " + std::to_string(progress_.guard.used) + " of " +
              std::to_string(c.max_guards) + ")");
  if (folder_ != nullptr) log(line);
}

std::string Run::last_good() const {
  const auto good =
      folder_ == nullptr ? std::nullopt : latest_checkpoint(folder_->checkpoints(), verified_);
  return good ? good->string() : "none";
}

void Run::not_finite(std::int64_t step, const std::string& what) {
  const auto tensor = optimizer_->first_not_finite();
  auto good = last_good();
  // The state that this came from may have been saved: it is not one to go on from.
  if (folder_ != nullptr && good != "none" && progress_.step > verified_) {
    const auto bad = folder_->checkpoints() / step_name(progress_.step);
    std::error_code ignored;
    if (std::filesystem::is_directory(bad, ignored))
      good += " (" + bad.filename().string() + ", which gives this, is set aside as " +
              set_aside(bad, "diverged").filename().string() + ")";
  }
  throw Error("step " + std::to_string(step),
              what + "; first tensor that is not finite: " +
                  (tensor.empty() ? "none of the parameters, so the logits" : tensor) +
                  "; last good checkpoint: " + good + "; a smaller learning_rate usually helps");
}

// Mean loss over the validation text, each window or document from an empty state; none where a
// signal came.
std::optional<double> Run::validate() {
  double sum = 0, weight = 0;
  TokenBatch batch;
  for (std::int64_t i = 0; i < data_.checks->batches() && !asked_to_stop(); ++i) {
    data_.checks->fill(i, batch);
    if (batch.weight == 0) continue;
    sum += batch.weight * computation_->loss(batch);
    weight += batch.weight;
  }
  if (interrupted()) return std::nullopt;
  return sum / weight;
}

nlohmann::ordered_json Run::log_line(double loss, double seconds, std::int64_t tokens) const {
  nlohmann::ordered_json line = {
      {"step", progress_.step},
      {"tokens", progress_.tokens},
      {"loss", loss},
      {"learning_rate", rate_},
      {"grad_norm", grad_norm_},
      {"tokens_per_second", seconds > 0 ? static_cast<double>(tokens) / seconds : 0},
      {"peak_memory_bytes", static_cast<std::int64_t>(peak_memory_bytes())}};
  if (!device_.is_cpu())
    line["peak_device_memory_bytes"] = static_cast<std::int64_t>(peak_device_memory_bytes(device_));
  return line;
}

// A step whose line cannot be written is saved first, so that it is not lost with the error.
void Run::log(const nlohmann::ordered_json& line) {
  try {
    folder_->log(line);
    events_.log(line);
  } catch (const FileError& error) {
    if (saved_ != progress_.step) save();
    throw FileError("", std::string(error.what()) + "; step " + std::to_string(progress_.step) +
                            " is saved in " + checkpoint_.string() + ": resume it with --resume");
  }
}

void Run::save() {
  if (!optimizer_->first_not_finite().empty())
    not_finite(progress_.step, "the parameters are not finite any more");
  try {
    progress_.guard.verified = verified_;
    with_adapter([&](const Adapter* adapter) {
      checkpoint_ = folder_->save(*model_, *optimizer_, progress_, verified_, adapter);
    });
  } catch (const FileError& error) {
    throw FileError("", "step " + std::to_string(progress_.step) +
                            " could not be saved: " + error.what() +
                            "; earlier checkpoints are kept, the last good one: " + last_good());
  }
  if (auto* ema = optimizer_->ema(); ema != nullptr) {
    ema->swap();
    auto averaged = progress_;
    averaged.valid_loss = progress_.ema_valid_loss;
    with_adapter(
        [&](const Adapter* adapter) { folder_->save_averages(*model_, averaged, adapter); });
    ema->swap();
  }
  saved_ = progress_.step;
}

// A checkpoint's weights are those with a LoRA; training goes on beside the base.
void Run::begin_with_base() {
  if (config_.train.adapter == TrainAdapter::kLora)
    load_weights(*model_, base_->file, /*allow_new_shift=*/true);
}

// Calls save(adapter) while the model has what was trained beside it; null where there is none.
void Run::with_adapter(const std::function<void(const Adapter*)>& save) {
  if (config_.train.adapter == TrainAdapter::kNone) return save(nullptr);
  const auto adapter = tuning_->adapter(model_, base_hash_);
  tuning_->merge();
  save(&adapter);
  tuning_->split();
}

// Whether validations got no better for as long as train.patience has it.
bool Run::out_of_patience() const {
  const auto patience = config_.train.patience;
  return patience > 0 && progress_.without_better >= patience;
}

// The loss, and the responses where they are asked for; nothing where a signal came.
std::optional<Run::Measured> Run::measure() {
  const auto loss = validate();
  if (!loss) return std::nullopt;
  Measured measured{*loss, {}};
  if (prompts_.empty()) return measured;
  tuning_->merge();
  measured.responses =
      score_responses(model_, tuning_->additions().state.get(), *tokenizer_, prompts_,
                      config_.train.ctx_len, [&] { return asked_to_stop(); });
  tuning_->split();
  if (!measured.responses) return std::nullopt;
  return measured;
}

// Keeps the model as the best one where it is better than the one so far.
bool Run::keep_if_best(const Measured& measured, std::string_view weights) {
  const bool by_rouge = config_.train.best_by == BestBy::kRougeL;
  if (by_rouge ? measured.responses->rouge_l <= progress_.best_rouge_l
               : !(measured.loss < progress_.best_valid_loss))
    return false;
  progress_.best_valid_loss = measured.loss;
  if (measured.responses) progress_.best_rouge_l = measured.responses->rouge_l;
  progress_.best_step = progress_.step;
  auto kept = progress_;
  kept.valid_loss = measured.loss;
  with_adapter(
      [&](const Adapter* adapter) { folder_->save_best(*model_, kept, weights, adapter); });
  return true;
}

// On the first sequence of the validation text.
nlohmann::ordered_json Run::gates() {
  TokenBatch batch;
  data_.checks->fill(0, batch);
  const auto tokens =
      torch::from_blob(batch.inputs.data(), {1, batch.lengths.front()}, torch::kInt64);
  return gate_statistics(*model_, tokens.to(device_));
}

void Run::validate_and_keep_best() {
  const auto measured = measure();
  if (!measured) return;
  const double loss = measured->loss;
  if (!std::isfinite(loss))
    not_finite(progress_.step, "the validation loss is " + std::to_string(loss));
  verified_ = std::max(verified_, progress_.step);
  progress_.valid_loss = loss;
  const bool averaged = optimizer_->ema() != nullptr;
  bool best = keep_if_best(*measured, averaged ? "raw" : "");
  std::optional<Measured> averages;
  if (averaged) {
    optimizer_->ema()->swap();
    averages = measure();
    if (averages) {
      progress_.ema_valid_loss = averages->loss;
      best = keep_if_best(*averages, "ema") || best;
    }
    optimizer_->ema()->swap();
    if (!averages) return;  // a signal came
  }
  progress_.without_better = best ? 0 : progress_.without_better + 1;
  nlohmann::ordered_json line = {{"step", progress_.step},
                                 {"tokens", progress_.tokens},
                                 {"valid_loss", loss},
                                 {"valid_perplexity", std::exp(loss)}};
  if (averages) line["ema_valid_loss"] = averages->loss;
  const auto& responses = measured->responses;
  if (responses) {
    line["rouge_l"] = responses->rouge_l;
    if (averages) line["ema_rouge_l"] = averages->responses->rouge_l;
    line["sample"] = {{"prompt", prompts_.front().prompt},
                      {"response", responses->responses.front()}};
  }
  line["best"] = best;
  if (config_.train.watch_gates && config_.model.shift.enabled()) line["gates"] = gates();
  log(line);
  if (quiet_) return;
  char text[160], rouge[40] = "";
  if (responses) std::snprintf(rouge, sizeof rouge, ", ROUGE-L %.4f", responses->rouge_l);
  std::snprintf(text, sizeof text, "step %lld: validation loss %.4f, perplexity %.2f%s%s",
                static_cast<long long>(progress_.step), loss, std::exp(loss), rouge,
                best ? ", the best so far" : "");
  log_info(text);
}

TrainResult Run::train(const TrainOptions& options) {
  const auto& c = config_.train;
  const bool resumed = folder_->resume_from().has_value();
  if (resumed) {
    checkpoint_ = *folder_->resume_from();
    saved_ = progress_.step;
  }
  folder_->begin(config_, *tokenizer_, data_.sets, progress_);
  events_.begin(config_, progress_.step, resumed, options.overwrite);
  if (const auto warning = device_warning(device_, bfloat16()); !warning.empty() && !quiet_)
    log_warning(warning);
  if (!quiet_) {
    const auto all = parameter_count(config_.model), trained = tuning_->parameters();
    log_info(count_text(all) + " parameters" +
             (trained == all ? "" : ", of which " + count_text(trained) + " are trained") +
             ", vocabulary " + count_text(config_.model.vocab_size) + "; training text " +
             count_text(data_.train_tokens) + " tokens, validation " +
             count_text(data_.valid_tokens) +
             (memory_ > 0 ? "; memory " + bytes_text(memory_) : "") +
             (device_.is_cpu()
                  ? ""
                  : "; on " + device_.str() + " in " + (bfloat16() ? "bfloat16" : "float32")));
    if (resumed) log_info("resuming from step " + std::to_string(progress_.step));
  }
  if (c.operators == Operators::kFused && device_.is_cpu() && !fused_)
    log_warning("train.operators: " + slow_training_note(config_.model));

  if ((c.max_tokens > 0 || c.epochs > 0) && !quiet_)
    log_info("the run ends after " + budget_.text() + ", which sets the length of the schedule");
  const auto stop_at = options.stop_after > 0 ? progress_.step + options.stop_after
                                              : std::numeric_limits<std::int64_t>::max();
  const auto ended = [&] {
    return budget_.reached(progress_.step, progress_.tokens) || out_of_patience();
  };
  const auto began = Clock::now();
  const std::int64_t first_tokens = progress_.tokens;
  std::int64_t logged = progress_.step, logged_tokens = progress_.tokens;
  double loss_sum = 0, seconds = 0;
  {
    Progress bar("training", budget_.expected_steps(), quiet_);
    bar.start_from(progress_.step);
    while (!ended() && progress_.step < stop_at && !asked_to_stop()) {
      const auto start = Clock::now();
      const auto tokens_before = progress_.tokens;
      const auto loss = step();
      seconds += seconds_since(start);
      if (!loss) {
        if (progress_.tokens < tokens_before) {
          logged = progress_.step;
          logged_tokens = progress_.tokens;
          loss_sum = seconds = 0;
        }
        continue;
      }
      // What was saved before this step is good, so that older ones may go.
      if (saved_ == progress_.step - 1) folder_->prune(verified_);
      loss_sum += *loss;
      bar.update(progress_.step,
                 training_note(progress_.step, progress_.tokens, *loss, progress_.valid_loss,
                               static_cast<double>(progress_.tokens - logged_tokens) / seconds));
      const bool end = ended();
      if (progress_.step % c.log_every == 0 || end || progress_.step == stop_at) {
        const auto steps = progress_.step - logged;
        log(log_line(loss_sum / static_cast<double>(steps), seconds,
                     progress_.tokens - logged_tokens));
        logged = progress_.step;
        logged_tokens = progress_.tokens;
        loss_sum = seconds = 0;
      }
      if (end || (c.eval_every > 0 && progress_.step % c.eval_every == 0)) validate_and_keep_best();
      if (!end && c.save_every > 0 && progress_.step % c.save_every == 0) save();
    }
    bar.finish();
  }
  if (saved_ != progress_.step) save();
  TrainResult result;
  result.checkpoint = checkpoint_;
  result.step = progress_.step;
  result.valid_loss = progress_.valid_loss;
  result.best_valid_loss = progress_.best_valid_loss;
  result.best_step = progress_.best_step;
  result.finished = ended();
  result.signal = interrupt_signal();
  result.seconds = seconds_since(began);
  result.tokens = progress_.tokens - first_tokens;
  if (progress_.best_step > 0) result.best_checkpoint = folder_->checkpoints() / kBestName;
  return result;
}

TrainEstimate Run::estimate() {
  TrainEstimate estimate;
  estimate.parameters = parameter_count(config_.model);
  estimate.vocab_size = config_.model.vocab_size;
  estimate.train_tokens = data_.train_tokens;
  estimate.valid_tokens = data_.valid_tokens;
  estimate.tokens_per_step = step_tokens();
  estimate.steps = budget_.expected_steps();
  estimate.epochs =
      static_cast<double>(step_tokens() * estimate.steps) / static_cast<double>(data_.train_tokens);
  step();  // the first one also pays for warming up
  const auto start = Clock::now();
  step();
  estimate.seconds_per_step = seconds_since(start);
  const double on_device = peak_device_memory_bytes(device_);
  estimate.memory_bytes = on_device > 0 ? on_device : peak_memory_bytes();
  return estimate;
}

[[noreturn]] void out_of_memory(const TrainConfig& config, const std::string& asked) {
  throw Error("memory",
              "not enough" + (asked.empty() ? "" : " for another " + asked) + " for batches of " +
                  std::to_string(config.train.batch_size) + " x " +
                  std::to_string(config.train.ctx_len) +
                  " tokens; lower train.batch_size (train.grad_accum_steps makes up for it), "
                  "train.ctx_len, model.n_embd or model.n_layer, or set "
                  "train.grad_checkpoint to \"block\"");
}

// Does the work; where memory runs out, the error says which settings decide how much is needed.
template <class Work>
auto with_memory_advice(const TrainConfig& config, const Work& work) {
  try {
    return work();
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    constexpr std::string_view kAsked = "ried to allocate ";
    const auto asked = text.find(kAsked);
    if (asked == std::string::npos) throw;
    const auto begin = asked + kAsked.size();
    const auto end = std::min(text.find_first_of(".\n", begin), text.size());
    out_of_memory(config, text.substr(begin, end - begin));
  } catch (const std::bad_alloc&) {
    out_of_memory(config, "");
  } catch (const std::length_error&) {
    out_of_memory(config, "");
  }
}

}  // namespace

TrainResult train(const TrainConfig& config, const TrainOptions& options) {
  const InterruptGuard guard;
  return with_memory_advice(config, [&] {
    set_threads(config.train.threads);
    Place place(config.train.output, options);
    return Run(config, place, options.quiet).train(options);
  });
}

TrainEstimate estimate_training(const TrainConfig& config, bool quiet) {
  const InterruptGuard guard;
  return with_memory_advice(config, [&] {
    set_threads(config.train.threads);
    Place place(config.train.output);
    return Run(config, place, quiet).estimate();
  });
}

std::string explain_parameters(const TrainConfig& config) {
  auto model = config.model;
  if (model.vocab_size == 0)
    model.vocab_size = config.tokenizer.kind == TokenizerKind::kByte ? 257
                       : config.tokenizer.kind == TokenizerKind::kWorld
                           ? 65536
                           : config.tokenizer.vocab_size;
  std::string text;
  char line[256];
  const auto add = [&](const std::string& name, const std::string& shape, const std::string& init,
                       const std::string& rate, const std::string& decay) {
    std::snprintf(line, sizeof line, "%-36s %-14s %-34s %5s %7s\n", name.c_str(), shape.c_str(),
                  init.c_str(), rate.c_str(), decay.c_str());
    text += line;
  };
  add("parameter", "shape", "initial value", "rate", "decay");
  char number[2][32];
  for (const auto& row : describe_parameters(model)) {
    const bool frozen = std::ranges::any_of(
        config.train.freeze, [&](const auto& pattern) { return means_parameter(pattern, row); });
    if (frozen)
      std::snprintf(number[0], sizeof number[0], "none");
    else
      std::snprintf(number[0], sizeof number[0], "%gx", learning_rate_scale(row, config.train));
    std::snprintf(number[1], sizeof number[1], "%g", weight_decay_of(row, config.train));
    add(row.name, shape_text(row.shape), row.start.text, number[0], number[1]);
  }
  return text + count_text(parameter_count(model)) + " parameters\n";
}

}  // namespace rwkvx
