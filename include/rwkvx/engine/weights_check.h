// Whether a file holds a whole model, by the rules of the engine that will use it.
#pragma once

#include <filesystem>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/names.h"

namespace rwkvx {

// Throws what Engine's constructor would: CheckpointError naming the first tensor that is missing,
// of another shape or type, or no part of the model. Reads no large matrix.
void check_weights(const TensorFile& file, const ModelConfig& config);

// The same for what `--model` names: a checkpoint directory, a run's folder or a file of weights.
void check_model(const std::filesystem::path& path);

}  // namespace rwkvx
