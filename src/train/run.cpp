// How a run begins, its steps with their guards, and the loop over them.
#include "train/run.h"

#include <malloc.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <limits>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/precision.h"
#include "rwkvx/train/init_from.h"
#include "train/ema.h"

namespace rwkvx {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Throws ConfigError for a setting that has, on a GPU, to be `instead`.
void needs_cpu(const char* setting, const std::string& value, const c10::Device& device,
               const char* instead) {
  throw ConfigError(setting, value + " is only supported on the CPU, and the device is " +
                                 device.str() + "; set it to " + instead);
}

// `named`: of a rank, or "".
c10::Device training_device(const TrainingConfig& config, const std::string& named) {
  const auto device = find_device(named.empty() ? config.device : named, "train.device");
  if (!device.is_cpu()) {
    if (config.segment_tokens > 0 && config.bptt == Bptt::kFull)
      needs_cpu("train.bptt", "full", device, "truncated");
    if (config.moments == MomentType::kInt8) needs_cpu("train.moments", "int8", device, "f32");
  }
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

}  // namespace

Run::Run(const TrainConfig& given, Place& place, bool quiet, Ranks* ranks,
         const std::string& device)
    : device_(training_device(given.train, device)),
      ranks_(ranks),
      folder_(place.run()),
      quiet_(quiet) {
  if (ranks_ != nullptr) ranks_->set_device(device_.str());
  if (first()) refuse_while_built(given.data, place.data());
  auto from = open_init_from(given);
  auto prepared = from.tokenizer == nullptr
                      ? first() ? prepare_tokenizer(from.config, place.tokenizer(), quiet)
                                : read_prepared_tokenizer(from.config, place.tokenizer())
                      : PreparedTokenizer{std::move(from.tokenizer), ""};
  config_ = resolved(from.config, *prepared.tokenizer);
  const auto& t = config_.train;
  model_ = Rwkv(config_.model);
  if (first()) model_->initialize(static_cast<std::uint64_t>(t.seed), t.learning_rate);
  if (from.source) {
    load_weights(*model_, from.source->file, /*allow_new_shift=*/true);
    if (!quiet && config_.model.shift.enabled() && !from.source->config.shift.enabled())
      log_info("the gated positional shift is new in front of " + t.init_from +
               "; model.shift.kind=none leaves it out");
  }
  model_->to(device_);
  tuning_ = std::make_unique<Tuning>(model_, t);
  if (t.adapter != TrainAdapter::kNone) {
    base_ = std::move(from.source);
    base_hash_ = base_->hash();
  }
  optimizer_ = std::make_unique<Optimizer>(
      *model_, t, [&](const ParameterRow& row) { return tuning_->trains(row); }, tuning_->extra(),
      ranks_);
  if (folder_ != nullptr && folder_->resume_from()) {
    folder_->restore(*model_, *optimizer_, *prepared.tokenizer, config_, progress_);
    begin_with_base();
    // The steps that led there were finite.
    verified_ = std::max(progress_.step - 1, progress_.guard.verified);
    saved_ = progress_.step;
  }
  data_ =
      prepare_data(config_, *prepared.tokenizer, place.data(), quiet, [&](const TokenSets& sets) {
        if (folder_ != nullptr) folder_->check_texts(sets, config_, progress_);
      });
  if (first()) save_trained(prepared, place.tokenizer());
  tokenizer_ = std::move(prepared.tokenizer);
  ahead_.emplace(*data_.batches);
  if (t.eval_generate > 0) prompts_ = supervised_prompts(config_.data, t.eval_generate);
  budget_ = training_budget(t, step_tokens(), data_.train_tokens);
  if (ranks_ != nullptr) {
    if (first()) ranks_->tell_prepared();
    auto settings = config_to_json(given);
    settings["train"].erase("output");
    settings["train"].erase("threads");
    settings["data"].erase("cache");
    check_ranks(settings.dump() + data_.sets.train_manifest.hash + data_.sets.valid_manifest.hash);
    share_state();
    gradient_sum_ = std::make_unique<GradientSum>(*ranks_, optimizer_->gradients());
  }

  const auto where = pass_place();
  // Of states there are gradients on the CPU alone.
  const bool through_states =
      tuning_->additions().state != nullptr || (t.segment_tokens > 0 && t.bptt == Bptt::kFull);
  fused_ = t.operators == Operators::kFused && TrainingPass::supports(config_.model, where) &&
           !(where.kernels && through_states);
  if (!fused_) {
    computation_ = module_computation(model_, t, tuning_->additions());
    return;
  }
  ::malloc_trim(0);  // what training the tokenizer and reading the text left behind
  if (device_.is_cpu()) memory_ = resident_memory_bytes() + kProductsWorkspaceBytes;
  computation_ = fused_computation(
      model_, t, {t.batch_size * t.ctx_len, t.ctx_len, data_.batches->most_sequences(), 0, where},
      tuning_->additions(), [this](const at::Tensor& matrix, const at::Tensor& copy) {
        return optimizer_->keep_copy(matrix, copy);
      });
  reads_later_ = where.kernels && !guarded(t) && optimizer_->steps_unread() && ranks_ == nullptr;
  if (device_.is_cpu()) memory_ += computation_->buffer_bytes();
}

bool Run::asked_to_stop() const {
  if (ranks_ != nullptr) return interrupted_together_;
  if (!quiet_ && messages_closed()) interrupt_by(SIGPIPE);
  return interrupted();
}

// Where and in what the fused operators would train.
PassPlace Run::pass_place() const { return PassPlace::of(device_, bfloat16()); }

bool Run::bfloat16() const {
  return uses_bfloat16(enum_name(config_.train.precision), device_, "train.precision");
}

// Why none of this run's batches can be one graph though that is wanted; else "".
std::string Run::no_graph() const {
  const auto& c = config_.train;
  if (!c.cuda_graph || device_.is_cpu()) return "";
  if (!fused_) return "the reference modules train this model";
  if (data_.weighted) return "which tokens have a loss changes from batch to batch";
  if (c.segment_tokens > 0 && c.segment_tokens < c.ctx_len) return "states are carried on";
  if (ranks_ != nullptr && c.grad_accum_steps == 1)
    return "gradients are summed over processes while they are found";
  return "";
}

// The next batch of the step in progress.
const TokenBatch& Run::next_batch() {
  const auto& batch = ahead_->get(step_next_);
  step_next_ = batch.next;
  step_tokens_ += static_cast<std::int64_t>(batch.inputs.size());
  return batch;
}

// The gradients of a step's batches; the mean loss.
LossSum Run::gradients() {
  const auto parts = config_.train.grad_accum_steps;
  step_next_ = progress_.next_batch;
  step_tokens_ = 0;
  if (ranks_ != nullptr) return gradients_of_ranks();
  LossSum loss;
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
  if (weight == 0) return {};
  for (const auto& batch : batches) loss += computation_->gradients(batch, 1, weight);
  return loss;
}

// One optimizer step. False: a guard took it back.
bool Run::step() {
  const auto& c = config_.train;
  const auto sum = gradients();
  rate_ = scheduled_rate(c, budget_, progress_.step, progress_.tokens);
  const auto taken = [&] {
    ++progress_.step;
    progress_.tokens += step_tokens_;
    progress_.next_batch = step_next_;
  };
  if (reads_later_) {
    unread_.push_back({sum, optimizer_->step_unread(rate_, sum.on(device_))});
    taken();
    return true;
  }
  const double loss = sum.value();
  grad_norm_ = std::isfinite(loss) ? optimizer_->grad_norm() : 0;
  const bool finite = std::isfinite(loss) && std::isfinite(grad_norm_);
  if (finite) verified_ = std::max(verified_, progress_.step);
  if (const auto what = find_spike(c, loss, grad_norm_, progress_.guard); !what.empty()) {
    guard(what, loss);
    return false;
  }
  optimizer_->step(rate_, grad_norm_);
  taken();
  last_loss_ = loss;
  loss_sum_ += loss;
  return true;
}

// Waits for the steps that a device was asked for, and looks at their numbers: from one that is not
// finite on, none has changed anything.
void Run::read_steps() {
  if (unread_.empty()) return;
  std::vector<at::Tensor> numbers;
  for (const auto& [loss, norm] : unread_)
    numbers.push_back(loss.on(device_)), numbers.push_back(norm);
  const auto here = torch::stack(numbers).cpu();
  const auto* number = here.const_data_ptr<double>();
  const auto first = progress_.step - static_cast<std::int64_t>(unread_.size());
  for (std::size_t i = 0; i < unread_.size(); ++i) {
    last_loss_ = number[2 * i], grad_norm_ = number[2 * i + 1];
    const auto step = first + static_cast<std::int64_t>(i);
    if (const auto what = find_spike(config_.train, last_loss_, grad_norm_, progress_.guard);
        !what.empty()) {
      progress_.step = step;
      not_finite(step + 1, what);
    }
    verified_ = std::max(verified_, step);
    loss_sum_ += last_loss_;
  }
  unread_.clear();
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
    optimizer_->values_changed();
  }
  bool back = target.has_value();
  if (ranks_ != nullptr && c.on_spike == OnSpike::kRollback) {
    back = ranks_->broadcast_text(back ? "back" : "", 0, Ranks::Wait::kPatient) == "back";
    if (back) share_state();
  }
  if (back) {
    if (target) checkpoint_ = *target;
    verified_ = saved_ = progress_.step;
    line["guard"] = "rollback";
    line["to_step"] = progress_.step;
    told += "back to step " + std::to_string(progress_.step) + ", with the data that follow";
  } else {
    told += c.on_spike == OnSpike::kRollback
                ? "skipped, as there is no good checkpoint to go back to"
                : "skipped";
  }
  if (first())
    log_warning(told + " (guard " + std::to_string(progress_.guard.used) + " of " +
                std::to_string(c.max_guards) + ")");
  if (folder_ != nullptr) log(line);
}

