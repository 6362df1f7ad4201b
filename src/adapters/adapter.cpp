#include "rwkvx/adapters/adapter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <unordered_map>

#include "adapters/lora.h"
#include "adapters/rows.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/formats/tensor.h"

namespace rwkvx {
namespace {

constexpr std::string_view kWeight = ".weight", kA = ".lora_A", kB = ".lora_B";

[[noreturn]] void fail(const std::string& where, const std::string& tensor,
                       const std::string& reason) {
  throw CheckpointError(where + ": " + tensor.substr(0, 200), reason);
}

// The part of a matrix's name that its pair is called by.
std::string_view stem_of(std::string_view matrix) {
  if (matrix.ends_with(kWeight)) matrix.remove_suffix(kWeight.size());
  return matrix;
}

std::int64_t count_of(const std::vector<std::int64_t>& shape) {
  return TensorView{"", DType::kF32, shape, {}}.numel();
}

void check_lora(const Adapter& adapter, const std::string& where) {
  std::set<std::string, std::less<>> names;
  for (const auto& tensor : adapter.tensors) names.insert(tensor.name);
  bool any = false;
  for (const auto& tensor : adapter.tensors) {
    const auto half = lora_half(tensor.name);
    if (!half) continue;
    any = true;
    const auto other = half->stem + std::string(half->second ? kA : kB);
    if (!names.contains(other)) fail(where, tensor.name, "has no " + other + " beside it");
    if (tensor.shape.size() != 2)
      fail(where, tensor.name, "expected a matrix, got shape " + shape_text(tensor.shape));
  }
  if (!any) throw CheckpointError(where, "holds no pair of lora_A and lora_B");
  if (adapter.rank < 1)
    throw CheckpointError(where,
                          "expected a rank of 1 or more, got " + std::to_string(adapter.rank));
  if (!std::isfinite(adapter.alpha) || adapter.alpha <= 0)
    throw CheckpointError(where, "expected an alpha above 0, got " + alpha_text(adapter.alpha));
  for (const auto& tensor : adapter.tensors) {
    const auto half = lora_half(tensor.name);
    if (!half || tensor.shape[half->second ? 1 : 0] == adapter.rank) continue;
    const auto rank = std::to_string(adapter.rank);
    fail(where, tensor.name,
         "expected a matrix " +
             (half->second ? "(outputs, " + rank + ")" : "(" + rank + ", inputs)") + " of rank " +
             rank + ", got shape " + shape_text(tensor.shape));
  }
}

void check_lora(const Adapter& adapter, const ModelConfig& base, const std::string& where) {
  const auto rows = parameter_rows(base);
  for (const auto& tensor : adapter.tensors) {
    if (const auto half = lora_half(tensor.name)) {
      const auto* row = matrix_of(rows, half->stem);
      if (row == nullptr)
        fail(where, tensor.name,
             "is for the matrix " + half->stem + ", which the model does not have");
      const auto& shape = row->shape;
      const auto wanted =
          half->second ? std::vector{shape[0], adapter.rank} : std::vector{adapter.rank, shape[1]};
      if (tensor.shape != wanted)
        fail(where, tensor.name,
             "expected shape " + shape_text(wanted) + " for " + row->name + " " +
                 shape_text(shape) + ", got " + shape_text(tensor.shape));
      continue;
    }
    const auto row = rows.find(tensor.name);
    if (row == rows.end()) fail(where, tensor.name, "is no parameter of the model");
    if (count_of(tensor.shape) != row->second.count())
      fail(where, tensor.name,
           "expected shape " + shape_text(row->second.shape) + ", got " + shape_text(tensor.shape));
  }
}

// "att.wkv" of "blocks.3.att.wkv".
std::string in_block(const std::string& name) {
  const auto dot = name.find('.', std::string_view("blocks.").size());
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

void check_shift(const Adapter& adapter, const ModelConfig& base, const std::string& where) {
  if (base.shift.enabled() && config_to_json(base.shift) != config_to_json(adapter.shift))
    throw CheckpointError(where, "is a shift of other settings than the one that the model has: " +
                                     config_to_json(adapter.shift).dump() + ", the model's is " +
                                     config_to_json(base.shift).dump());
  auto config = base;
  config.shift = adapter.shift;
  try {
    config.check("shift");
    check_model(config, "shift");
  } catch (const ConfigError& error) {
    throw CheckpointError(where, error.what());
  }
  std::map<std::string, const AdapterTensor*> found;
  for (const auto& tensor : adapter.tensors) found.emplace(tensor.name, &tensor);
  for (const auto& row : describe_parameters(config)) {
    if (!row.of_shift()) continue;
    const auto tensor = found.find(row.name);
    if (tensor == found.end())
      fail(where, row.name, "is missing, expected shape " + shape_text(row.shape));
    if (tensor->second->shape != row.shape)
      fail(
          where, row.name,
          "expected shape " + shape_text(row.shape) + ", got " + shape_text(tensor->second->shape));
    found.erase(tensor);
  }
  if (!found.empty())
    fail(where, found.begin()->first, "is no parameter of the shift that the settings describe");
}

}  // namespace

ParameterRows parameter_rows(const ModelConfig& config) {
  ParameterRows rows;
  for (auto& row : describe_parameters(config)) rows.emplace(row.name, row);
  return rows;
}

const ParameterRow* matrix_of(const ParameterRows& rows, const std::string& stem) {
  auto row = rows.find(stem + std::string(kWeight));
  if (row == rows.end()) row = rows.find(stem);
  return row == rows.end() || !row->second.matrix ? nullptr : &row->second;
}

void check_state_rows(const Adapter& adapter, const std::vector<StateRow>& rows,
                      const std::string& where) {
  std::unordered_map<std::string_view, const StateRow*> known;
  for (const auto& row : rows) known.emplace(row.name, &row);
  std::set<std::string> kinds, names;
  for (const auto& tensor : adapter.tensors) {
    const auto row = known.find(tensor.name);
    if (row == known.end() || row->second->ring)
      fail(where, tensor.name, "is no state of the model that a text can begin with");
    if (tensor.shape != row->second->shape)
      fail(where, tensor.name,
           "expected the state of this model, " + shape_text(row->second->shape) + ", got " +
               shape_text(tensor.shape));
    kinds.insert(in_block(tensor.name));
    names.insert(tensor.name);
  }
  for (const auto& row : rows)
    if (kinds.contains(in_block(row.name)) && !names.contains(row.name))
      fail(where, row.name, "is missing; the adapter is of another model");
}

std::optional<LoraHalf> lora_half(std::string_view name) {
  const bool first = name.ends_with(kA);
  if (!first && !name.ends_with(kB)) return std::nullopt;
  name.remove_suffix(kA.size());
  return LoraHalf{std::string(name), !first};
}

std::string lora_a_name(std::string_view matrix) {
  return std::string(stem_of(matrix)) + std::string(kA);
}
std::string lora_b_name(std::string_view matrix) {
  return std::string(stem_of(matrix)) + std::string(kB);
}

std::int64_t Adapter::parameters() const {
  std::int64_t sum = 0;
  for (const auto& tensor : tensors) sum += static_cast<std::int64_t>(tensor.values.size());
  return sum;
}

std::string Adapter::hash() const {
  Hasher hasher;
  nlohmann::ordered_json what = {{"kind", enum_name(kind)}};
  if (kind == AdapterKind::kLora) what["rank"] = rank, what["alpha"] = alpha;
  if (kind == AdapterKind::kShift) what["shift"] = config_to_json(shift);
  for (const auto& tensor : tensors) what["tensors"].push_back({tensor.name, tensor.shape});
  hasher.add(what.dump());
  for (const auto& tensor : tensors)
    hasher.add({reinterpret_cast<const char*>(tensor.values.data()),
                tensor.values.size() * sizeof(float)});
  return hasher.hex();
}

void check_adapter(const Adapter& adapter, const std::string& where) {
  if (adapter.tensors.empty()) throw CheckpointError(where, "is an adapter without tensors");
  std::set<std::string_view> names;
  for (const auto& tensor : adapter.tensors) {
    if (!names.insert(tensor.name).second) fail(where, tensor.name, "is there twice");
    if (count_of(tensor.shape) != static_cast<std::int64_t>(tensor.values.size()))
      fail(where, tensor.name,
           "has " + std::to_string(tensor.values.size()) + " numbers, expected shape " +
               shape_text(tensor.shape));
    if (tensor.values.empty())
      fail(where, tensor.name,
           "is empty, of shape " + shape_text(tensor.shape) +
               (lora_half(tensor.name) ? "; expected a rank of 1 or more" : ""));
    if (!std::ranges::all_of(tensor.values, [](float value) { return std::isfinite(value); }))
      fail(where, tensor.name, "holds a number that is not finite");
  }
  if (adapter.kind == AdapterKind::kLora) check_lora(adapter, where);
  if (adapter.kind == AdapterKind::kShift && !adapter.shift.enabled())
    throw CheckpointError(where,
                          "is an adapter of the shift whose settings say that there is none");
}

void check_adapter(const Adapter& adapter, const ModelConfig& base, const std::string& where) {
  check_adapter(adapter, where);
  switch (adapter.kind) {
    case AdapterKind::kLora:
      return check_lora(adapter, base, where);
    case AdapterKind::kState:
      return check_state_rows(adapter, describe_state(base), where);
    case AdapterKind::kShift:
      return check_shift(adapter, base, where);
  }
}

ModelConfig adapted_config(const Adapter& adapter, const ModelConfig& base) {
  auto config = base;
  if (adapter.kind == AdapterKind::kShift) config.shift = adapter.shift;
  return config;
}

}  // namespace rwkvx
