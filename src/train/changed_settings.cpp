#include "train/changed_settings.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "rwkvx/base/files.h"

namespace rwkvx {
namespace {

// What a resumed run keeps, and why. Everything else may change: rates, schedule and length, what
// is logged, validated and saved, threads, precision.
struct FixedSetting {
  std::string_view name, reason;
};
constexpr std::string_view kOrder = "the order of the data depends on it",
                           kMoments = "the state of the optimizer depends on it";
constexpr FixedSetting kFixedSettings[] = {
    {"train.seed", kOrder},
    {"train.ctx_len", kOrder},
    {"train.batch_size", kOrder},
    {"train.grad_accum_steps", kOrder},
    {"train.optimizer", kMoments},
    {"train.moments", kMoments},
    {"train.init_from", "the run has started from it"},
    {"train.freeze", kMoments},
    {"train.adapter", kMoments},
    {"train.lora_rank", kMoments},
    {"train.lora_alpha", "what is added to the matrices depends on it"},
    {"train.lora_matrices", kMoments},
    {"data.weights", kOrder},
    {"data.format", kOrder},
};

constexpr std::string_view kPlaces[] = {"train.output", "data.cache"};

template <class Config>
void add_changes(const nlohmann::json& document, const Config& config, const std::string& section,
                 std::vector<SettingChange>& changes) {
  const auto now = config_to_json(config);
  auto before = nlohmann::json(config_to_json(Config()));
  if (document.contains(section) && document[section].is_object()) {
    auto saved = document[section];
    use_current_names<Config>(saved, section, OldNames::kSilent);
    before.update(saved);
  }
  for (const auto& [key, value] : now.items()) {
    const auto name = section + "." + key;
    if (std::find(std::begin(kPlaces), std::end(kPlaces), name) != std::end(kPlaces)) continue;
    if (before[key] != nlohmann::json(value))
      changes.push_back({name, before[key].dump(), value.dump()});
  }
}

}  // namespace

std::vector<SettingChange> changed_settings(const nlohmann::json& document,
                                            const TrainConfig& config) {
  std::vector<SettingChange> changes;
  add_changes(document, config.data, "data", changes);
  add_changes(document, config.train, "train", changes);
  return changes;
}

void refuse_fixed_settings(const std::vector<SettingChange>& changes,
                           const std::string& checkpoint) {
  for (const auto& change : changes)
    for (const auto& fixed : kFixedSettings)
      if (change.name == fixed.name)
        throw ConfigError(
            change.name,
            "was " + change.before + " in " + checkpoint + " and is " + change.after +
                "; a resumed run cannot change it, because " + std::string(fixed.reason) +
                "; set it back, or begin a new run with train.init_from = " + checkpoint);
}

std::string changes_text(const std::vector<SettingChange>& changes) {
  std::string text;
  for (const auto& change : changes)
    text += (text.empty() ? "" : ", ") + change.name + " " + change.before + " -> " + change.after;
  return text;
}

std::string validation_key(const std::string& valid_text, std::int64_t eval_tokens) {
  return hash_bytes(valid_text + ":" + std::to_string(eval_tokens));
}

}  // namespace rwkvx
