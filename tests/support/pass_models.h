// Small models for the fused pass.
#pragma once

#include <torch/types.h>

#include <string>

#include "rwkvx/model/rwkv.h"
#include "rwkvx/model/training_pass.h"

namespace rwkvx {

struct BatchShape {
  int64_t B, T, C, V;
};

inline ModelConfig config_of(const std::string& switches, const BatchShape& shape,
                             const std::string& core = "rwkv4") {
  auto json = nlohmann::json{{"core", core},
                             {"n_layer", 3},
                             {"n_embd", shape.C},
                             {"vocab_size", shape.V},
                             {"dim_ffn", 3 * shape.C}};
  if (core == "rwkv7")
    json.update({{"head_size", shape.C % 16 == 0 ? 16 : 8},
                 {"decay_rank", 5},
                 {"iclr_rank", 6},
                 {"value_rank", 7},
                 {"gate_rank", 9}});
  json["shift"] = nlohmann::json::parse(switches);
  return config_from_json<ModelConfig>(json, "model");
}

inline void disturb(RwkvImpl& model) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  model.initialize(1, 1e-2);
  for (auto& parameter : model.parameters()) parameter += torch::randn(parameter.sizes()) * 0.1;
}

// With the kernels of a device, whose bodies run on the CPU.
inline TrainingPassOptions on_device(at::ScalarType type = at::kFloat) {
  TrainingPassOptions options;
  options.place = {at::kCPU, type, /*kernels=*/true};
  return options;
}

}  // namespace rwkvx
