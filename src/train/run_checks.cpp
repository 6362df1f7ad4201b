// What a run does between its steps: the log, checkpoints, validation, and which model is the best.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/modules/device.h"
#include "train/ema.h"
#include "train/run.h"

namespace rwkvx {

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
  if (ranks_ != nullptr) return validate_with_ranks();
  LossSum sum;
  double weight = 0;
  TokenBatch batch;
  for (std::int64_t i = 0; i < data_.checks->batches() && !asked_to_stop(); ++i) {
    data_.checks->fill(i, batch);
    if (batch.weight == 0) continue;
    sum += computation_->loss(batch) * batch.weight;
    weight += batch.weight;
  }
  if (interrupted()) return std::nullopt;
  return (sum / weight).value();
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
  if (folder_ == nullptr) return;
  try {
    folder_->log(line);
    events_.log(line);
  } catch (const FileError& error) {
    if (ranks_ != nullptr) throw;  // the others would have to take part in saving
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
    const auto moments = optimizer_->moments();
    if (folder_ == nullptr) {
      saved_ = progress_.step;
      return wait_for_first();
    }
    with_adapter([&](const Adapter* adapter) {
      checkpoint_ = folder_->save(*model_, *optimizer_, moments, progress_, verified_, adapter);
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
  wait_for_first();
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
  tuning_->while_merged([&] { save(&adapter); });
}

// Whether validations got no better for as long as train.patience has it.
bool Run::out_of_patience() const {
  const auto patience = config_.train.patience;
  return patience > 0 && progress_.best.without_better >= patience;
}

// The loss, and the responses where they are asked for; nothing where a signal came.
std::optional<Run::Measured> Run::measure() {
  const auto loss = validate();
  if (!loss) return std::nullopt;
  Measured measured{*loss, {}};
  if (prompts_.empty()) return measured;
  measured.responses = responses();
  if (!measured.responses) return std::nullopt;
  return measured;
}

// Of several ranks, the first answers the prompts while the others wait.
std::optional<ResponseScore> Run::responses() {
  std::optional<ResponseScore> score;
  if (first())
    tuning_->while_merged([&] {
      score = score_responses(model_, tuning_->additions().state.get(), *tokenizer_, prompts_,
                              config_.train.ctx_len, [&] { return own_signal() != 0; });
    });
  if (ranks_ == nullptr) return score;
  // The others use the number alone, to agree on what is the best.
  double told[] = {score ? 1.0 : 0.0, score ? score->rouge_l : 0.0};
  ranks_->broadcast(told, sizeof told, 0, Ranks::Wait::kPatient);
  if (told[0] == 0) return std::nullopt;
  if (!score) score = ResponseScore{told[1], {""}};
  return score;
}

// Keeps the model as the best one where it is better than the one so far.
bool Run::keep_if_best(const Measured& measured, std::string_view weights) {
  const bool by_rouge = config_.train.best_by == BestBy::kRougeL;
  if (by_rouge ? measured.responses->rouge_l <= progress_.best.rouge_l
               : !(measured.loss < progress_.best.valid_loss))
    return false;
  progress_.best.valid_loss = measured.loss;
  if (measured.responses) progress_.best.rouge_l = measured.responses->rouge_l;
  progress_.best.step = progress_.step;
  if (folder_ == nullptr) return true;
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
  progress_.best.without_better = best ? 0 : progress_.best.without_better + 1;
  wait_for_first();  // it has kept the best
  if (!first()) return;
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

}  // namespace rwkvx
