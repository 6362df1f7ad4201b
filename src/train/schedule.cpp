#include "rwkvx/train/schedule.h"

#include <algorithm>
#include <cmath>

#include "rwkvx/base/progress.h"

namespace rwkvx {
namespace {

// How much of the way from `begin` to `end` is done, 0 to 1.
double share_done(std::int64_t at, double begin, std::int64_t end) {
  const double rest = static_cast<double>(end) - begin;
  return rest > 0 ? std::fmin(std::fmax((static_cast<double>(at) - begin) / rest, 0.0), 1.0) : 0;
}

}  // namespace

std::int64_t TrainingBudget::expected_steps() const {
  const auto by_tokens = (tokens + step_tokens - 1) / step_tokens;
  if (steps == 0) return by_tokens;
  return tokens == 0 ? steps : std::min(steps, by_tokens);
}

std::string TrainingBudget::text() const {
  if (tokens > 0 && (steps == 0 || expected_steps() < steps))
    return count_text(tokens) + " tokens (train." + std::string(tokens_from) + ")";
  return count_text(steps) + " steps (train.max_steps)";
}

TrainingBudget training_budget(const TrainingConfig& config, std::int64_t step_tokens,
                               std::int64_t epoch_tokens) {
  TrainingBudget budget{config.max_steps, config.max_tokens, step_tokens, "max_tokens"};
  if (config.epochs > 0) {
    const auto tokens =
        std::max<std::int64_t>(1, std::llround(config.epochs * static_cast<double>(epoch_tokens)));
    if (budget.tokens == 0 || tokens < budget.tokens) {
      budget.tokens = tokens;
      budget.tokens_from = "epochs";
    }
  }
  return budget;
}

double scheduled_rate(const TrainingConfig& config, const TrainingBudget& budget, std::int64_t step,
                      std::int64_t tokens) {
  const bool by_tokens = config.warmup_tokens > 0;
  const auto step_tokens = static_cast<double>(budget.step_tokens);
  const double warmup = by_tokens ? static_cast<double>(config.warmup_tokens)
                                  : static_cast<double>(config.warmup_steps);
  const double s = static_cast<double>(by_tokens ? tokens : step);
  double progress = 0;
  if (budget.steps > 0)
    progress = share_done(step, by_tokens ? warmup / step_tokens : warmup, budget.steps);
  if (budget.tokens > 0)
    progress = std::fmax(
        progress, share_done(tokens, by_tokens ? warmup : warmup * step_tokens, budget.tokens));
  const double f = config.learning_rate > 0 ? config.final_learning_rate / config.learning_rate : 1;
  const double rise = s < warmup ? 0.2 + 0.8 * s / warmup : 1;
  return config.learning_rate *
         schedule_factor(config.lr_schedule, progress, {f, config.decay_share}) * rise;
}

}  // namespace rwkvx
