// The files of a run's output folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/adapters/adapter.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/text/tokenizer.h"
#include "rwkvx/train/optimizer.h"
#include "rwkvx/train/trainer.h"
#include "train/guard.h"

namespace rwkvx {

// The best model so far, as checkpoints/best has it.
struct BestSoFar {
  std::int64_t step = 0;  // 0: none
  double valid_loss = std::numeric_limits<double>::infinity();
  double rouge_l = -1;              // where train.eval_generate asks for it
  std::int64_t without_better = 0;  // validations since
  std::string of;                   // what the loss was measured on: validation_key()
};

// Where a run stands between two steps.
struct Progression {
  std::int64_t step = 0;
  std::int64_t tokens = 0;      // trained on
  std::int64_t next_batch = 0;  // where the next batch begins in the order of training
  double valid_loss = std::numeric_limits<double>::quiet_NaN();
  double ema_valid_loss = std::numeric_limits<double>::quiet_NaN();  // of the averages
  GuardState guard;
  BestSoFar best;
};

nlohmann::json progression_to_json(const Progression& progress);
Progression progression_from_json(const nlohmann::json& json);

// The tokenizer a run uses: the file that the config names, the one that an earlier call trained in
// `folder` on the same text, or one trained here.
struct PreparedTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string trained_on;  // names the text and the settings; empty where nothing was trained
};
PreparedTokenizer prepare_tokenizer(const TrainConfig& config, const std::filesystem::path& folder,
                                    bool quiet);
// The same after another process has prepared it there: nothing is trained.
PreparedTokenizer read_prepared_tokenizer(const TrainConfig& config,
                                          const std::filesystem::path& folder);
// Keeps a tokenizer that was trained here for the next call.
void save_trained(const PreparedTokenizer& prepared, const std::filesystem::path& folder);

// Whether a folder holds a run: checkpoints, damaged ones too, or lines of a log.
bool holds_run(const std::filesystem::path& output);

// One process at a time works in a run's folder, and changes nothing there before begin().
class RunFolder {
 public:
  // Takes the folder, which is made if need be, and looks at what it holds. Throws FileError where
  // another process works there, naming it; ConfigError where there is a run and the options say
  // neither resume nor overwrite, or where files are not a run's; CheckpointError where there is a
  // run, but no intact checkpoint to resume from, unless the options say overwrite too.
  RunFolder(const std::filesystem::path& output, const TrainOptions& options);

  std::filesystem::path checkpoints() const { return output_ / kCheckpointsFolder; }
  // The newest intact checkpoint, where the run goes on from one.
  const std::optional<std::filesystem::path>& resume_from() const { return resume_from_; }
  // Loads it. Throws ConfigError where its model or tokenizer is another one, or where a setting
  // differs that a resumed run cannot change, naming the first; names those that it can in a
  // warning.
  void restore(RwkvImpl& model, Optimizer& optimizer, const Tokenizer& tokenizer,
               const TrainConfig& config, Progression& progress);
  // Of a resumed run: throws ConfigError where the training text is another one. The best loss
  // starts anew where it was measured on something else.
  void check_texts(const TokenSets& tokens, const TrainConfig& config, Progression& progress) const;
  // The first changes: the checkpoints of an earlier run go (overwrite) or the damaged ones that
  // were passed over are set aside (resume), each with a warning; the settings are written; the
  // lines of log.jsonl after the step are removed. Tokenizer and tokens are kept by reference.
  void begin(const TrainConfig& config, const Tokenizer& tokenizer, const TokenSets& tokens,
             const Progression& progress);
  // Writes checkpoints/step-…, and prunes; `good` as there. An adapter goes beside the weights,
  // which are those of the model with it. `moments`: the optimizer's.
  std::filesystem::path save(const RwkvImpl& model, const Optimizer& optimizer,
                             const Optimizer::Tensors& moments, const Progression& progress,
                             std::int64_t good, const Adapter* adapter = nullptr) const;
  // Removes all but the last keep_last checkpoints and the last good one, which is the newest of a
  // step up to `good`.
  void prune(std::int64_t good) const;
  // Writes checkpoints/best, which cannot be resumed from. `weights` is "raw" or "ema" where there
  // are averages, else "".
  void save_best(const RwkvImpl& model, const Progression& progress, std::string_view weights,
                 const Adapter* adapter) const;
  // Writes checkpoints/ema: the model as it is, whose weights are the averages.
  void save_averages(const RwkvImpl& model, const Progression& progress,
                     const Adapter* adapter) const;
  void log(const nlohmann::ordered_json& line);
  // Goes back to the newest checkpoint of a regular save (a multiple of save_every, so that it does
  // not depend on where a run was stopped) up to step `good`: weights, optimizer and progress
  // become its, the log loses the lines after its step but those of guards. Its path, or none where
  // there is none.
  std::optional<std::filesystem::path> roll_back(std::int64_t good, RwkvImpl& model,
                                                 Optimizer& optimizer, Progression& progress);

 private:
  void look(const TrainOptions& options);
  bool regular(const CheckpointEntry& entry) const;
  void load(const CheckpointDirectory& directory, const nlohmann::json& document, RwkvImpl& model,
            Optimizer& optimizer, Progression& progress) const;
  void cut_log(const Progression& progress) const;
  void write_model(const std::filesystem::path& folder, const RwkvImpl& model,
                   const Progression& progress, std::string_view weights,
                   const Adapter* adapter) const;
  std::filesystem::path output_;
  MadeDirectories made_;
  FileLock lock_;
  std::optional<std::filesystem::path> resume_from_;
  nlohmann::json provenance_;  // of the checkpoint that was restored
  std::vector<DamagedCheckpoint> damaged_;
  std::optional<AppendFile> log_;
  TrainConfig config_;
  const Tokenizer* tokenizer_ = nullptr;
  const TokenSets* tokens_ = nullptr;
};

}  // namespace rwkvx
