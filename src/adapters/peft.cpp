#include "adapters/peft.h"

#include <algorithm>

#include "adapters/lora.h"
#include "rwkvx/base/error.h"
#include "rwkvx/cores/naming.h"
#include "rwkvx/formats/pth.h"

namespace rwkvx {
namespace {

// The layout of a state. RWKV-PEFT hands time_state transposed to a kernel whose states are (key,
// value) (rwkvt/operator/rwkvop.py, RUN_RWKV7_STATE, RUN_CUDA_RWKV6_STATE), so that it holds
// (value, key): the order of RWKV-7's state in the package rwkv and here. That of RWKV-5 and -6 is
// (key, value), so that programs transpose on loading for those alone (package rwkv 0.8.32,
// model.py; RWKV-Runner, utils/rwkv.py, load_rwkv_state).
constexpr std::string_view kPeftState = ".att.time_state", kState = ".att.wkv";

bool is_model(const TensorFile& file) {
  return std::ranges::any_of(file.tensors(), [](const TensorView& tensor) {
    const auto name = without_wrappers(tensor.name);
    return name == "emb.weight" || name == "head.weight" || name.ends_with(".att.key.weight");
  });
}

bool is_half(std::string_view name) { return lora_half(name).has_value(); }
bool is_state(std::string_view name) { return name.ends_with(kPeftState); }

bool any(const TensorFile& file, bool (*is)(std::string_view)) {
  return std::ranges::any_of(
      file.tensors(), [&](const TensorView& tensor) { return is(without_wrappers(tensor.name)); });
}

std::string renamed(std::string_view name, std::string_view from, std::string_view to) {
  return std::string(name.substr(0, name.size() - from.size())) + std::string(to);
}

}  // namespace

bool is_peft(const TensorFile& file) {
  return !is_model(file) && (any(file, is_half) || any(file, is_state));
}

Adapter read_peft(const TensorFile& file, std::optional<double> alpha) {
  const auto where = file.path().string();
  Adapter adapter;
  adapter.kind = any(file, is_half) ? AdapterKind::kLora : AdapterKind::kState;
  const bool lora = adapter.kind == AdapterKind::kLora;
  for (const auto& tensor : file.tensors()) {
    auto name = std::string(without_wrappers(tensor.name));
    if (is_state(name)) {
      if (lora)
        throw CheckpointError(where + ": " + name.substr(0, 200),
                              "is a tuned state among LoRA matrices; save them as two files");
      name = renamed(name, kPeftState, kState);
    } else if (!lora) {
      throw CheckpointError(where + ": " + name.substr(0, 200),
                            "is no tuned state, as the others are");
    }
    if (name.find("lora_") != name.npos && !lora_half(name))
      throw CheckpointError(where + ": " + name.substr(0, 200),
                            "is not of LoRA's names, lora_A and lora_B; PiSSA's files are read "
                            "after RWKV-PEFT has merged them");
    const auto half = lora_half(name);
    if (half && !half->second && adapter.rank == 0 && tensor.shape.size() == 2)
      adapter.rank = tensor.shape[0];
    auto view = tensor;
    view.name = where + ": " + name;  // for messages
    adapter.tensors.push_back({std::move(name), tensor.shape, to_float32(view)});
  }
  if (lora) adapter.alpha = alpha.value_or(kPeftAlpha), adapter.stores_alpha = false;
  return adapter;
}

void write_peft(const std::filesystem::path& path, const Adapter& adapter) {
  const auto where = path.string();
  check_adapter(adapter, where);
  if (adapter.kind == AdapterKind::kShift)
    throw CheckpointError(where,
                          "the layout of RWKV-PEFT has no place for an adapter of the "
                          "gated positional shift");
  std::vector<TensorView> views;
  for (const auto& tensor : adapter.tensors) {
    auto name = tensor.name;
    if (adapter.kind == AdapterKind::kState) {
      if (!name.ends_with(kState) || tensor.shape.size() != 3 || tensor.shape[1] != tensor.shape[2])
        throw CheckpointError(where + ": " + name,
                              "has no place in the layout of RWKV-PEFT, which holds states "
                              "(heads, value, key) of RWKV-7");
      name = renamed(name, kState, kPeftState);
    }
    views.push_back(
        {std::move(name), DType::kF32, tensor.shape, std::as_bytes(std::span(tensor.values))});
  }
  write_pth(path, pending(views));
}

}  // namespace rwkvx
