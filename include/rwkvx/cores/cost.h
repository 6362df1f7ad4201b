// What a model costs, counted and not measured: parameters, arithmetic and state, module by module.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

// One kind of module, all of its instances together. An addition, a multiplication, a division, a
// comparison and an elementary function (exp, sqrt) are one operation each.
struct ModuleCost {
  std::string name;
  std::int64_t parameters = 0;
  double matrix = 0;       // operations in matrix products per token: 2 in out
  double elementwise = 0;  // all others, per token
};

struct ModelCost {
  std::vector<ModuleCost> modules;
  // In matrix products per token and batch, whatever the number of sequences: the taps' positions.
  double matrix_per_position = 0;
  // Of the elementwise operations per token: on numbers of a matrix-valued state, which need no
  // memory traffic where it is kept in registers.
  double in_state = 0;
  std::int64_t state_floats = 0;  // of one sequence
  std::int64_t parameters() const;
  double matrix() const;       // per token, without matrix_per_position
  double elementwise() const;  // per token
};

// The cost of the forward pass. The counts of elementwise operations are those of the formulas in
// cores/, without what an implementation adds. config.vocab_size is set.
ModelCost count_cost(const ModelConfig& config);

}  // namespace rwkvx
