// What a checkpoint says of itself, without LibTorch.
#pragma once

#include <filesystem>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/names.h"

namespace rwkvx {

// What config.json of a checkpoint says; absent for plain weight files.
struct CheckpointConfig {
  ModelConfig model;
  nlohmann::json document;  // the whole file: format, model, tokenizer, train, provenance
  // The hash of the tokenizer that it was trained with; empty where the file has none.
  std::string tokenizer_hash;
};

// Reads DIR/config.json. Throws CheckpointError where it is no config of a checkpoint.
CheckpointConfig read_checkpoint_config(const std::filesystem::path& directory);

// What `rwkvx info` prints of a checkpoint directory, a run's folder or a weights file: model,
// parameters, tokenizer, provenance. Reads and checks everything. Throws CheckpointError,
// FileError.
nlohmann::ordered_json describe_checkpoint(const std::filesystem::path& path);

}  // namespace rwkvx
