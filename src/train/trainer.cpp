#include "rwkvx/train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
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
#include "rwkvx/data/batcher.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/precision.h"
#include "rwkvx/ops/threads.h"
#include "rwkvx/train/init_from.h"
#include "rwkvx/train/schedule.h"
#include "train/run_folder.h"

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

// Batches one ahead: while a step runs, the next batch is read from the token file.
class BatchAhead {
 public:
  struct Batch {
    std::int64_t index = -1;
    std::vector<std::int64_t> inputs, targets;
  };
  BatchAhead(const Batcher& batches, std::int64_t tokens) : batches_(batches) {
    for (auto* batch : {&current_, &next_})
      for (auto* ids : {&batch->inputs, &batch->targets}) ids->resize(static_cast<size_t>(tokens));
  }
  // Valid until the next call.
  const Batch& get(std::int64_t index) {
    if (reading_.valid()) reading_.get();
    if (next_.index != index) read(next_, index);
    std::swap(current_, next_);
    reading_ = std::async(std::launch::async, [this, index] { read(next_, index + 1); });
    return current_;
  }

 private:
  void read(Batch& batch, std::int64_t index) const {
    batches_.fill(index, batch.inputs.data(), batch.targets.data());
    batch.index = index;
  }
  const Batcher& batches_;
  Batch current_, next_;
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
    optimizer_ = std::make_unique<Optimizer>(*model_, t);
    if (folder_ != nullptr && folder_->resume_from()) {
      folder_->restore(*model_, *optimizer_, *prepared.tokenizer, progress_);
      verified_ = progress_.step - 1;  // the steps that led there were finite
    }
    sets_ = build_token_sets(config_.data, *prepared.tokenizer, place.data(), t.threads, quiet,
                             [&](const TokenSets& sets) {
                               check_length(config_.data.train.front(), sets.train_manifest.tokens,
                                            t.ctx_len);
                             });
    save_trained(prepared, place.tokenizer());
    tokenizer_ = std::move(prepared.tokenizer);
    for (const auto* tokens : {sets_.train_tokens.get(), sets_.valid_tokens.get()})
      tokens->check_vocab(config_.model.vocab_size);
    batches_.emplace(sets_.mixture, t.ctx_len, t.batch_size, static_cast<std::uint64_t>(t.seed));
    ahead_.emplace(*batches_, t.batch_size * t.ctx_len);
    checks_.emplace(valid_tokens(), t.ctx_len, t.batch_size, t.eval_tokens);

    const TrainingPassOptions options{t.grad_checkpoint == GradCheckpoint::kBlock, t.l2wrap};
    const std::int64_t tokens = t.batch_size * t.ctx_len;
    if (t.operators != Operators::kFused || !device_.is_cpu() ||
        !TrainingPass::supports(config_.model))
      return;
    ::malloc_trim(0);  // what training the tokenizer and reading the text left behind
    memory_ = resident_memory_bytes() + kWorkspaceBytes +
              TrainingPass::buffer_bytes(config_.model, tokens, t.ctx_len, options);
    pass_ = std::make_unique<TrainingPass>(*model_, tokens, t.ctx_len, options);
  }

  TrainResult train(const TrainOptions& options);
  TrainEstimate estimate();

 private:
  std::int64_t step_tokens() const {
    return config_.train.grad_accum_steps * config_.train.batch_size * config_.train.ctx_len;
  }
  const TokenSource& train_tokens() const { return *sets_.train_tokens; }
  const TokenSource& valid_tokens() const { return *sets_.valid_tokens; }
  bool asked_to_stop() const {
    if (!quiet_ && messages_closed()) interrupt_by(SIGPIPE);
    return interrupted();
  }
  bool bfloat16() const {
    return uses_bfloat16(enum_name(config_.train.precision), device_, "train.precision");
  }
  at::Tensor logits(const std::int64_t* inputs, int64_t B, int64_t T);
  at::Tensor targets_on_device(const std::int64_t* targets, int64_t count) const;
  double batch_gradients(const std::int64_t* inputs, const std::int64_t* targets);
  double step();
  std::optional<double> validate();
  [[noreturn]] void not_finite(std::int64_t step, const std::string& what);
  std::string last_good() const;
  nlohmann::ordered_json log_line(double loss, double seconds, std::int64_t steps) const;
  void log(const nlohmann::ordered_json& line);
  void save();
  void validate_and_keep_best();

  c10::Device device_;
  RunFolder* folder_;  // none for an estimate
  bool quiet_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TrainConfig config_;
  TokenSets sets_;
  std::optional<Batcher> batches_;
  std::optional<BatchAhead> ahead_;
  std::optional<EvaluationBatches> checks_;
  Rwkv model_{nullptr};
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainingPass> pass_;  // none where the reference modules train
  Progression progress_;
  double grad_norm_ = 0, rate_ = 0;
  double memory_ = 0;  // expected at the peak, bytes; 0 where the modules train
  // The last step from which a pass was finite: checkpoints up to it are good.
  std::int64_t verified_ = -1;
  std::int64_t saved_ = -1;           // the step of the newest checkpoint
  std::filesystem::path checkpoint_;  // itself
};

