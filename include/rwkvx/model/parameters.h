// Every parameter a configuration has: name, shape, initial value, role in the optimiser. One table
// that the modules, the checkpoints, the optimiser, the engine and `train --explain` share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

// How a parameter starts. RWKV-LM RWKV-v4neo src/model.py; MODEL.md 2.2 for the shift.
enum class Init {
  kConstant,    // `value`
  kUniform,     // +- the embedding range given to initialise()
  kOrthogonal,  // gain `value`
  kNormal,      // standard deviation `value`
  kDecay,       // time_decay: -5 + 8 (c / (A-1))^(0.7 + 1.3 l/(L-1))
  kBonus,       // time_first: ln 0.3 + ((c + 1) mod 3 - 1) / 2
  kMix,         // (c / C)^power + `value`
};

// What the optimiser does with it.
enum class Role { kMatrix, kNorm, kMix, kDecay, kBonus, kShift };

struct ParameterInfo {
  std::string name;  // the key in checkpoints: "blocks.0.att.key.weight"
  std::vector<std::int64_t> shape;
  Role role;
  Init init;
  double value = 0;
  double power = 0;
  std::int64_t layer = 0;
  std::int64_t count() const;
  std::string init_text() const;  // "orthogonal, gain 2", "zeros"
};

// In the order of the modules: embedding, blocks, ln_out, head. `config.vocab_size` is set.
std::vector<ParameterInfo> describe_parameters(const ModelConfig& config);

std::int64_t parameter_count(const ModelConfig& config);

}  // namespace rwkvx
