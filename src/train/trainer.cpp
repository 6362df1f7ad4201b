#include "rwkvx/train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <malloc.h>
#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <future>
#include <thread>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/data/batcher.h"
#include "rwkvx/model/checkpoint_directory.h"
#include "rwkvx/model/safetensors.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/ops/device.h"
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

void use_threads(std::int64_t threads) {
  const auto all = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  at::set_num_threads(static_cast<int>(threads > 0 ? threads : all));
}

c10::Device training_device(const TrainingConfig& config) {
  const auto device = find_device(config.device, "train.device");
  if (!device.is_cpu() && config.grad_checkpoint != "none")
    throw ConfigError("train.grad_checkpoint", "wanted none on " + device.str() + ", found " +
                                                   config.grad_checkpoint +
                                                   ", which only the processor has");
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

// Everything a run works with.
class Run {
 public:
  Run(const TrainConfig& given, bool quiet)
      : device_(training_device(given.train)),
        tokenizer_(prepare_tokenizer(given, quiet)),
        config_(resolved(given, *tokenizer_)),
        sets_(build_token_sets(config_.data, *tokenizer_,
                               std::filesystem::path(config_.train.output) / "data",
                               config_.train.threads, quiet)),
        train_(sets_.train),
        valid_(sets_.valid),
        batches_(train_, config_.train.ctx_len, config_.train.batch_size,
                 static_cast<std::uint64_t>(config_.train.seed)),
        ahead_(batches_, config_.train.batch_size * config_.train.ctx_len),
        checks_(valid_, config_.train.ctx_len, config_.train.batch_size, config_.train.eval_tokens),
        model_(config_.model),
        folder_(config_, *tokenizer_, sets_) {
    train_.check_vocab(config_.model.vocab_size);
    valid_.check_vocab(config_.model.vocab_size);
    model_->initialise(static_cast<std::uint64_t>(config_.train.seed), config_.train.learning_rate);
    model_->to(device_);
    optimizer_ = std::make_unique<Optimizer>(*model_, config_.train);
    const auto& t = config_.train;
    const TrainingPassOptions options{t.grad_checkpoint == "block", t.l2wrap};
    const std::int64_t tokens = t.batch_size * t.ctx_len;
    if (t.operators != "fused" || !device_.is_cpu() || !TrainingPass::supports(config_.model))
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
    return config_.train.accumulation * config_.train.batch_size * config_.train.ctx_len;
  }
  at::Tensor logits(const std::int64_t* inputs, int64_t B, int64_t T);
  at::Tensor targets_on_device(const std::int64_t* targets, int64_t count) const;
  double batch_gradients(const std::int64_t* inputs, const std::int64_t* targets);
  double step();
  double validate();
  [[noreturn]] void not_finite(const std::string& what);
  nlohmann::ordered_json log_line(double loss, double seconds, std::int64_t steps) const;
  void validate_and_keep_best(bool quiet);

  c10::Device device_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TrainConfig config_;
  TokenSets sets_;
  TokenFile train_, valid_;
  Batcher batches_;
  BatchAhead ahead_;
  EvaluationBatches checks_;
  Rwkv model_;
  RunFolder folder_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainingPass> pass_;  // none where the reference modules train
  Progression progress_;
  double grad_norm_ = 0, rate_ = 0;
  double memory_ = 0;  // expected at the peak, bytes; 0 where the modules train
};

// The modules' logits, (B T, V) float32.
at::Tensor Run::logits(const std::int64_t* inputs, int64_t B, int64_t T) {
  const MixedPrecision mixed(device_);
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
  const double share = 1 / static_cast<double>(c.accumulation);
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

// One optimiser step; the mean loss over its batches.
double Run::step() {
  const auto& c = config_.train;
  double loss_sum = 0;
  for (std::int64_t part = 0; part < c.accumulation; ++part) {
    const auto& batch = ahead_.get(progress_.step * c.accumulation + part);
    const double loss = batch_gradients(batch.inputs.data(), batch.targets.data());
    if (!std::isfinite(loss)) not_finite("the loss is " + std::to_string(loss));
    loss_sum += loss;
  }
  grad_norm_ = optimizer_->grad_norm();
  if (!std::isfinite(grad_norm_)) not_finite("the gradient's norm is not finite");
  rate_ = scheduled_rate(c, progress_.step);
  optimizer_->step(rate_, grad_norm_);
  ++progress_.step;
  return loss_sum / static_cast<double>(c.accumulation);
}

void Run::not_finite(const std::string& what) {
  const auto tensor = optimizer_->first_not_finite();
  const auto last = latest_checkpoint(folder_.checkpoints());
  throw Error("step " + std::to_string(progress_.step + 1),
              what + "; first tensor that is not finite: " +
                  (tensor.empty() ? "none of the parameters, so the logits" : tensor) +
                  "; last good checkpoint: " + (last ? last->string() : "none") +
                  "; a smaller learning_rate usually helps");
}

// Mean loss over the validation windows, each from an empty state.
double Run::validate() {
  const torch::NoGradGuard no_grad;
  double sum = 0;
  std::vector<std::int64_t> inputs, targets;
  for (std::int64_t i = 0; i < checks_.batches() && !interrupted(); ++i) {
    const auto shape = checks_.shape(i);
    inputs.resize(static_cast<size_t>(shape.rows * shape.length));
    targets.resize(inputs.size());
    checks_.fill(i, inputs.data(), targets.data());
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
  return interrupted() ? std::numeric_limits<double>::quiet_NaN()
                       : sum / static_cast<double>(checks_.targets());
}

nlohmann::ordered_json Run::log_line(double loss, double seconds, std::int64_t steps) const {
  return {
      {"step", progress_.step},
      {"tokens", progress_.step * step_tokens()},
      {"loss", loss},
      {"learning_rate", rate_},
      {"grad_norm", grad_norm_},
      {"tokens_per_second", seconds > 0 ? static_cast<double>(steps * step_tokens()) / seconds : 0},
      {"peak_memory_bytes", static_cast<std::int64_t>(peak_memory_bytes())}};
}

void Run::validate_and_keep_best(bool quiet) {
  const double loss = validate();
  if (!std::isfinite(loss)) return;
  progress_.valid_loss = loss;
  const bool best = loss < progress_.best_valid_loss;
  if (best) {
    progress_.best_valid_loss = loss;
    progress_.best_step = progress_.step;
    folder_.save_best(*model_, progress_);
  }
  folder_.log({{"step", progress_.step},
               {"tokens", progress_.step * step_tokens()},
               {"valid_loss", loss},
               {"valid_perplexity", std::exp(loss)},
               {"best", best}});
  if (quiet) return;
  char text[120];
  std::snprintf(text, sizeof text, "step %lld: validation loss %.4f, perplexity %.2f%s",
                static_cast<long long>(progress_.step), loss, std::exp(loss),
                best ? ", the best so far" : "");
  log_info(text);
}

TrainResult Run::train(const TrainOptions& options) {
  const auto& c = config_.train;
  folder_.prepare(options);
  const bool resumed = options.resume && folder_.restore(*model_, *optimizer_, progress_);
  if (!options.quiet) {
    log_info(count_text(parameter_count(config_.model)) + " parameters, vocabulary " +
             count_text(config_.model.vocab_size) + "; training text " + count_text(train_.size()) +
             " tokens, validation " + count_text(valid_.size()) +
             (memory_ > 0 ? "; memory " + bytes_text(memory_) : "") +
             (device_.is_cpu() ? "" : "; on " + device_.str() + " in bfloat16"));
    if (resumed)
      log_info("going on from step " + std::to_string(progress_.step));
    else if (options.resume)
      log_info("no checkpoint to go on from in " + c.output + ", starting at step 0");
  }
  if (c.operators == "fused" && device_.is_cpu() && pass_ == nullptr)
    log_warning("train.operators: " + slow_training_note(config_.model));
  folder_.cut_log(progress_.step);

  const InterruptGuard guard;
  TrainResult result;
  result.checkpoint = latest_checkpoint(folder_.checkpoints()).value_or("");
  const std::int64_t last = options.stop_after > 0
                                ? std::min(c.max_steps, progress_.step + options.stop_after)
                                : c.max_steps;
  std::int64_t saved = resumed ? progress_.step : -1, logged = progress_.step;
  double loss_sum = 0, seconds = 0;
  {
    Progress bar("training", c.max_steps, options.quiet);
    bar.start_from(progress_.step);
    while (progress_.step < last && !interrupted()) {
      const auto start = Clock::now();
      const double loss = step();
      seconds += seconds_since(start);
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
        folder_.log(log_line(loss_sum / static_cast<double>(steps), seconds, steps));
        logged = progress_.step;
        loss_sum = seconds = 0;
      }
      const bool end = progress_.step == c.max_steps;
      if (end || (c.eval_every > 0 && progress_.step % c.eval_every == 0))
        validate_and_keep_best(options.quiet);
      if (!end && c.save_every > 0 && progress_.step % c.save_every == 0) {
        result.checkpoint = folder_.save(*model_, *optimizer_, progress_);
        saved = progress_.step;
      }
    }
    bar.finish();
  }
  if (saved != progress_.step) result.checkpoint = folder_.save(*model_, *optimizer_, progress_);
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
  estimate.train_tokens = train_.size();
  estimate.valid_tokens = valid_.size();
  estimate.tokens_per_step = step_tokens();
  estimate.epochs = static_cast<double>(step_tokens() * config_.train.max_steps) /
                    static_cast<double>(train_.size());
  step();  // the first one also pays for warming up
  const auto start = Clock::now();
  step();
  estimate.seconds_per_step = seconds_since(start);
  estimate.memory_bytes = peak_memory_bytes();
  return estimate;
}

}  // namespace

TrainResult train(const TrainConfig& config, const TrainOptions& options) {
  use_threads(config.train.threads);
  return Run(config, options.quiet).train(options);
}

TrainEstimate estimate_training(const TrainConfig& config, bool quiet) {
  use_threads(config.train.threads);
  return Run(config, quiet).estimate();
}

std::string explain_parameters(const TrainConfig& config) {
  auto model = config.model;
  if (model.vocab_size == 0)
    model.vocab_size = config.tokenizer.kind == "byte"    ? 257
                       : config.tokenizer.kind == "world" ? 65536
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
    add(row.name, shape_text(row.shape), row.init_text(), number[0], number[1]);
  }
  return text + count_text(parameter_count(model)) + " parameters\n";
}

}  // namespace rwkvx
