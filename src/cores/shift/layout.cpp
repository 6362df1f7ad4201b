#include "cores/shift/layout.h"

#include <algorithm>

#include "cores/shift/gate_forms.h"
#include "cores/shift/positions.h"
#include "rwkvx/cores/shift.h"

namespace rwkvx {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

}  // namespace

void add_shift_rows(const ModelConfig& config, const std::string& site,
                    std::vector<ParameterRow>& rows) {
  const auto& s = config.shift;
  const auto add = [&](ParameterRow row) {
    row.name = site + row.name;
    rows.push_back(std::move(row));
  };
  const auto zeros = [&](const char* name, Shape shape) {
    add({name, std::move(shape), kShiftPart, starts_at(0), false, 1, RateGroup::kShift});
  };
  if (s.has_conv()) zeros("conv", {s.kernel, config.n_embd});
  if (shift_features(s) > 0) zeros("pos_u", {s.kernel, shift_features(s)});
  if (const auto& form = gate_form(config); !form.always_open())
    for (auto& row : form.rows(config)) add(std::move(row));
}

std::string_view shift_part(std::string_view parameter) {
  return parameter.ends_with(".conv")    ? "convolution"
         : parameter.ends_with(".pos_u") ? "position"
                                         : "gate";
}

StateRow shift_ring_row(const ModelConfig& config, std::string name) {
  return {std::move(name), {config.shift.history(), config.n_embd}, {0}, /*ring=*/true};
}

CostRow shift_cost(const ModelConfig& config) {
  const auto& s = config.shift;
  const double C = real(config.n_embd), K = real(s.kernel), F = real(shift_features(s));
  CostRow cost{kShiftPart};
  if (s.has_conv())
    // K taps with their sum, and the position's factor of each tap.
    cost.elementwise += (2 * K - 1) * C + (F > 0 ? K * C + K : 0);
  if (s.has_silu()) cost.elementwise += 4 * C;
  cost.elementwise += C;  // onto the input
  cost.per_position = 2 * K * F;
  const auto& form = gate_form(config);
  if (form.always_open()) return cost;
  const auto own = form.cost(config);
  cost.products = own.products;
  // Gate times shift, and the logistic: exp, addition, division.
  cost.elementwise += C + own.elementwise + 3 * real(form.rows(config).back().count());
  return cost;
}

std::int64_t shift_features(const ShiftConfig& shift) {
  return shift.has_conv() ? position_form(shift.pos).features : 0;
}

std::int64_t tensor_dimension(const TensorFile& file, const std::string& name, std::size_t index,
                              std::size_t rank) {
  const auto& tensor = file.at(name);
  if (tensor.shape.size() != rank)
    throw CheckpointError(
        file.path().string() + ": " + name,
        "expected " + std::to_string(rank) + " dimensions, got shape " + shape_text(tensor.shape));
  return tensor.shape[index];
}

void infer_shift(const TensorFile& file, const std::string& first, const std::string& second,
                 ModelConfig& config) {
  const auto any = [&](const std::string& prefix) {
    return std::ranges::any_of(
        file.tensors(), [&](const TensorView& tensor) { return tensor.name.starts_with(prefix); });
  };
  const bool at_first = any(first), at_second = any(second);
  auto& shift = config.shift;
  shift.kind = ShiftKind::kNone;
  if (!at_first && !at_second) return;
  shift.kind = ShiftKind::kGatedPositional;
  shift.sites = !at_second  ? ShiftSites::kFirst
                : !at_first ? ShiftSites::kSecond
                            : ShiftSites::kBoth;
  const auto& site = at_first ? first : second;
  if (file.find(site + "conv") != nullptr)
    shift.kernel = tensor_dimension(file, site + "conv", 0, 2);
  else
    shift.ablation = Ablation::kGateOnly;
  shift.pos = file.find(site + "pos_u") == nullptr
                  ? Position::kNone
                  : position_of(tensor_dimension(file, site + "pos_u", 1, 2));
  for (const auto& form : gate_forms())
    if (form.infer(file, site, shift)) {
      shift.gate = form.gate;
      return;
    }
}

}  // namespace rwkvx
