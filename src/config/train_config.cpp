#include "rwkvx/config/train_config.h"

#include "rwkvx/base/device_name.h"

namespace rwkvx {

void TrainingConfig::check(const std::string& where) const {
  if (final_learning_rate > learning_rate)
    throw ConfigError(where + ".final_learning_rate", "must not be larger than learning_rate = " +
                                                          nlohmann::json(learning_rate).dump());
  if (grad_checkpoint == GradCheckpoint::kBlock && operators != Operators::kFused)
    throw ConfigError(where + ".grad_checkpoint", "block needs operators = fused");
  parse_device_name(device, where + ".device");
  if (output.empty())
    throw ConfigError(where + ".output", "expected a directory name, got an empty text");
}

}  // namespace rwkvx
