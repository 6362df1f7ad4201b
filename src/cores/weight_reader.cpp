#include "rwkvx/cores/weight_reader.h"

#include <algorithm>
#include <cstring>

#include "rwkvx/base/error.h"
#include "rwkvx/cores/names.h"

namespace rwkvx {
namespace {

bool is_aligned(const TensorView& tensor, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % bytes == 0;
}

}  // namespace

WeightReader::WeightReader(const TensorFile& file, const std::vector<ParameterRow>& rows, Use use)
    : file_(file), use_(use) {
  for (const auto& row : rows) {
    if (file.find(row.name) == nullptr) fail(row.name, missing_tensor(row.name, row.shape));
    rows_.emplace(row.name, row);
  }
}

void WeightReader::fail(const std::string& tensor, const std::string& reason) const {
  throw CheckpointError(file_.path().string() + ": " + tensor, reason);
}

const ParameterRow& WeightReader::row(const std::string& name) const {
  const auto found = rows_.find(name);
  if (found == rows_.end()) throw Error(name, "is no row of the table of parameters");
  return found->second;
}

const TensorView& WeightReader::find(const std::string& name) {
  known_.insert(name);
  const auto* tensor = file_.find(name);
  if (tensor == nullptr) fail(name, "is missing");
  return *tensor;
}

float* WeightReader::floats(std::int64_t count, float value) {
  return own_.emplace_back(static_cast<std::size_t>(count), value).data();
}

float* WeightReader::floats_of(const std::string& name, std::int64_t count) {
  const auto& tensor = find(name);
  if (tensor.numel() != count)
    fail(name,
         "expected " + std::to_string(count) + " numbers, got shape " + shape_text(tensor.shape));
  return own_.emplace_back(to_float32(tensor)).data();
}

float* WeightReader::vector(const std::string& name) { return floats_of(name, row(name).count()); }

void WeightReader::refuse_unread() const {
  for (const auto& tensor : file_.tensors())
    if (!known_.contains(tensor.name) && !is_unused(tensor.name))
      fail(tensor.name, unknown_tensor(tensor.name));
}

WeightMatrix WeightReader::quantized(const TensorView& tensor, std::int64_t rows,
                                     std::int64_t columns) {
  WeightMatrix out{tensor.dtype == DType::kI8 ? WeightType::kInt8 : WeightType::kInt4, rows,
                   columns, tensor.bytes.data(), nullptr};
  if (file_.find(tensor.name + ".scale") == nullptr)
    fail(tensor.name, "holds integers (" + std::string(dtype_name(tensor.dtype)) +
                          ") that rwkvx quantize did not write; expected the model's weights as "
                          "floating-point numbers");
  const auto& scales = find(tensor.name + ".scale");
  const bool int8 = out.type == WeightType::kInt8;
  const std::vector<std::int64_t> wanted =
      int8 ? std::vector<std::int64_t>{rows} : std::vector<std::int64_t>{rows, 2 * out.blocks()};
  if (scales.shape != wanted || scales.dtype != (int8 ? DType::kF32 : DType::kBF16) ||
      !is_aligned(scales, int8 ? 4 : 2))
    fail(scales.name, std::string("expected ") + (int8 ? "F32 " : "BF16 ") + shape_text(wanted) +
                          ", got " + std::string(dtype_name(scales.dtype)) + " " +
                          shape_text(scales.shape));
  out.scales = scales.bytes.data();
  if (const auto name = tensor.name + ".column_scale"; file_.find(name) != nullptr)
    out.column_scales = floats_of(name, columns);
  if (file_.find(tensor.name + ".wide_rows") != nullptr) read_wide(out, tensor.name);
  return out;
}

const std::int32_t* WeightReader::indices(const std::string& name, std::int64_t count) {
  const auto& tensor = find(name);
  if (tensor.dtype != DType::kI32 || tensor.numel() != count)
    fail(name, "expected " + std::to_string(count) + " I32 numbers, got " +
                   std::string(dtype_name(tensor.dtype)) + " " + shape_text(tensor.shape));
  auto& own = own_indices_.emplace_back(static_cast<std::size_t>(count));
  std::memcpy(own.data(), tensor.bytes.data(), tensor.bytes.size());
  return own.data();
}

void WeightReader::read_wide(WeightMatrix& matrix, const std::string& name) {
  const auto* first = indices(name + ".wide_rows", matrix.rows + 1);
  const auto count = find(name + ".wide_columns").numel();
  const auto* columns = indices(name + ".wide_columns", count);
  if (first[0] != 0 || first[matrix.rows] != count ||
      !std::is_sorted(first, first + matrix.rows + 1))
    fail(name + ".wide_rows", "does not count up to the " + std::to_string(count) + " of " + name +
                                  ".wide_columns; make the file again with `rwkvx quantize`");
  for (std::int64_t i = 0; i < count; ++i)
    if (columns[i] < 0 || columns[i] >= matrix.columns)
      fail(name + ".wide_columns", "expected 0 to " + std::to_string(matrix.columns - 1) +
                                       ", got " + std::to_string(columns[i]) +
                                       "; make the file again with `rwkvx quantize`");
  matrix.wide = {first, columns, floats_of(name + ".wide_values", count)};
}

// The transpose of a (columns, rows) matrix, in its type if a product can be taken of it.
WeightMatrix WeightReader::turned(const TensorView& tensor, std::int64_t rows,
                                  std::int64_t columns) {
  if (tensor.shape != std::vector<std::int64_t>{columns, rows})
    fail(tensor.name,
         "expected shape " + shape_text({{columns, rows}}) + ", got " + shape_text(tensor.shape));
  WeightMatrix out{tensor.dtype == DType::kBF16 ? WeightType::kBF16 : WeightType::kF32, rows,
                   columns, nullptr, nullptr};
  if (use_ == Use::kCheck) {
    to_float32({tensor.name, tensor.dtype, {0}, {}});  // throws for a type that is no number's
    return out;
  }
  const auto bytes = transposed(tensor);
  const auto type = out.type == WeightType::kBF16 ? DType::kBF16 : DType::kF32;
  out.values =
      own_turned_.emplace_back(converted({tensor.name, tensor.dtype, {rows, columns}, bytes}, type))
          .data();
  return out;
}

WeightMatrix WeightReader::matrix(const std::string& name) {
  const std::int64_t rows = row(name).outputs(), columns = row(name).inputs();
  const auto& tensor = find(name);
  const bool integer = tensor.dtype == DType::kI8 || tensor.dtype == DType::kU8;
  if (row(name).transposed && !integer) return turned(tensor, rows, columns);
  WeightMatrix out{tensor.dtype == DType::kBF16 ? WeightType::kBF16 : WeightType::kF32, rows,
                   columns, tensor.bytes.data(), nullptr};
  if (integer) out = quantized(tensor, rows, columns);
  const std::vector<std::int64_t> wanted{rows,
                                         out.type == WeightType::kInt4 ? out.row_bytes() : columns};
  if (tensor.shape != wanted)
    fail(name, "expected shape " + shape_text(wanted) + ", got " + shape_text(tensor.shape));
  const std::size_t size = dtype_size(tensor.dtype);
  if (!integer && ((tensor.dtype != DType::kF32 && tensor.dtype != DType::kBF16) ||
                   !is_aligned(tensor, size))) {
    out.type = WeightType::kF32;
    if (use_ == Use::kCheck) {
      to_float32({tensor.name, tensor.dtype, {0}, {}});  // throws for a type that is no number's
      return out;
    }
    out.values = reinterpret_cast<const std::byte*>(own_.emplace_back(to_float32(tensor)).data());
  }
  return out;
}

}  // namespace rwkvx
