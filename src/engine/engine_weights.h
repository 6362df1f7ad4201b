// The weights of a whole model as the engine reads them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/huge_memory.h"
#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/step.h"
#include "rwkvx/cores/weight_reader.h"
#include "rwkvx/formats/tensor_file.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

class EngineWeights {
 public:
  // Throws CheckpointError naming the first tensor that is missing, of another shape or type, or no
  // part of the model.
  EngineWeights(const TensorFile& file, const ModelConfig& config,
                WeightReader::Use use = WeightReader::Use::kCompute);
  EngineWeights(const EngineWeights&) = delete;
  EngineWeights& operator=(const EngineWeights&) = delete;

  std::vector<std::unique_ptr<BlockStep>> blocks;
  WeightMatrix embedding, head;
  const float* ln0[2] = {};  // weight and bias, (C)
  const float* ln_out[2] = {};
  // Of the matrices that a token reads whole.
  std::int64_t matrix_bytes = 0;
  // That of most of their weights.
  WeightType type = WeightType::kF32;

 private:
  void pack(const std::vector<WeightMatrix*>& all);

  WeightReader reader_;
  std::unique_ptr<HugeMemory> packed_;
};

}  // namespace rwkvx