// The modules' logits, (B T, V) float32.
at::Tensor Run::logits(const std::int64_t* inputs, int64_t B, int64_t T) {
  std::optional<MixedPrecision> mixed;
  if (bfloat16()) mixed.emplace(device_);
  const ReferenceOperators reference(config_.train.operators == Operators::kReference);
  auto state = model_->start(B);
  const auto tokens = torch::from_blob(const_cast<int64_t*>(inputs), {B, T}, torch::kInt64);
  return model_->forward(tokens.to(device_), state).to(torch::kFloat32).view({B * T, -1});
}

at::Tensor Run::targets_on_device(const std::int64_t* targets, int64_t count) const {
  return torch::from_blob(const_cast<int64_t*>(targets), {count}, torch::kInt64).to(device_);
}

// The loss of one batch, and its gradient divided by the number of accumulated batches.
double Run::batch_gradients(const std::int64_t* inputs, const std::int64_t* targets) {
  const auto& c = config_.train;
  const int64_t B = c.batch_size, T = c.ctx_len;
  const double share = 1 / static_cast<double>(c.grad_accum_steps);
  if (pass_ != nullptr) return pass_->loss_and_gradients(inputs, targets, B, T, share);
  const auto scores = logits(inputs, B, T);  // (B T, V)
  const auto loss = at::cross_entropy_loss(scores, targets_on_device(targets, B * T));
  auto total = loss * share;
  if (c.l2wrap > 0) {
    const auto largest = std::get<0>(scores.max(/*dim=*/1));
    total = total + (0.5 * c.l2wrap * share) * largest.square().mean();
  }
  total.backward();
  return loss.item<double>();
}