TrainResult Run::train(const TrainOptions& options) {
  const auto& c = config_.train;
  const bool resumed = folder_ != nullptr && folder_->resume_from().has_value();
  if (resumed) checkpoint_ = *folder_->resume_from();
  if (folder_ != nullptr) {
    folder_->begin(config_, *tokenizer_, data_.sets, progress_);
    events_.begin(config_, progress_.step, resumed, options.overwrite);
  }
  wait_for_first();
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
  if (c.operators == Operators::kFused && !fused_)
    if (const auto note = slow_training_note(config_.model, pass_place()); !note.empty())
      log_warning("train.operators: " + note);

  if (const auto why = no_graph(); !why.empty() && !quiet_)
    log_warning("train.cuda_graph: " + why + ", so batches go kernel by kernel");
  if ((c.max_tokens > 0 || c.epochs > 0) && !quiet_)
    log_info("the run ends after " + budget_.text() + ", which sets the length of the schedule");
  if (!quiet_ && ranks_ != nullptr)
    log_info(std::to_string(ranks_->size()) + " processes share each step of " +
             count_text(step_tokens()) + " tokens out");
  const auto stop_at = options.stop_after > 0 ? progress_.step + options.stop_after
                                              : std::numeric_limits<std::int64_t>::max();
  const auto ended = [&] {
    return budget_.reached(progress_.step, progress_.tokens) || out_of_patience();
  };
  const auto began = Clock::now();
  const std::int64_t first_tokens = progress_.tokens;
  std::int64_t logged = progress_.step, logged_tokens = progress_.tokens;
  double seconds = 0;
  {
    Progress bar("training", budget_.expected_steps(), quiet_);
    bar.start_from(progress_.step);
    while (!ended() && progress_.step < stop_at && !asked_to_stop()) {
      const auto start = Clock::now();
      const auto tokens_before = progress_.tokens;
      const bool taken = step();
      const bool end = ended(),
                 logs = progress_.step % c.log_every == 0 || end || progress_.step == stop_at,
                 validates = end || (c.eval_every > 0 && progress_.step % c.eval_every == 0),
                 saves = !end && c.save_every > 0 && progress_.step % c.save_every == 0;
      // What was saved before this step is good, so that older ones may go.
      const bool verifies = saved_ == progress_.step - 1 && folder_ != nullptr;
      const bool shows = std::isnan(last_loss_);  // the first one
      if (logs || validates || saves || verifies || shows) read_steps();
      seconds += seconds_since(start);
      if (!taken) {
        if (progress_.tokens < tokens_before) {
          logged = progress_.step;
          logged_tokens = progress_.tokens;
          loss_sum_ = seconds = 0;
        }
        continue;
      }
      if (verifies) folder_->prune(verified_);
      bar.update(progress_.step,
                 training_note(progress_.step, progress_.tokens, last_loss_, progress_.valid_loss,
                               static_cast<double>(progress_.tokens - logged_tokens) / seconds));
      if (logs) {
        const auto steps = progress_.step - logged;
        log(log_line(loss_sum_ / static_cast<double>(steps), seconds,
                     progress_.tokens - logged_tokens));
        logged = progress_.step;
        logged_tokens = progress_.tokens;
        loss_sum_ = seconds = 0;
      }
      if (validates) validate_and_keep_best();
      if (saves) save();
    }
    read_steps();
    bar.finish();
  }
  if (saved_ != progress_.step) save();
  TrainResult result;
  result.checkpoint = checkpoint_;
  result.step = progress_.step;
  result.valid_loss = progress_.valid_loss;
  result.best_valid_loss = progress_.best.valid_loss;
  result.best_step = progress_.best.step;
  result.finished = ended();
  result.signal = interrupt_signal();
  result.seconds = seconds_since(began);
  result.tokens = progress_.tokens - first_tokens;
  if (progress_.best.step > 0 && folder_ != nullptr)
    result.best_checkpoint = folder_->checkpoints() / kBestName;
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
  const auto whole_step = [&] { step(), read_steps(); };
  whole_step();  // the first one also pays for warming up
  const auto start = Clock::now();
  whole_step();
  estimate.seconds_per_step = seconds_since(start);
  const double on_device = peak_device_memory_bytes(device_);
  estimate.memory_bytes = on_device > 0 ? on_device : peak_memory_bytes();
  return estimate;
}

}  // namespace rwkvx
