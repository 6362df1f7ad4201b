#include "rwkvx/engine/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>

#include "rwkvx/base/error.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/kernels/round_matrix.h"

namespace rwkvx {
namespace {

template <class Value>
std::vector<std::byte> bytes_of(const std::vector<Value>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(Value));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

QuantizeResult write_quantized(const TensorFile& source, const ModelConfig& config, WeightType type,
                               const std::filesystem::path& path, bool quiet) {
  const auto rows = describe_parameters(config);
  std::int64_t total = 0, done = 0;
  for (const auto& row : rows) total += row.count();
  Progress progress("quantizing", total, quiet);
  QuantizeResult result;
  std::deque<std::vector<std::byte>> kept;
  std::vector<TensorView> views;
  const auto keep = [&](const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                        std::vector<std::byte> bytes) {
    result.bytes += static_cast<std::int64_t>(bytes.size());
    kept.push_back(std::move(bytes));
    views.push_back({name, dtype, std::move(shape), kept.back()});
  };
  for (const auto& row : rows) {
    progress.update(done);
    done += row.count();
    const auto& tensor = source.at(row.name);
    const auto where = source.path().string() + ": " + row.name;
    if (tensor.dtype == DType::kI8 || tensor.dtype == DType::kU8)
      throw CheckpointError(where, "is quantized already; expected the original weights");
    if (tensor.numel() != row.count())
      throw CheckpointError(
          where, "expected shape " + shape_text(row.shape) + ", got " + shape_text(tensor.shape));
    auto to = row.matrix ? type : WeightType::kF32;
    // Rows of a few dozen weights take as long in int4 as in int8, and every channel hangs on them.
    if (row.transposed && to == WeightType::kInt4) to = WeightType::kInt8;
    if (row.part == kEmbeddingPart && type != WeightType::kF32) to = WeightType::kBF16;
    if (to == WeightType::kF32) {
      keep(row.name, DType::kF32, row.shape, bytes_of(to_float32(tensor)));
      continue;
    }
    // Integers are (out, in), in groups along a row that is multiplied.
    TensorView matrix{tensor.name, tensor.dtype, row.shape, tensor.bytes};
    std::vector<std::byte> turned;
    if (row.transposed && to != WeightType::kBF16) {
      turned = transposed(matrix);
      matrix.shape = {row.outputs(), row.inputs()}, matrix.bytes = turned;
    }
    const auto values = to_float32(matrix);
    const std::int64_t M = matrix.shape[0], N = matrix.shape[1];
    if (const auto odd = std::ranges::find_if_not(values, [](float v) { return std::isfinite(v); });
        odd != values.end())
      throw CheckpointError(where, "expected finite numbers, got " + std::to_string(*odd) +
                                       "; take a checkpoint from before the training diverged");
    auto rounded = round_matrix(values.data(), M, N, to);
    if (to == WeightType::kInt4 && rounded.relative_error > kLargestInt4Error) {
      rounded = round_matrix(values.data(), M, N, to = WeightType::kInt8);
      ++result.kept_larger;
    }
    if (rounded.relative_error > result.worst_error) {
      result.worst_error = rounded.relative_error;
      result.worst_name = row.name;
    }
    const auto view = rounded.view;
    result.matrices.push_back({row.name, to, rounded.relative_error, rounded.outlier_columns,
                               view.wide_count(), view.bytes()});
    if (to == WeightType::kBF16) {
      keep(row.name, DType::kBF16, {M, N}, std::move(rounded.values));
    } else if (to == WeightType::kInt8) {
      keep(row.name, DType::kI8, {M, N}, std::move(rounded.values));
      keep(row.name + ".scale", DType::kF32, {M}, std::move(rounded.scales));
    } else {
      keep(row.name, DType::kU8, {M, view.row_bytes()}, std::move(rounded.values));
      keep(row.name + ".scale", DType::kBF16, {M, 2 * view.blocks()}, std::move(rounded.scales));
    }
    if (view.column_scales != nullptr)
      keep(row.name + ".column_scale", DType::kF32, {N}, bytes_of(rounded.column_scales));
    if (const auto wide = view.wide_count(); wide > 0) {
      keep(row.name + ".wide_rows", DType::kI32, {M + 1}, bytes_of(rounded.wide_first));
      keep(row.name + ".wide_columns", DType::kI32, {wide}, bytes_of(rounded.wide_columns));
      keep(row.name + ".wide_values", DType::kF32, {wide}, bytes_of(rounded.wide_values));
    }
  }
  progress.update(total);
  progress.finish();
  write_safetensors(path, views, {{"weights", std::string(weight_type_name(type))}});
  return result;
}

}  // namespace rwkvx
