#include "rwkvx/cores/cost.h"

#include "rwkvx/cores/core.h"

namespace rwkvx {

std::int64_t ModelCost::parameters() const {
  std::int64_t sum = 0;
  for (const auto& module : modules) sum += module.parameters;
  return sum;
}

double ModelCost::matrix() const {
  double sum = 0;
  for (const auto& module : modules) sum += module.matrix;
  return sum;
}

double ModelCost::elementwise() const {
  double sum = 0;
  for (const auto& module : modules) sum += module.elementwise;
  return sum;
}

ModelCost count_cost(const ModelConfig& config) {
  const auto& core = core_of(config);
  ModelCost cost;
  const auto module = [&](std::string_view part) -> ModuleCost& {
    for (auto& one : cost.modules)
      if (one.name == part) return one;
    return cost.modules.emplace_back(ModuleCost{std::string(part)});
  };
  // The order of the list: what all models have, the core's parts, the head.
  module(kEmbeddingPart), module(kNormPart);
  const auto layers = static_cast<double>(config.n_layer);
  for (const auto& row : core.cost(config)) {
    auto& part = module(row.part);
    part.elementwise += layers * row.elementwise;
    part.matrix += layers * row.products;
    cost.matrix_per_position += layers * row.per_position;
    cost.in_state += layers * row.in_state;
  }
  for (const auto& row : describe_parameters(config)) {
    auto& part = module(row.part);
    part.parameters += row.count();
    if (row.matrix && row.part != kEmbeddingPart)
      part.matrix += 2 * static_cast<double>(row.count());
  }
  // The embedding's norm and the one before the head: mean, deviation, scale and offset.
  module(kNormPart).elementwise += 2 * (7 * static_cast<double>(config.n_embd) + 4);
  for (const auto& row : core.state(config)) cost.state_floats += config.n_layer * row.count();
  return cost;
}

}  // namespace rwkvx
