// What the cells of the studies measure on trained models. Each returns the cell's result.
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
TrainedModel load_trained(const std::string& variant, const std::filesystem::path& checkpoint);

// Natural-log losses of tokens 1 .. T-1 of each row (B, T) int64, in calls of `chunk` tokens with
// the state carried: (B, T - 1).
at::Tensor row_losses(RwkvImpl& model, const at::Tensor& rows, std::int64_t chunk = 512);

// Histogram, saturation and gradient norms of every gate over the first tokens of a text; an empty
// object where the model has no gate.
nlohmann::ordered_json gate_snapshot(RwkvImpl& model, const std::vector<TokenId>& tokens);

// Gates at the ends of words, phrases, sentences and paragraphs beside matched positions; losses of
// tokens whose context is changed, by model.
nlohmann::ordered_json measure_boundaries(const std::vector<TrainedModel>& models,
                                          const DataSet& data, const DataSetConfig& config,
                                          const MeasureConfig& measure, std::uint64_t seed);

// On copy, induction and recall: loss and accuracy of what follows from the context; on other text:
// the loss by the length of the context, up to far beyond ctx_len.
nlohmann::ordered_json measure_failures(const std::vector<TrainedModel>& models,
                                        const DataSet& data, const DataSetConfig& config,
                                        const std::vector<std::int64_t>& lengths,
                                        std::int64_t ctx_len);

// Seconds of forward passes, training steps and decoded tokens by length, batch and threads.
nlohmann::ordered_json measure_complexity(const std::vector<TrainedModel>& models,
                                          const StudyConfig& study, const TrainConfig& base);

}  // namespace rwkvx
