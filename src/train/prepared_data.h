// What a run trains and validates on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "rwkvx/config/train_config.h"
#include "rwkvx/data/batches.h"
#include "rwkvx/data/corpus.h"

namespace rwkvx {

struct PreparedData {
  TokenSets sets;  // of pairs and messages the manifests alone
  std::unique_ptr<SupervisedSet> train_documents, valid_documents;
  std::unique_ptr<TrainingBatches> batches;
  std::unique_ptr<ValidationBatches> checks;
  std::int64_t train_tokens = 0, valid_tokens = 0;
  bool weighted = false;  // tokens have weights, and batches differ in their sum
};

// Builds token files in `folder`, or reads pairs and messages into memory. config.model.vocab_size
// is set; `check` as there. Throws as build_token_sets() and read_supervised() do, and DataError
// for a text that is too short or ids that the model does not have.
PreparedData prepare_data(const TrainConfig& config, const Tokenizer& tokenizer,
                          const std::filesystem::path& folder, bool quiet,
                          const TokenSetsCheck& check);

}  // namespace rwkvx
