#include "cores/rwkv7/names.h"

#include "cores/shift/layout.h"
#include "rwkvx/cores/names.h"

namespace rwkvx::rwkv7 {

bool recognizes(std::span<const TensorView> tensors) { return rwkv_version(tensors) == "7"; }

std::span<const Naming> namings() { return {}; }

bool unused(std::string_view name) {
  return name == "blocks.0.att.v0" || name == "blocks.0.att.v1" || name == "blocks.0.att.v2";
}

void infer(const TensorFile& file, ModelConfig& config) {
  config.head_size = tensor_dimension(file, "blocks.0.att.r_k", 1, 2);
  config.decay_rank = tensor_dimension(file, "blocks.0.att.w1", 1, 2);
  config.iclr_rank = tensor_dimension(file, "blocks.0.att.a1", 1, 2);
  if (config.n_layer > 1) config.value_rank = tensor_dimension(file, "blocks.1.att.v1", 1, 2);
  config.gate_rank = tensor_dimension(file, "blocks.0.att.g1", 1, 2);
  config.dim_ffn = tensor_dimension(file, "blocks.0.ffn.key.weight", 0, 2);
  infer_shift(file, "blocks.0.att.shift.", "blocks.0.ffn.shift.", config);
}

}  // namespace rwkvx::rwkv7
