#include "rwkvx/adapters/apply.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "adapters/lora.h"
#include "adapters/rows.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/kernels/team.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

// A model's tensors, some of them others than in its file.
class Adapted : public TensorFile::Contents {
 public:
  Adapted(const TensorFile& file, std::map<std::string, AdapterTensor> changed)
      : base_(file), changed_(std::move(changed)) {
    path = file.path();
    metadata = file.metadata();
    stored_bytes = file.stored_bytes();
    for (const auto& tensor : file.tensors())
      if (!changed_.contains(tensor.name)) tensors.push_back(tensor);
    for (const auto& [name, tensor] : changed_)
      tensors.push_back({name, DType::kF32, tensor.shape, std::as_bytes(std::span(tensor.values))});
  }

 private:
  TensorFile base_;
  std::map<std::string, AdapterTensor> changed_;
};

// A model to which adapters are applied one after the other.
class Application {
 public:
  Application(ModelSource base, const AdapterChoice& choice)
      : choice_(choice), model_{std::move(base), {}}, base_hash_(model_.source.hash()) {
    known_ = {base_hash_};
    // What a quantized model was made from has its sizes.
    const auto& document = std::as_const(model_.source.document);
    if (document.is_object() && document.contains("weights") && document["weights"].is_object() &&
        document["weights"].contains("of") && document["weights"]["of"].is_string())
      known_.insert(document["weights"]["of"].get<std::string>());
    hash_ = base_hash_;
  }

  void apply(const AdapterUse& use) {
    const auto where = use.path.string();
    const auto adapter = read_adapter(use.path, choice_.alpha);
    check_base(adapter, where);
    check_adapter(adapter, model_.source.config, where);
    if (use.scale != 1 && adapter.kind != AdapterKind::kLora)
      throw ConfigError(choice_.option,
                        where + " is an adapter of the kind " + enum_name(adapter.kind) +
                            ", which has no scale; leave out :" + alpha_text(use.scale));
    if (!adapter.stores_alpha) {
      alpha_used_ = true;
      if (!choice_.alpha) log_warning(where + ": " + default_alpha_notice(adapter));
    }
    if (adapter.kind == AdapterKind::kLora) apply_lora(adapter, use.scale, where);
    if (adapter.kind == AdapterKind::kState) apply_state(adapter, where);
    if (adapter.kind == AdapterKind::kShift) apply_shift(adapter);
    note(adapter, use);
  }

  AdaptedModel finish() {
    if (choice_.alpha && !alpha_used_)
      throw ConfigError("--adapter-alpha",
                        "changes nothing: none of the adapters is a LoRA that "
                        "does not hold its own; give a scale as FILE:SCALE");
    auto& source = model_.source;
    source.file = TensorFile(std::make_shared<Adapted>(source.file, std::move(changed_)));
    source.weights_hash = hash_;
    auto& provenance = source.document["provenance"];
    if (!provenance.is_object()) provenance = nlohmann::json::object();
    nlohmann::json before;  // where the base was merged itself
    for (const char* key : {"base", "adapters", "before"})
      if (provenance.contains(key)) before[key] = provenance[key];
    if (!before.is_null()) provenance["before"] = before;
    provenance["base"] = base_hash_;
    provenance["adapters"] = applied_;
    return std::move(model_);
  }

 private:
  void check_base(const Adapter& adapter, const std::string& where) const {
    const auto& wanted = adapter.base_hash;
    if (wanted.empty() || known_.contains(wanted) || choice_.any_base) return;
    throw CheckpointError(where, "was trained on the weights " + wanted.substr(0, 8) + "..., but " +
                                     model_.source.path.string() + " has " +
                                     base_hash_.substr(0, 8) +
                                     "...; if these are the same weights in another file, use it "
                                     "with --adapter-any-base");
  }

  // The tensor as float32, of the shape that the model has.
  AdapterTensor& changeable(const ParameterRow& row, const std::string& where) {
    const auto found = changed_.find(row.name);
    if (found != changed_.end()) return found->second;
    const auto& file = model_.source.file;
    const auto at = model_.source.path.string() + ": " + row.name;
    const auto* tensor = file.find(row.name);
    if (tensor == nullptr) throw CheckpointError(at, missing_tensor(row.name, row.shape));
    if (tensor->dtype != DType::kF64 && tensor->dtype != DType::kF32 &&
        tensor->dtype != DType::kF16 && tensor->dtype != DType::kBF16)
      throw CheckpointError(at, "holds " + std::string(dtype_name(tensor->dtype)) +
                                    " numbers, to which " + where +
                                    " cannot be added; merge it into the model that this one was "
                                    "quantized from (rwkvx quantize --merge)");
    if (tensor->numel() != row.count())
      throw CheckpointError(
          at, "expected shape " + shape_text(row.shape) + ", got " + shape_text(tensor->shape));
    return changed_.emplace(row.name, AdapterTensor{row.name, row.shape, to_float32(*tensor)})
        .first->second;
  }

