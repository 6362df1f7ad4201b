// What a resumed run changes of the settings that its checkpoint was trained with.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

struct SettingChange {
  std::string name;  // "train.learning_rate"
  std::string before, after;
};

// The settings of the sections data and train that differ between `document`, a checkpoint's
// config.json, and `config`. Places on the disk (train.output, data.cache) are left out. A setting
// that the document does not have yet had its default.
std::vector<SettingChange> changed_settings(const nlohmann::json& document,
                                            const TrainConfig& config);

// Throws ConfigError for the first change that would make the saved state wrong, with the reason
// and what to do. `checkpoint` names what is resumed.
void refuse_fixed_settings(const std::vector<SettingChange>& changes,
                           const std::string& checkpoint);

// "train.learning_rate 0.001 -> 0.0005, train.max_steps 24 -> 30".
std::string changes_text(const std::vector<SettingChange>& changes);

// Names what a validation loss is of: losses under different keys are not compared.
std::string validation_key(const std::string& valid_text, std::int64_t eval_tokens);

}  // namespace rwkvx
