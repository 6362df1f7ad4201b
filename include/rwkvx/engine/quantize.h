// Weights of a model to a smaller type, in a safetensors file that the engine maps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// A matrix whose int4 error (RoundedMatrix::relative_error) is above this is kept in int8: weights
// that are nothing like normally distributed lose far more than the 0.08 to 0.1 of those.
inline constexpr double kLargestInt4Error = 0.13;

struct QuantizedMatrix {
  std::string name;
  WeightType type;
  double error;                  // RoundedMatrix::relative_error
  std::int64_t outlier_columns;  // columns with a scale far from the others'
  std::int64_t wide;             // weights that stay floats
  std::int64_t bytes;
};

struct QuantizeResult {
  std::vector<QuantizedMatrix> matrices;
  std::int64_t bytes = 0;        // of the file
  std::int64_t kept_larger = 0;  // matrices that int4 would have hurt
  double worst_error = 0;        // relative, of a matrix as it was written
  std::string worst_name;
};

// Writes the matrices of the time mix, the channel mix and the head as `type`, the embedding as
// bfloat16 (float32 for f32), everything else as float32; those that are stored (in, out) in int8
// where `type` is int4, and as integers (out, in). In the file an int8 matrix X (M, N) is
// "X" I8 and "X.scale" F32 (M); an int4 one "X" U8 (M, 32 blocks) and "X.scale" BF16 (M, 2
// blocks); both have "X.column_scale" F32 (N) and, where W weights stay floats, "X.wide_rows" I32
// (M + 1), "X.wide_columns" I32 (W) and "X.wide_values" F32 (W), see weight_matrix.h; the
// metadata's "weights" names the type. Throws CheckpointError where the source is quantized
// already, is not the model of `config` or holds a number that is not finite. On all threads of the
// team, with a progress bar unless `quiet`.
QuantizeResult write_quantized(const TensorFile& source, const ModelConfig& config, WeightType type,
                               const std::filesystem::path& path, bool quiet = true);

}  // namespace rwkvx
