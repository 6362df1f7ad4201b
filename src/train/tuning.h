// Which tensors a run trains: the model's, but for those that are frozen, or an adapter's.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "rwkvx/adapters/adapter.h"
#include "rwkvx/train/optimizer.h"
#include "train/computation.h"

namespace rwkvx {

// Whether a name of train.freeze or of train.lora_matrices means a parameter: "core" is all but the
// enhancement; one with * is a pattern of the whole name; another is some of the parts between the
// dots, "att.key" of "blocks.0.att.key.weight".
bool means_parameter(const std::string& pattern, const ParameterRow& row);

class Tuning {
 public:
  // `model` has the weights to begin with. Throws ConfigError where a pattern means no parameter,
  // or nothing is left to train.
  Tuning(Rwkv& model, const TrainingConfig& config);

  bool trains(const ParameterRow& row) const;
  const Additions& additions() const { return additions_; }
  // Tensors to train that are no parameters of the model.
  std::vector<ExtraParameter> extra() const;
  // The numbers that are trained.
  std::int64_t parameters() const;
  // What was trained, as a file; `base_hash` is that of the model it belongs to. Throws where
  // train.adapter is none.
  Adapter adapter(const Rwkv& model, const std::string& base_hash) const;
  // Calls use() while the matrices are what they are with what was trained.
  void while_merged(const std::function<void()>& use);

 private:
  void merge();
  void split();
  void begin_lora(Rwkv& model);
  TrainingConfig config_;
  std::vector<ParameterRow> rows_;
  Additions additions_;
  std::vector<std::pair<at::Tensor, at::Tensor>> matrices_;  // and what they are without
};

}  // namespace rwkvx
