// Weights of a model to a smaller type, in a safetensors file that the engine maps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "rwkvx/config/model_config.h"
#include "rwkvx/engine/weight_matrix.h"
#include "rwkvx/model/tensor_file.h"

namespace rwkvx {

// A matrix whose int4 error is above this share of its norm is kept in int8: weights with outliers
// lose far more than the 0.08 to 0.1 of normally distributed ones.
inline constexpr double kLargestInt4Error = 0.13;

struct QuantiseResult {
  std::int64_t bytes = 0;        // of the file
  std::int64_t kept_larger = 0;  // matrices that int4 would have hurt
  double worst_error = 0;        // relative, of a matrix as it was written
  std::string worst_name;
};

// Writes the matrices of the time mix, the channel mix and the head as `type`, the embedding as
// bfloat16 (float32 for f32), everything else as float32. In the file an int8 matrix X (M, N) is
// "X" I8 and "X.scale" F32 (M); an int4 one "X" U8 (M, 32 blocks) and "X.scale" BF16 (M, 2
// blocks), see weight_matrix.h; the metadata's "weights" names the type. Throws CheckpointError
// where the source is quantised already or is not the model of `config`.
QuantiseResult write_quantised(const TensorFile& source, const ModelConfig& config, WeightType type,
                               const std::filesystem::path& path);

}  // namespace rwkvx
