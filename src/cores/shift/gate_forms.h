// The forms of the gate, one row each: all that the modules, the engine, the counts and the reading
// of foreign files ask about a form. Adding one is a row in gate_forms.cpp and an enumerator in
// config/model_config.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/core.h"

namespace rwkvx {

struct GateForm {
  Gate gate;
  // Its parameters, named within the site; null: always open. The last is the bias of its logistic,
  // one for each channel or each group of channels. Those before it are gate_x, gate_s (C) where it
  // is elementwise, for the logistic of gate_x a + gate_s s + gate_b, else matrices (out, in) that
  // the input a goes through one after the other.
  std::vector<ParameterRow> (*rows)(const ModelConfig& config);
  bool elementwise;
  // Operations per token beside the products with its rows and its bias's logistic.
  CostRow (*cost)(const ModelConfig& config);
  // Whether a site with these tensors has this form; fills in its settings.
  bool (*infer)(const TensorFile& file, const std::string& site, ShiftConfig& shift);

  bool always_open() const { return rows == nullptr; }
};

std::span<const GateForm> gate_forms();
const GateForm& gate_form(Gate gate);
// That of a model, after its ablation.
const GateForm& gate_form(const ModelConfig& config);

}  // namespace rwkvx
