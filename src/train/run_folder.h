// The files of a run's output folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "rwkvx/config/train_config.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/text/tokenizer.h"
#include "rwkvx/train/optimizer.h"
#include "rwkvx/train/trainer.h"

namespace rwkvx {

// Where a run stands between two steps.
struct Progression {
  std::int64_t step = 0;
  std::int64_t best_step = 0;
  double best_valid_loss = std::numeric_limits<double>::infinity();
  double valid_loss = std::numeric_limits<double>::quiet_NaN();
};

// The tokenizer a run uses: the file that the config names, the one that an earlier call trained in
// this folder on the same text, or one trained here and saved.
std::unique_ptr<Tokenizer> prepare_tokenizer(const TrainConfig& config, bool quiet);

class RunFolder {
 public:
  RunFolder(const TrainConfig& config, const Tokenizer& tokenizer, const TokenSets& tokens);

  std::filesystem::path checkpoints() const;
  // Throws ConfigError if there is a run already and the options say neither resume nor overwrite.
  void prepare(const TrainOptions& options) const;
  // Loads the newest intact checkpoint, if there is one. Throws ConfigError where its model or
  // tokenizer is another one, naming the first setting that differs.
  bool restore(RwkvImpl& model, Optimizer& optimizer, Progression& progress) const;
  // Writes checkpoints/step-…, and removes all but the last keep_last of them.
  std::filesystem::path save(const RwkvImpl& model, const Optimizer& optimizer,
                             const Progression& progress) const;
  // Writes checkpoints/best, which cannot be resumed from.
  void save_best(const RwkvImpl& model, const Progression& progress) const;
  // Removes the lines of log.jsonl after `step` and appends to the rest.
  void cut_log(std::int64_t step) const;
  void log(const nlohmann::ordered_json& line) const;

 private:
  void write_model(const std::filesystem::path& folder, const RwkvImpl& model,
                   const Progression& progress) const;
  TrainConfig config_;
  const Tokenizer& tokenizer_;
  const TokenSets& tokens_;
};

}  // namespace rwkvx
