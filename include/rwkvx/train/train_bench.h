// How fast training steps are on this machine, beside the matrix products that they cannot avoid.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

// What is timed in turn. `enhanced` is the model as configured, `baseline` the same with the shift
// off, `reference` the configured model through its modules with LibTorch's gradients.
// `matrix_products` is the limit: the products of all linear layers of a step, forward and both
// gradients, into buffers that exist, and nothing else.
inline constexpr const char* kTrainBenchKinds[] = {"baseline", "enhanced", "matrix_products",
                                                   "reference"};

// The optimizer's name among the operators that are counted.
inline constexpr const char* kOptimizerOperator = "adamw";

struct TrainBenchSeries {
  std::string kind;
  std::vector<double> seconds;  // of each repetition
  // Seconds by operator, summed over the repetitions; empty where nothing counts them.
  std::vector<std::pair<std::string, double>> operators;
  double peak_memory_bytes = 0;  // of a process that does only this
  // Of all that was measured before and with it, on a device beside the CPU.
  double device_memory_bytes = 0;
};

struct TrainBenchOptions {
  std::vector<std::string> kinds = {"baseline", "enhanced", "matrix_products"};
  std::int64_t rounds = 5;
  bool quiet = false;  // no progress bar
};

// Times whole steps (batch, gradients, norm, AdamW) of config.model with config.train's batch,
// context, precision, device and threads on random tokens. Each repetition takes every kind once,
// in turn; a first, unmeasured one pays for warming up. config.model.vocab_size is set.
std::vector<TrainBenchSeries> bench_training(const TrainConfig& config,
                                             const TrainBenchOptions& options);

}  // namespace rwkvx
