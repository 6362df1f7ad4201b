#include "rwkvx/adapters/adapter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <unordered_map>

#include "adapters/lora.h"
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
  }
  if (!any) throw CheckpointError(where, "holds no pair of lora_A and lora_B");
  if (adapter.rank < 1)
    throw CheckpointError(where,
                          "expected a rank of 1 or more, got " + std::to_string(adapter.rank));
  if (!std::isfinite(adapter.alpha) || adapter.alpha <= 0)
    throw CheckpointError(where,
                          "expected an alpha above 0, got " + nlohmann::json(adapter.alpha).dump());
  for (const auto& tensor : adapter.tensors) {
    const auto half = lora_half(tensor.name);
    if (!half || (tensor.shape.size() == 2 && tensor.shape[half->second ? 1 : 0] == adapter.rank))
      continue;
    const auto rank = std::to_string(adapter.rank);
    fail(where, tensor.name,
         "expected a matrix " +
             (half->second ? "(outputs, " + rank + ")" : "(" + rank + ", inputs)") + " of rank " +
             rank + ", got shape " + shape_text(tensor.shape));
  }
}

using Rows = std::unordered_map<std::string, ParameterRow>;

Rows rows_of(const ModelConfig& config) {
  Rows rows;
  for (auto& row : describe_parameters(config)) rows.emplace(row.name, row);
  return rows;
}

void check_lora(const Adapter& adapter, const ModelConfig& base, const std::string& where) {
  const auto rows = rows_of(base);
  for (const auto& tensor : adapter.tensors) {
    if (const auto half = lora_half(tensor.name)) {
      auto row = rows.find(half->stem + std::string(kWeight));
      if (row == rows.end()) row = rows.find(half->stem);
      if (row == rows.end() || !row->second.matrix)
        fail(where, tensor.name, "is for " + half->stem + ", which the model does not have");
      const auto& shape = row->second.shape;
      const auto wanted =
          half->second ? std::vector{shape[0], adapter.rank} : std::vector{adapter.rank, shape[1]};
      if (tensor.shape != wanted)
        fail(where, tensor.name,
             "expected shape " + shape_text(wanted) + " for " + row->first + " " +
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

void check_state(const Adapter& adapter, const ModelConfig& base, const std::string& where) {
  std::unordered_map<std::string, StateRow> rows;
  for (auto& row : describe_state(base)) rows.emplace(row.name, row);
  std::set<std::string> kinds, names;
  for (const auto& tensor : adapter.tensors) {
    const auto row = rows.find(tensor.name);
    if (row == rows.end() || row->second.ring)
      fail(where, tensor.name, "is no state of the model that a text can begin with");
    if (tensor.shape != row->second.shape)
      fail(where, tensor.name,
           "expected shape " + shape_text(row->second.shape) + ", got " + shape_text(tensor.shape));
    kinds.insert(in_block(tensor.name));
    names.insert(tensor.name);
  }
  for (const auto& kind : kinds)
    for (std::int64_t i = 0; i < base.n_layer; ++i)
      if (const auto name = block_prefix(i) + kind; !names.contains(name))
        fail(where, name, "is missing; the adapter is of another model");
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
    if (tensor.values.empty()) fail(where, tensor.name, "is empty");
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
      return check_state(adapter, base, where);
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
