// What a run does where several processes train together.
#include <torch/types.h>

#include <csignal>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "train/run.h"
#include "train/step_share.h"

namespace rwkvx {

// The signal that came to this process.
int Run::own_signal() const {
  if (!quiet_ && messages_closed()) interrupt_by(SIGPIPE);
  return interrupt_signal();
}

// From what each rank has seen all learn whether to stop, so that all do so after the same step.
void Run::agree_on_signal(const std::vector<double>& signals) {
  for (const double signal : signals) {
    if (signal == 0 || interrupted_together_) continue;
    interrupted_together_ = true;
    if (!interrupted()) interrupt_by(static_cast<int>(signal));
  }
}

// Throws where another rank has other settings or texts; all call it with a text that names theirs.
void Run::check_ranks(const std::string& own) {
  // The others read what rank 0 has prepared before they come here.
  const bool equal = ranks_->broadcast_text(own, 0, Ranks::Wait::kPatient) == own;
  const auto all = ranks_->gather({equal ? 1.0 : 0.0}, Ranks::Wait::kPatient);
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r][0] == 0)
      throw ConfigError("rank " + std::to_string(r),
                        "has other settings or another text than rank 0; all processes need the "
                        "same");
}

// Every rank gets what rank 0 has begun with or gone back to.
void Run::share_state() {
  for (const auto& parameter : model_->parameters())
    ranks_->broadcast_values(
        parameter.data_ptr(),
        parameter.numel() * static_cast<std::int64_t>(parameter.element_size()));
  optimizer_->share_state(*ranks_);
  nlohmann::json told;
  if (first())
    told = {
        {"progress", progression_to_json(progress_)}, {"verified", verified_}, {"saved", saved_}};
  const auto bytes = nlohmann::json::to_cbor(told);
  const auto text = ranks_->broadcast_text(std::string(bytes.begin(), bytes.end()), 0);
  if (first()) return;
  told = nlohmann::json::from_cbor(text);
  progress_ = progression_from_json(told.at("progress"));
  verified_ = told.at("verified");
  saved_ = told.at("saved");
}

// The others wait for rank 0, which alone writes, for as long as it lives.
void Run::wait_for_first() {
  char byte = 0;
  if (ranks_ != nullptr) ranks_->broadcast(&byte, 1, 0, Ranks::Wait::kPatient);
}

// This rank's share of a step, and the sum over all; the mean loss.
double Run::gradients_of_ranks() {
  std::vector<TokenBatch> batches;
  double weight = 0;
  for (std::int64_t part = 0; part < config_.train.grad_accum_steps; ++part) {
    batches.push_back(next_batch());
    weight += batches.back().weight;
  }
  double loss = 0;
  const auto own = share_of(batches, ranks_->rank(), ranks_->size());
  for (const auto& batch : own) {
    if (batch.weight == 0) continue;
    const auto complete = [this](std::int64_t layer) { gradient_sum_->complete(layer); };
    loss += computation_->gradients(
        batch, 1, weight, &batch == &own.back() ? Computation::Complete(complete) : nullptr);
  }
  gradient_sum_->finish();
  const auto all = ranks_->gather({loss, static_cast<double>(own_signal())});
  double sum = 0;
  std::vector<double> signals;
  for (const auto& one : all) {
    sum += one[0];
    signals.push_back(one[1]);
  }
  agree_on_signal(signals);
  return sum;
}

// Each rank takes its share of the batches; their losses are added in the order that one process
// has, to the same bits.
std::optional<double> Run::validate_with_ranks() {
  const auto count = data_.checks->batches();
  std::vector<double> own;  // of each batch of this rank: weight and weighted loss; then the signal
  TokenBatch batch;
  for (std::int64_t i = ranks_->rank(); i < count; i += ranks_->size()) {
    own.insert(own.end(), {0, 0});
    if (own_signal() != 0) continue;
    data_.checks->fill(i, batch);
    if (batch.weight == 0) continue;
    own.end()[-2] = batch.weight;
    own.end()[-1] = batch.weight * computation_->loss(batch);
  }
  own.resize(static_cast<std::size_t>(2 * ((count + ranks_->size() - 1) / ranks_->size())));
  own.push_back(own_signal());
  const auto all = ranks_->gather(own);
  std::vector<double> signals;
  for (const auto& one : all) signals.push_back(one.back());
  agree_on_signal(signals);
  if (interrupted_together_) return std::nullopt;
  double sum = 0, weight = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& one = all[static_cast<std::size_t>(i % ranks_->size())];
    const auto place = static_cast<std::size_t>(2 * (i / ranks_->size()));
    if (one[place] == 0) continue;
    weight += one[place];
    sum += one[place + 1];
  }
  return sum / weight;
}

}  // namespace rwkvx
