#include "cores/shift/gate_forms.h"

#include <algorithm>
#include <cmath>

#include "cores/shift/layout.h"

namespace rwkvx {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

ParameterRow row(const char* name, Shape shape, Start start = starts_at(0)) {
  return {name, std::move(shape), kShiftPart, std::move(start), false, 1, RateGroup::kShift};
}
ParameterRow bias(const ModelConfig& config, std::int64_t gates) {
  return row("gate_b", {gates}, starts_at(config.shift.has_conv() ? config.shift.gate_bias : -4));
}

// ---- diag: each channel by its own input and its own convolution
// ---------------------------------

std::vector<ParameterRow> diag_rows(const ModelConfig& config) {
  const std::int64_t C = config.n_embd;
  return {row("gate_x", {C}), row("gate_s", {C}), bias(config, C)};
}
CostRow diag_cost(const ModelConfig& config) { return {kShiftPart, 4 * real(config.n_embd)}; }
bool infer_diag(const TensorFile& file, const std::string& site, ShiftConfig&) {
  return file.find(site + "gate_x") != nullptr || file.find(site + "gate_b") != nullptr;
}

// ---- scalar and group: a few values per token, from all channels
// ---------------------------------

std::int64_t groups(const ModelConfig& config) {
  return config.shift.gate_form() == Gate::kGroup ? config.shift.gate_groups : 1;
}
std::vector<ParameterRow> group_rows(const ModelConfig& config) {
  const std::int64_t G = groups(config);
  return {row("gate_w", {G, config.n_embd}), bias(config, G)};
}
CostRow group_cost(const ModelConfig& config) {
  const auto G = real(groups(config));
  return {kShiftPart, G, 2 * G * real(config.n_embd)};
}
bool infer_group(const TensorFile& file, const std::string& site, ShiftConfig& shift, bool scalar) {
  if (file.find(site + "gate_w") == nullptr) return false;
  const auto G = tensor_dimension(file, site + "gate_w", 0, 2);
  if ((G == 1) != scalar) return false;
  shift.gate_groups = G;
  return true;
}
bool infer_scalar(const TensorFile& file, const std::string& site, ShiftConfig& shift) {
  return infer_group(file, site, shift, /*scalar=*/true);
}
bool infer_groups(const TensorFile& file, const std::string& site, ShiftConfig& shift) {
  return infer_group(file, site, shift, /*scalar=*/false);
}

// ---- lowrank: each channel, from all channels through a narrow layer
// ------------------------------

std::vector<ParameterRow> lowrank_rows(const ModelConfig& config) {
  const std::int64_t C = config.n_embd, R = config.shift.gate_rank;
  return {row("gate_d", {R, C}, starts_normal(1 / std::sqrt(real(C)))), row("gate_u", {C, R}),
          bias(config, C)};
}
CostRow lowrank_cost(const ModelConfig& config) {
  const auto C = real(config.n_embd);
  return {kShiftPart, C, 4 * real(config.shift.gate_rank) * C};
}
bool infer_lowrank(const TensorFile& file, const std::string& site, ShiftConfig& shift) {
  if (file.find(site + "gate_d") == nullptr) return false;
  shift.gate_rank = tensor_dimension(file, site + "gate_d", 0, 2);
  return true;
}

// The first form whose infer() says so is a file's; `one` is the last.
constexpr GateForm kForms[] = {
    {Gate::kScalar, group_rows, false, group_cost, infer_scalar},
    {Gate::kGroup, group_rows, false, group_cost, infer_groups},
    {Gate::kLowrank, lowrank_rows, false, lowrank_cost, infer_lowrank},
    {Gate::kDiag, diag_rows, true, diag_cost, infer_diag},
    {Gate::kOne, nullptr, false, nullptr,
     [](const TensorFile&, const std::string&, ShiftConfig&) { return true; }},
};

}  // namespace

std::span<const GateForm> gate_forms() { return kForms; }

const GateForm& gate_form(Gate gate) {
  for (const auto& form : kForms)
    if (form.gate == gate) return form;
  throw Error("model.shift.gate", "has no row in the table of gate forms");
}

const GateForm& gate_form(const ModelConfig& config) { return gate_form(config.shift.gate_form()); }

}  // namespace rwkvx
