#include "rwkvx/config/train_config.h"

#include "rwkvx/base/device_name.h"

namespace rwkvx {

void TokenizerConfig::check(const std::string& where) const {
  if (kind != TokenizerKind::kSentencePiece || !path.empty()) return;
  if (vocab_size < kLeastPieces || vocab_size > 1 << 20)
    throw ConfigError(where + ".vocab_size",
                      "must be " + std::to_string(kLeastPieces) + " to " + std::to_string(1 << 20) +
                          " for a sentencepiece model, got " + std::to_string(vocab_size));
}

std::int64_t expected_vocab_size(const TrainConfig& config) {
  if (config.model.vocab_size > 0) return config.model.vocab_size;
  switch (config.tokenizer.kind) {
    case TokenizerKind::kByte:
      return 257;
    case TokenizerKind::kWorld:
      return 65536;
    default:
      return config.tokenizer.vocab_size;
  }
}

void DataConfig::check(const std::string& where) const {
  if (format != DataFormat::kText && !weights.empty())
    throw ConfigError(where + ".weights", "is for text; pairs and messages have a weight_field");
  if (swap_variants > 0 && format != DataFormat::kPairs)
    throw ConfigError(where + ".swap_variants",
                      "is for pairs, and data.format is " + enum_name(format));
  if (swap_between.size() != 2 || swap_between[0].empty() || swap_between[1].empty())
    throw ConfigError(where + ".swap_between",
                      "expected two texts, what stands before a value and what after it");
  if (weights.empty()) return;
  if (weights.size() != train.size())
    throw ConfigError(where + ".weights",
                      "expected a weight for each of the " + std::to_string(train.size()) +
                          " entries of train, got " + std::to_string(weights.size()));
  if (weights.size() > 1024)
    throw ConfigError(where + ".weights",
                      "expected at most 1024 weights, got " + std::to_string(weights.size()));
  for (const double weight : weights)
    if (!(weight > 0 && weight <= 1e9))
      throw ConfigError(where + ".weights",
                        "expected numbers above 0, got " + nlohmann::json(weight).dump());
}

void TrainingConfig::check(const std::string& where) const {
  if (final_learning_rate > learning_rate)
    throw ConfigError(where + ".final_learning_rate", "must not be larger than learning_rate = " +
                                                          nlohmann::json(learning_rate).dump());
  if (max_steps == 0 && max_tokens == 0 && epochs == 0)
    throw ConfigError(where + ".max_steps",
                      "expected a length of the run, got 0; set max_steps, max_tokens or epochs");
  if (on_spike == OnSpike::kRollback && save_every == 0)
    throw ConfigError(where + ".on_spike",
                      "rollback needs checkpoints to go back to; set save_every above 0");
  if (grad_checkpoint == GradCheckpoint::kBlock && operators != Operators::kFused)
    throw ConfigError(where + ".grad_checkpoint", "block needs operators = fused");
  if (cuda_graph && operators != Operators::kFused)
    throw ConfigError(where + ".cuda_graph", "true needs operators = fused");
  if (cuda_graph && dropout > 0)
    throw ConfigError(where + ".cuda_graph",
                      "true needs dropout = 0, as what is dropped changes with every batch");
  if (adapter != TrainAdapter::kNone && !freeze.empty())
    throw ConfigError(where + ".freeze",
                      "cannot be combined with adapter = " + enum_name(adapter) +
                          ", which trains nothing of the model itself; leave one of them out");
  if (adapter != TrainAdapter::kNone && init_from.empty())
    throw ConfigError(where + ".adapter",
                      enum_name(adapter) + " needs a model to adapt: set init_from");
  if (adapter == TrainAdapter::kLora && lora_matrices.empty())
    throw ConfigError(where + ".lora_matrices", "expected one name or more, got none");
  if (best_by == BestBy::kRougeL && eval_generate == 0)
    throw ConfigError(where + ".best_by", "rouge_l needs eval_generate above 0");
  parse_device_name(device, where + ".device");
  if (output.empty())
    throw ConfigError(where + ".output", "expected a directory name, got an empty text");
}

RWKVX_SETTINGS_FUNCTIONS(, TrainConfig)

}  // namespace rwkvx
