#include "rwkvx/model/checkpoint.h"

#include <torch/types.h>

#include <cstring>
#include <set>

#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/cores/parameters.h"

namespace rwkvx {
namespace {

at::ScalarType scalar_type(const TensorView& view) {
  switch (view.dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI16:
      return at::kShort;
    case DType::kI8:
      return at::kChar;
    case DType::kU8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
    default:
      throw CheckpointError(
          view.name,
          "has elements of type " + std::string(dtype_name(view.dtype)) + ", which no model has");
  }
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return DType::kF64;
    case at::kFloat:
      return DType::kF32;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kLong:
      return DType::kI64;
    case at::kInt:
      return DType::kI32;
    case at::kByte:
      return DType::kU8;
    default:
      TORCH_CHECK(false, "view_of: no dtype for ", tensor.scalar_type());
  }
}

// A norm's or mix's [1, 1, C] and [C] hold the same numbers.
bool same_up_to_ones(std::vector<std::int64_t> a, std::vector<std::int64_t> b) {
  std::erase(a, 1);
  std::erase(b, 1);
  return a == b;
}

}  // namespace

void load_weights(RwkvImpl& model, const TensorFile& file, bool allow_new_shift) {
  const torch::NoGradGuard no_grad;
  const auto where = file.path().string();
  auto parameters = model.named_parameters();
  std::set<std::string> known;
  for (const auto& row : describe_parameters(model.config())) {
    known.insert(row.name);
    const auto* found = file.find(row.name);
    if (found == nullptr) {
      if (allow_new_shift && row.of_shift()) continue;
      throw CheckpointError(where + ": " + row.name, missing_tensor(row.name, row.shape));
    }
    if (!same_up_to_ones(found->shape, row.shape))
      throw CheckpointError(where + ": " + row.name, "expected shape " + shape_text(row.shape) +
                                                         ", got " + shape_text(found->shape));
    const auto tensor = tensor_of(*found).view(row.shape);
    if (!tensor.is_floating_point())
      throw CheckpointError(where + ": " + row.name, "holds no floating-point numbers");
    parameters[row.name].copy_(tensor);
  }
  for (const auto& tensor : file.tensors())
    if (!known.contains(tensor.name) && !is_unused(tensor.name))
      throw CheckpointError(where + ": " + tensor.name, unknown_tensor(tensor.name));
}

Rwkv load_model(const ModelSource& source) {
  Rwkv model(source.config);
  load_weights(*model, source.file);
  return model;
}

Rwkv load_model(const std::filesystem::path& path) { return load_model(open_model(path)); }

TensorView view_of(const std::string& name, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.device().is_cpu(), "view_of: ", name,
              " must be contiguous and on the CPU");
  return {name,
          dtype_of(tensor),
          tensor.sizes().vec(),
          {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}};
}

at::Tensor tensor_of(const TensorView& view) {
  auto tensor = torch::empty(view.shape, scalar_type(view));
  if (!view.bytes.empty())
    std::memcpy(tensor.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
  return tensor;
}

void HostTensors::add(const std::string& name, const at::Tensor& tensor) {
  kept.push_back(tensor.detach().cpu());
  views.push_back(view_of(name, kept.back()));
}

HostTensors weight_views(const RwkvImpl& model) {
  HostTensors all;
  const auto parameters = model.named_parameters();
  for (const auto& row : describe_parameters(model.config()))
    all.add(row.name, parameters[row.name]);
  return all;
}

}  // namespace rwkvx
