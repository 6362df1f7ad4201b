// The table of a model's parameters: name, shape, initial value, what the optimizer, the quantizer,
// the counts and the benchmarks make of each. One table, made by the core for each block, from
// which the modules, checkpoints, optimizer, engine and `train --explain` are derived.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

using Shape = std::vector<std::int64_t>;

// How a parameter starts; modules/initial_values.h makes the numbers of it.
struct Start {
  enum class Kind { kConstant, kNormal, kOrthogonal, kEmbeddingRange, kUniform, kByChannel };
  std::string text;  // "orthogonal, gain 2"
  Kind kind = Kind::kConstant;
  double number = 0;  // the constant, the deviation, the gain or the range
  // Of kByChannel: the value of channel c of the last dimension's `channels`.
  std::function<double(std::int64_t c, std::int64_t channels)> channel = {};
};
Start starts_at(double value);          // "zeros", "ones", "-4"
Start starts_normal(double deviation);  // of mean 0
Start starts_orthogonal(double gain);   // rows or columns, whichever are fewer
Start starts_in_embedding_range();      // uniform, +- the range
Start starts_uniform(double range);     // +- range
Start starts_by_channel(std::string text,
                        std::function<double(std::int64_t c, std::int64_t channels)> channel);
std::string start_number(double value);  // "0.5", as the texts write numbers

// The setting that a parameter's own learning rate depends on.
enum class RateGroup {
  kNone,
  kLayerwise,  // train.layerwise_lr
  kShift,      // train.shift_lr_scale; the parameter is one of the enhancement's
};

struct ParameterRow {
  std::string name;  // within its block in a core's table: "att.key.weight"; else the key in
                     // checkpoints: "blocks.0.att.key.weight"
  Shape shape;
  std::string_view part;  // what the counts list it under: "time mix"
  Start start;
  bool matrix = false;  // decayed, quantized, multiplied with every token, listed by the benchmarks
  double rate = 1;      // learning-rate multiplier where its group's setting is on
  RateGroup rate_group = RateGroup::kNone;
  // Of a matrix: stored (in, out) and not decayed, as the low-rank pairs of RWKV-7 are.
  bool transposed = false;

  std::int64_t count() const;
  // Of a matrix.
  std::int64_t outputs() const { return shape[transposed ? 1 : 0]; }
  std::int64_t inputs() const { return shape[transposed ? 0 : 1]; }
  // Whether it belongs to the enhancement: a checkpoint without it can begin an enhanced model.
  bool of_shift() const { return rate_group == RateGroup::kShift; }
};

// In the order of checkpoints: embedding, blocks, ln_out, head. `config.vocab_size` is set. Throws
// ConfigError where there is no core of that name.
std::vector<ParameterRow> describe_parameters(const ModelConfig& config);

std::int64_t parameter_count(const ModelConfig& config);

// A matrix (out, in) of a linear layer.
ParameterRow matrix_row(std::string name, std::int64_t out, std::int64_t in, std::string_view part,
                        Start start);
// A matrix that is stored (in, out).
ParameterRow transposed_row(std::string name, std::int64_t in, std::int64_t out,
                            std::string_view part, Start start);
// Weight and bias of a layer norm over C channels.
void add_norm_rows(std::vector<ParameterRow>& rows, const std::string& name, std::int64_t C);

inline constexpr std::string_view kEmbeddingPart = "embedding", kNormPart = "layer norms",
                                  kHeadPart = "head";

}  // namespace rwkvx
