// The forms of the gate, one row each: all that the modules, the engine, the counts and the reading
// of foreign files ask about a form. Adding one is a row in gate_forms.cpp and an enumerator in
// config/model_config.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/core.h"

namespace rwkvx {

struct GateForm {
  Gate gate;
  // Its parameters, named within the site. The last is the bias of its logistic.
  std::vector<ParameterRow> (*rows)(const ModelConfig& config);
  // a, s (B, T, C) -> the logistic's argument (B, T, C), or (B, T, G) for G groups of channels.
  at::Tensor (*logits)(const at::Tensor& a, const at::Tensor& s,
                       std::span<const at::Tensor> learned);
  // The engine's gate of one token, a (C) -> out (C); null for a form that is elementwise, gate_x a
  // + gate_s s + gate_b, which the fused kernels compute themselves.
  void (*token)(const ModelConfig& config, std::span<const float* const> learned, const float* a,
                float* out);
  // Operations per token beside the products with its rows and its bias's logistic.
  CostRow (*cost)(const ModelConfig& config);
  // Whether a site with these tensors has this form; fills in its settings.
  bool (*infer)(const TensorFile& file, const std::string& site, ShiftConfig& shift);

  bool always_open() const { return rows == nullptr; }
  bool elementwise() const { return !always_open() && token == nullptr; }
};

std::span<const GateForm> gate_forms();
const GateForm& gate_form(Gate gate);
// That of a model, after its ablation.
const GateForm& gate_form(const ModelConfig& config);

}  // namespace rwkvx
