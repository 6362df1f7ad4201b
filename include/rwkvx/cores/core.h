// What a core is: the recurrent blocks between a model's embedding and its head. One row of one
// table for each, with all that the rest of the program asks about it; its half in LibTorch's
// operators, for training and GPUs, is in modules/core_modules.h. Adding a core is a folder and a
// line in src/cores/core_list.h; see docs/extending.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/naming.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/cores/state.h"
#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

class BlockStep;
struct StepSetup;

// Operations per token of one block that are no product with a matrix of its table. An addition, a
// multiplication, a division, a comparison and an elementary function (exp, sqrt) are one each.
struct CostRow {
  std::string_view part;  // as in ParameterRow
  double elementwise = 0;
  double products = 0;      // of matrices that the table does not call such
  double per_position = 0;  // in products, per token and batch whatever the number of sequences
  double in_state = 0;      // of `elementwise`: on numbers of a matrix-valued state, which stay put
};

struct Core {
  std::string_view name;  // model.core: "rwkv4"
  std::string_view help;  // "RWKV-4"

  // Throws ConfigError for settings that the core cannot have.
  void (*check)(const ModelConfig& config, const std::string& where);
  Start (*embedding_start)();
  // Of one block, in the order of checkpoints; ln0 is the model's.
  std::vector<ParameterRow> (*parameters)(const ModelConfig& config, std::int64_t layer);
  std::vector<StateRow> (*state)(const ModelConfig& config);
  // Of one block.
  std::vector<CostRow> (*cost)(const ModelConfig& config);

  // Whether tensors of these (own) names are a model of this core.
  bool (*recognizes)(std::span<const TensorView> tensors);
  // How other tools name and lay out its tensors.
  std::span<const Naming> (*namings)();
  // The settings that a file's tensors show, added to those of embedding and number of blocks.
  void (*infer)(const TensorFile& file, ModelConfig& config);

  // Whether files may hold a tensor of this (own) name that the model has no use for; null: none.
  bool (*unused)(std::string_view name) = nullptr;

  // The engine's block.
  std::unique_ptr<BlockStep> (*step)(const StepSetup& setup);
};

// All cores. The first is that of checkpoints which name none.
std::span<const Core* const> all_cores();
// Adds a core to the table, for programs that bring their own.
void register_core(const Core& core);
// Throws ConfigError naming `where` and the nearest where there is no such core.
const Core& find_core(std::string_view name, const std::string& where);
const Core& core_of(const ModelConfig& config);
// Throws ConfigError naming a setting below `where`.
void check_model(const ModelConfig& config, const std::string& where);

// "blocks.0."
std::string block_prefix(std::int64_t layer);

}  // namespace rwkvx