  void apply_lora(const Adapter& adapter, double scale, const std::string& where) {
    const auto rows = parameter_rows(model_.source.config);
    std::map<std::string_view, const AdapterTensor*> tensors;
    for (const auto& tensor : adapter.tensors) tensors.emplace(tensor.name, &tensor);
    for (const auto& tensor : adapter.tensors) {
      const auto half = lora_half(tensor.name);
      if (half && half->second) continue;
      const auto& row = half ? *matrix_of(rows, half->stem) : rows.at(tensor.name);
      auto& weight = changeable(row, where);
      if (half) {
        add_lora(tensor, *tensors.at(lora_b_name(half->stem)),
                 scale * adapter.alpha / static_cast<double>(adapter.rank), weight);
      } else if (scale == 1) {
        weight.values = tensor.values;
      } else {
        for (std::size_t i = 0; i < weight.values.size(); ++i) {
          const double before = weight.values[i];
          weight.values[i] =
              static_cast<float>(before + scale * (static_cast<double>(tensor.values[i]) - before));
        }
      }
      if (!std::ranges::all_of(weight.values, [](float value) { return std::isfinite(value); }))
        throw CheckpointError(where + ": " + tensor.name,
                              "makes " + row.name + " hold a number that is not finite");
    }
  }

  void apply_state(const Adapter& adapter, const std::string& where) {
    if (model_.initial_state)
      throw CheckpointError(where, "is the second initial state; a text begins with one");
    model_.initial_state = initial_state(adapter, describe_state(model_.source.config), where);
  }

  void apply_shift(const Adapter& adapter) {
    if (model_.initial_state)
      throw ConfigError(choice_.option, "name an adapter of the shift before an initial state");
    model_.source.config = adapted_config(adapter, model_.source.config);
    for (const auto& tensor : adapter.tensors) changed_.insert_or_assign(tensor.name, tensor);
  }

  void note(const Adapter& adapter, const AdapterUse& use) {
    const auto own = adapter.hash();
    Hasher hasher;
    hasher.add("rwkvx adapted " + hash_ + own + alpha_text(use.scale));
    hash_ = hasher.hex();
    known_.insert(hash_);
    applied_.push_back({{"file", use.path.filename().string()},
                        {"kind", enum_name(adapter.kind)},
                        {"hash", own},
                        {"scale", use.scale}});
  }

  const AdapterChoice& choice_;
  AdaptedModel model_;
  std::string base_hash_, hash_;
  std::set<std::string> known_;  // hashes of bases that adapters may be for
  std::map<std::string, AdapterTensor> changed_;
  nlohmann::json applied_ = nlohmann::json::array();
  bool alpha_used_ = false;
};

}  // namespace

void add_lora(const AdapterTensor& a, const AdapterTensor& b, double scale, AdapterTensor& weight) {
  const auto M = weight.shape[0], N = weight.shape[1], r = a.shape[0];
  const auto add_to_rows = [&](std::int64_t first, std::int64_t last) {
    std::vector<double> sums(static_cast<std::size_t>(N));
    for (std::int64_t m = first; m < last; ++m) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::int64_t k = 0; k < r; ++k) {
        const double factor = b.values[static_cast<std::size_t>(m * r + k)];
        const float* row = a.values.data() + k * N;
        for (std::int64_t n = 0; n < N; ++n)
          sums[static_cast<std::size_t>(n)] += factor * static_cast<double>(row[n]);
      }
      float* out = weight.values.data() + m * N;
      for (std::int64_t n = 0; n < N; ++n)
        out[n] = static_cast<float>(static_cast<double>(out[n]) +
                                    scale * sums[static_cast<std::size_t>(n)]);
    }
  };
  run_in_pieces(team_threads(), M, 1, add_to_rows);
}

AdapterUse parse_adapter_use(const std::string& text, const std::string& option) {
  const auto colon = text.rfind(':');
  std::error_code error;
  if (colon == std::string::npos || colon == 0 || fs::exists(text, error)) return {text};
  double scale = 0;
  const char *first = text.data() + colon + 1, *last = text.data() + text.size();
  const auto [end, wrong] = std::from_chars(first, last, scale);
  if (end != last || first == last) return {text};
  if (wrong != std::errc() || !std::isfinite(scale))
    throw ConfigError(option, "expected a finite scale after the colon, got " + text);
  return {text.substr(0, colon), scale};
}

AdaptedModel with_adapters(ModelSource base, const AdapterChoice& choice) {
  if (choice.files.empty()) return {std::move(base), {}};
  Application application(std::move(base), choice);
  for (const auto& file : choice.files) application.apply(parse_adapter_use(file, choice.option));
  return application.finish();
}

ModelSource merged_model(ModelSource base, const AdapterChoice& choice) {
  auto adapted = with_adapters(std::move(base), choice);
  if (adapted.initial_state)
    throw ConfigError(choice.option,
                      "an initial state cannot be merged: weights have no place for it; keep the "
                      "file and begin texts with generate --adapter");
  return std::move(adapted.source);
}

PlainState initial_state(const Adapter& adapter, const std::vector<StateRow>& rows,
                         const std::string& where) {
  check_state_rows(adapter, rows, where);
  std::map<std::string_view, const AdapterTensor*> tensors;
  for (const auto& tensor : adapter.tensors) tensors.emplace(tensor.name, &tensor);
  PlainState state;
  for (const auto& row : rows) {
    auto& values = state.values.emplace_back(static_cast<std::size_t>(row.count()));
    const auto found = tensors.find(row.name);
    if (found == tensors.end())
      row.fill(values.data());
    else
      values = found->second->values;
  }
  return state;
}

}  // namespace rwkvx
