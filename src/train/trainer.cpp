#include "rwkvx/train/trainer.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string_view>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/ops/threads.h"
#include "train/run.h"

namespace rwkvx {
namespace {

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
  model.vocab_size = expected_vocab_size(config);
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
