#include "rwkvx/cores/state.h"

#include <algorithm>

#include "rwkvx/cores/core.h"

namespace rwkvx {

std::int64_t StateRow::count() const {
  std::int64_t product = 1;
  for (const auto size : shape) product *= size;
  return product;
}

void StateRow::fill(float* values) const {
  const auto part = count() / static_cast<std::int64_t>(start.size());
  for (const float value : start) values = std::fill_n(values, part, value);
}

std::vector<StateRow> describe_state(const ModelConfig& config) {
  std::vector<StateRow> all;
  for (std::int64_t layer = 0; layer < config.n_layer; ++layer)
    for (auto& row : core_of(config).state(config)) {
      row.name = block_prefix(layer) + row.name;
      all.push_back(std::move(row));
    }
  return all;
}

int state_index(const std::vector<StateRow>& rows, const std::string& name) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].name == name) return static_cast<int>(i);
  return -1;
}

}  // namespace rwkvx
