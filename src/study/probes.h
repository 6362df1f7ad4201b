// Trained models, and what several studies measure on them.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/model/rwkv.h"
#include "rwkvx/study/data_sets.h"
#include "rwkvx/study/grid.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// A trained model of a cell.
struct TrainedModel {
  std::string variant;
  std::filesystem::path checkpoint;
  Rwkv model{nullptr};
  std::shared_ptr<const Tokenizer> tokenizer;
};

// What a cell is measured on.
struct MeasureInput {
  const std::vector<TrainedModel>& models;  // of the study's variants, in their order
  const DataSet& data;
  const DataSetConfig& source;  // where the data set comes from
  const StudyConfig& study;
  const MeasureConfig& measure;
  const TrainConfig& base;
  std::uint64_t seed = 1;
};

TrainedModel load_trained(const std::string& variant, const std::filesystem::path& checkpoint);

// Natural-log losses of tokens 1 .. T-1 of each row (B, T) int64, in calls of `chunk` tokens with
// the state carried: (B, T - 1).
at::Tensor row_losses(RwkvImpl& model, const at::Tensor& rows, std::int64_t chunk = 512);

// Histogram, saturation and gradient norms of every gate over the first tokens of a text; an empty
// object where the model has no gate.
nlohmann::ordered_json gate_snapshot(RwkvImpl& model, const std::vector<TokenId>& tokens);

}  // namespace rwkvx
