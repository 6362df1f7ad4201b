// The table of what a block carries from one call to the next. The modules, the engine, state files
// and the tests are derived from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

// One tensor of a block's state, of one sequence.
struct StateRow {
  std::string name;                 // "att.wkv"
  std::vector<std::int64_t> shape;  // (3, A)
  std::vector<float> start = {0};   // before the first token: of all, or of each part of the first
                                    // dimension
  // The last inputs of a sequence, (H, C): oldest first in modules and files. The engine keeps
  // position t in part t mod H, so that a token writes one part.
  bool ring = false;

  std::int64_t count() const;
  // Writes the values before the first token.
  void fill(float* values) const;
};

// The rows of a whole model, layer after layer: "blocks.0.att.wkv".
std::vector<StateRow> describe_state(const ModelConfig& config);

// Where a row stands among a block's, or -1.
int state_index(const std::vector<StateRow>& rows, const std::string& name);

// The state of one sequence as files hold it: the numbers of the rows of describe_state(), in their
// order, rings oldest first.
struct PlainState {
  std::vector<std::vector<float>> values;
  std::int64_t t = 0;  // tokens seen
};

}  // namespace rwkvx
