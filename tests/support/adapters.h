// Adapters of small random numbers.
#pragma once

#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/adapters/adapter.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/cores/state.h"

namespace rwkvx::test {

inline AdapterTensor random_tensor(std::string name, std::vector<std::int64_t> shape, float size,
                                   unsigned seed) {
  AdapterTensor out{std::move(name), std::move(shape), {}};
  out.values.resize(static_cast<std::size_t>(
      std::accumulate(out.shape.begin(), out.shape.end(), std::int64_t{1}, std::multiplies<>())));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, size);
  for (auto& value : out.values) value = normal(random);
  return out;
}

// Of every matrix of the blocks whose name holds one of `parts`.
inline Adapter random_lora(const ModelConfig& base, std::int64_t rank, double alpha,
                           const std::vector<std::string>& parts = {"att.", "ffn."},
                           unsigned seed = 1) {
  Adapter adapter;
  adapter.rank = rank, adapter.alpha = alpha;
  for (const auto& row : describe_parameters(base)) {
    bool wanted = false;
    for (const auto& part : parts) wanted = wanted || row.name.find(part) != std::string::npos;
    if (!row.matrix || !wanted) continue;
    adapter.tensors.push_back(
        random_tensor(lora_a_name(row.name), {rank, row.shape[1]}, 0.3f, seed++));
    adapter.tensors.push_back(
        random_tensor(lora_b_name(row.name), {row.shape[0], rank}, 0.3f, seed++));
  }
  return adapter;
}

inline Adapter random_state(const ModelConfig& base, unsigned seed = 1) {
  Adapter adapter;
  adapter.kind = AdapterKind::kState;
  for (const auto& row : describe_state(base))
    if (row.name.ends_with(".att.wkv"))
      adapter.tensors.push_back(random_tensor(row.name, row.shape, 0.5f, seed++));
  return adapter;
}

inline Adapter random_shift(const ModelConfig& base, const ShiftConfig& shift = {},
                            unsigned seed = 1) {
  Adapter adapter;
  adapter.kind = AdapterKind::kShift;
  adapter.shift = shift;
  for (const auto& row : describe_parameters(adapted_config(adapter, base)))
    if (row.of_shift()) adapter.tensors.push_back(random_tensor(row.name, row.shape, 0.2f, seed++));
  return adapter;
}

}  // namespace rwkvx::test
