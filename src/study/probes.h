// Trained models, and what several studies measure on them.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/generate/generator.h"
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

// Scores of a file of predictions by metrics named as parse_metrics() takes them: of each metric a
// number per line, and the BLEU of all together.
nlohmann::ordered_json continuation_scores(const std::filesystem::path& predictions,
                                           std::string_view metrics);
// Continues the prompts of a data set into the file `predictions`; their scores, and the signature.
nlohmann::ordered_json scored_continuations(Generator& generator, const DataSet& data,
                                            const GenerateConfig& config,
                                            const std::filesystem::path& predictions,
                                            std::string_view metrics);

// Histogram, saturation and gradient norms of every gate over the first tokens of a text; an empty
// object where the model has no gate.
nlohmann::ordered_json gate_snapshot(RwkvImpl& model, const std::vector<TokenId>& tokens);

}  // namespace rwkvx
