// The tensors of a file as the engine computes with them, by the rows of the table of parameters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "rwkvx/cores/parameters.h"
#include "rwkvx/formats/tensor_file.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

class WeightReader {
 public:
  // kCheck: only what is thrown is of interest; large matrices are not converted.
  enum class Use { kCompute, kCheck };
  // Throws CheckpointError naming the first tensor of the table that the file lacks.
  WeightReader(const TensorFile& file, const std::vector<ParameterRow>& rows, Use use);
  WeightReader(const WeightReader&) = delete;
  WeightReader& operator=(const WeightReader&) = delete;

  // A matrix row, (out, in), used where the file is mapped if it is stored so and float32, bfloat16
  // or quantized (engine/quantize.h). Throws CheckpointError naming the tensor where it has another
  // shape or type.
  WeightMatrix matrix(const std::string& name);
  // Any row as floats, which belong to this object and may be changed.
  float* vector(const std::string& name);
  // Memory that lives as long as this object.
  float* floats(std::int64_t count, float value = 0);
  // Throws CheckpointError naming a tensor of the file that nobody asked for.
  void refuse_unread() const;

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& reason) const;
  const ParameterRow& row(const std::string& name) const;
  const TensorView& find(const std::string& name);
  float* floats_of(const std::string& name, std::int64_t count);
  WeightMatrix turned(const TensorView& tensor, std::int64_t rows, std::int64_t columns);
  WeightMatrix quantized(const TensorView& tensor, std::int64_t rows, std::int64_t columns);
  void read_wide(WeightMatrix& matrix, const std::string& name);
  const std::int32_t* indices(const std::string& name, std::int64_t count);

  TensorFile file_;  // keeps the mapping
  std::unordered_map<std::string, ParameterRow> rows_;
  Use use_;
  std::set<std::string> known_;
  std::deque<std::vector<float>> own_;  // what was converted
  std::deque<std::vector<std::byte>> own_turned_;
  std::deque<std::vector<std::int32_t>> own_indices_;
};

}  // namespace rwkvx
