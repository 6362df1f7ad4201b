// A run that starts from the weights of a model instead of from initial values.
#pragma once

#include <memory>
#include <optional>

#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

struct InitFrom {
  TrainConfig config;  // as given, with the model's sizes
  std::optional<ModelSource> source;
  std::unique_ptr<Tokenizer> tokenizer;  // the model's own; null where the settings name one
};

// Opens train.init_from, where it is set. Throws ConfigError naming a setting of the model that is
// another one, or the tokenizer's where none lies with the model and none is named.
InitFrom open_init_from(const TrainConfig& given);

}  // namespace rwkvx
