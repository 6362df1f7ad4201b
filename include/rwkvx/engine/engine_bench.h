// How fast the engine decodes on this machine, beside the speed of its memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/config/model_config.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

struct EngineBenchSeries {
  std::string kind;  // "baseline", "enhanced", or "checkpoint"
  WeightType type = WeightType::kF32;
  std::int64_t file_bytes = 0;
  std::int64_t bytes_per_token = 0;        // of weights that a token reads
  double resident_bytes = 0;               // by which opening it and one token grew the process
  std::vector<double> tokens_per_second;   // a number per round, here and below
  std::vector<double> share_of_bandwidth;  // bytes per token and second ÷ bandwidth of the round
  std::vector<double> batch_per_second;    // tokens of all sequences of a batch
  std::vector<double> prefill_per_second;  // tokens of a prompt
  std::vector<std::vector<double>> latencies;  // seconds of every token of a round
};

struct EngineBench {
  std::vector<EngineBenchSeries> series;
  std::vector<double> bandwidth;            // bytes per second
  std::vector<double> products_per_second;  // tokens: a prefill's matrix products alone
};

struct EngineBenchOptions {
  ModelConfig model;  // its shift is that of "enhanced"
  std::vector<std::string> kinds = {"baseline", "enhanced"};
  std::vector<WeightType> types = {WeightType::kF32, WeightType::kBF16, WeightType::kInt8,
                                   WeightType::kInt4};
  std::int64_t rounds = 5;
  std::int64_t tokens = 0;            // decoded per round; 0: see below
  std::int64_t prompt = 1024;         // tokens of the prefill; 0: none
  std::int64_t batch = 16;            // sequences decoded together; 0: none
  std::optional<ModelSource> source;  // measure it, whose config is `model`, not random weights
};

// Every round measures the bandwidth and the matrix products alone, then every series: decoding in
// short turns, batches and prompts one after the other. Where the number of tokens is not said, a
// round decodes 30 or more, for at least a quarter of a second: many turns of a scheduler.
// Random weights are written to a temporary folder and mapped, as a checkpoint's are. Uses
// team_threads().
EngineBench bench_engine(const EngineBenchOptions& options);

}  // namespace rwkvx