// One optimizer step; the mean loss over its batches.
double Run::step() {
  const auto& c = config_.train;
  double loss_sum = 0;
  for (std::int64_t part = 0; part < c.grad_accum_steps; ++part) {
    const auto& batch = ahead_->get(progress_.step * c.grad_accum_steps + part);
    const double loss = batch_gradients(batch.inputs.data(), batch.targets.data());
    if (!std::isfinite(loss)) not_finite(progress_.step + 1, "the loss is " + std::to_string(loss));
    loss_sum += loss;
  }
  grad_norm_ = optimizer_->grad_norm();
  if (!std::isfinite(grad_norm_))
    not_finite(progress_.step + 1, "the gradient's norm is not finite");
  verified_ = std::max(verified_, progress_.step);
  rate_ = scheduled_rate(c, progress_.step);
  optimizer_->step(rate_, grad_norm_);
  ++progress_.step;
  return loss_sum / static_cast<double>(c.grad_accum_steps);
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

// Mean loss over the validation windows, each from an empty state; none where a signal came.
std::optional<double> Run::validate() {
  const torch::NoGradGuard no_grad;
  double sum = 0;
  std::vector<std::int64_t> inputs, targets;
  for (std::int64_t i = 0; i < checks_->batches() && !asked_to_stop(); ++i) {
    const auto shape = checks_->shape(i);
    inputs.resize(static_cast<size_t>(shape.rows * shape.length));
    targets.resize(inputs.size());
    checks_->fill(i, inputs.data(), targets.data());
    const double tokens = static_cast<double>(inputs.size());
    if (pass_ != nullptr) {
      sum += tokens * pass_->loss(inputs.data(), targets.data(), shape.rows, shape.length);
      continue;
    }
    sum += tokens *
           at::cross_entropy_loss(logits(inputs.data(), shape.rows, shape.length),
                                  targets_on_device(targets.data(), shape.rows * shape.length))
               .item<double>();
  }
  if (interrupted()) return std::nullopt;
  return sum / static_cast<double>(checks_->targets());
}

nlohmann::ordered_json Run::log_line(double loss, double seconds, std::int64_t steps) const {
  nlohmann::ordered_json line = {
      {"step", progress_.step},
      {"tokens", progress_.step * step_tokens()},
      {"loss", loss},
      {"learning_rate", rate_},
      {"grad_norm", grad_norm_},
      {"tokens_per_second", seconds > 0 ? static_cast<double>(steps * step_tokens()) / seconds : 0},
      {"peak_memory_bytes", static_cast<std::int64_t>(peak_memory_bytes())}};
  if (!device_.is_cpu())
    line["peak_device_memory_bytes"] = static_cast<std::int64_t>(peak_device_memory_bytes(device_));
  return line;
}

// A step whose line cannot be written is saved first, so that it is not lost with the error.
void Run::log(const nlohmann::ordered_json& line) {
  try {
    folder_->log(line);
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
    checkpoint_ = folder_->save(*model_, *optimizer_, progress_, verified_);
  } catch (const FileError& error) {
    throw FileError("", "step " + std::to_string(progress_.step) +
                            " could not be saved: " + error.what() +
                            "; earlier checkpoints are kept, the last good one: " + last_good());
  }
  saved_ = progress_.step;
}

void Run::validate_and_keep_best() {
  const auto measured = validate();
  if (!measured) return;
  const double loss = *measured;
  if (!std::isfinite(loss))
    not_finite(progress_.step, "the validation loss is " + std::to_string(loss));
  verified_ = std::max(verified_, progress_.step);
  progress_.valid_loss = loss;
  const bool best = loss < progress_.best_valid_loss;
  if (best) {
    progress_.best_valid_loss = loss;
    progress_.best_step = progress_.step;
    folder_->save_best(*model_, progress_);
  }
  log({{"step", progress_.step},
       {"tokens", progress_.step * step_tokens()},
       {"valid_loss", loss},
       {"valid_perplexity", std::exp(loss)},
       {"best", best}});
  if (quiet_) return;
  char text[120];
  std::snprintf(text, sizeof text, "step %lld: validation loss %.4f, perplexity %.2f%s",
                static_cast<long long>(progress_.step), loss, std::exp(loss),
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
  folder_->begin(config_, *tokenizer_, sets_, progress_.step);
  if (const auto warning = device_warning(device_, bfloat16()); !warning.empty() && !quiet_)
    log_warning(warning);
  if (!quiet_) {
    log_info(count_text(parameter_count(config_.model)) + " parameters, vocabulary " +
             count_text(config_.model.vocab_size) + "; training text " +
             count_text(train_tokens().size()) + " tokens, validation " +
             count_text(valid_tokens().size()) +
             (memory_ > 0 ? "; memory " + bytes_text(memory_) : "") +
             (device_.is_cpu()
                  ? ""
                  : "; on " + device_.str() + " in " + (bfloat16() ? "bfloat16" : "float32")));
    if (resumed) log_info("resuming from step " + std::to_string(progress_.step));
  }
  if (c.operators == Operators::kFused && device_.is_cpu() && pass_ == nullptr)
    log_warning("train.operators: " + slow_training_note(config_.model));

  const std::int64_t last = options.stop_after > 0
                                ? std::min(c.max_steps, progress_.step + options.stop_after)
                                : c.max_steps;
  std::int64_t logged = progress_.step;
  double loss_sum = 0, seconds = 0;
  {
    Progress bar("training", c.max_steps, quiet_);
    bar.start_from(progress_.step);
    while (progress_.step < last && !asked_to_stop()) {
      const auto start = Clock::now();
      const double loss = step();
      seconds += seconds_since(start);
      // What was saved before this step is good, so that older ones may go.
      if (saved_ == progress_.step - 1) folder_->prune(verified_);
      loss_sum += loss;
      char note[96];
      std::snprintf(
          note, sizeof note, "step %lld  loss %.4f  %s tokens/s",
          static_cast<long long>(progress_.step), loss,
          count_text(static_cast<std::int64_t>(
                         static_cast<double>((progress_.step - logged) * step_tokens()) / seconds))
              .c_str());
      bar.update(progress_.step, note);
      if (progress_.step % c.log_every == 0 || progress_.step == last) {
        const auto steps = progress_.step - logged;
        log(log_line(loss_sum / static_cast<double>(steps), seconds, steps));
        logged = progress_.step;
        loss_sum = seconds = 0;
      }
      const bool end = progress_.step == c.max_steps;
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
  result.finished = progress_.step >= c.max_steps;
  result.signal = interrupt_signal();
  return result;
}

TrainEstimate Run::estimate() {
  TrainEstimate estimate;
  estimate.parameters = parameter_count(config_.model);
  estimate.vocab_size = config_.model.vocab_size;
  estimate.train_tokens = train_tokens().size();
  estimate.valid_tokens = valid_tokens().size();
  estimate.tokens_per_step = step_tokens();
  estimate.epochs = static_cast<double>(step_tokens() * config_.train.max_steps) /
                    static_cast<double>(train_tokens().size());
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
    std::snprintf(number[0], sizeof number[0], "%gx", learning_rate_scale(row, config.train));
    std::snprintf(number[1], sizeof number[1], "%g", weight_decay_of(row, config.train));
    add(row.name, shape_text(row.shape), row.start.text, number[0], number[1]);
  }
  return text + count_text(parameter_count(model)) + " parameters\n";
}

}  // namespace rwkvx
