#include "cores/rwkv7/names.h"

#include <nlohmann/json.hpp>

#include "cores/rwkv7/parameters.h"
#include "cores/shift/layout.h"
#include "rwkvx/cores/names.h"

namespace rwkvx::rwkv7 {

namespace {

using enum Layout;

// The transformers library's directories, as the package rwkv7-hf and flash-linear-attention name
// the tensors.
constexpr NameRow kHuggingFaceModel[] = {
    {"emb.weight", "model.embeddings.weight"},
    {"blocks.0.ln0.weight", "model.layers.0.pre_norm.weight"},
    {"blocks.0.ln0.bias", "model.layers.0.pre_norm.bias"},
    {"ln_out.weight", "model.norm.weight"},
    {"ln_out.bias", "model.norm.bias"},
    {"head.weight", "lm_head.weight"},
};
constexpr NameRow kHuggingFaceBlocks[] = {
    {"ln1.weight", "attn_norm.weight"},
    {"ln1.bias", "attn_norm.bias"},
    {"ln2.weight", "ffn_norm.weight"},
    {"ln2.bias", "ffn_norm.bias"},
    {"att.x_r", "attn.x_r"},
    {"att.x_w", "attn.x_w"},
    {"att.x_k", "attn.x_k"},
    {"att.x_v", "attn.x_v"},
    {"att.x_a", "attn.x_a"},
    {"att.x_g", "attn.x_g"},
    {"att.w0", "attn.w_lora.lora.2.bias", kVector},
    {"att.w1", "attn.w_lora.lora.0.weight", kTransposed},
    {"att.w2", "attn.w_lora.lora.2.weight", kTransposed},
    {"att.a0", "attn.a_lora.lora.2.bias", kVector},
    {"att.a1", "attn.a_lora.lora.0.weight", kTransposed},
    {"att.a2", "attn.a_lora.lora.2.weight", kTransposed},
    {"att.v0", "attn.v_lora.lora.2.bias", kVector, 0, kNothing},
    {"att.v1", "attn.v_lora.lora.0.weight", kTransposed, 0, kNothing},
    {"att.v2", "attn.v_lora.lora.2.weight", kTransposed, 0, kNothing},
    {"att.g1", "attn.g_lora.lora.0.weight", kTransposed},
    {"att.g2", "attn.g_lora.lora.2.weight", kTransposed},
    {"att.k_k", "attn.k_k", kVector},
    {"att.k_a", "attn.k_a", kVector},
    {"att.r_k", "attn.r_k"},
    {"att.receptance.weight", "attn.r_proj.weight"},
    {"att.key.weight", "attn.k_proj.weight"},
    {"att.value.weight", "attn.v_proj.weight"},
    {"att.output.weight", "attn.o_proj.weight"},
    {"att.ln_x.weight", "attn.g_norm.weight"},
    {"att.ln_x.bias", "attn.g_norm.bias"},
    {"ffn.x_k", "ffn.x_k", kVector},
    {"ffn.key.weight", "ffn.key.weight"},
    {"ffn.value.weight", "ffn.value.weight"},
};
// Earlier versions of flash-linear-attention kept the mixes in one tensor.
constexpr NameRow kEarlierMixes[] = {
    {"att.x_r", "attn.x_x", kPart, 0}, {"att.x_w", "attn.x_x", kPart, 1},
    {"att.x_k", "attn.x_x", kPart, 2}, {"att.x_v", "attn.x_x", kPart, 3},
    {"att.x_a", "attn.x_x", kPart, 4}, {"att.x_g", "attn.x_x", kPart, 5},
};

// llama.cpp's names. It expects value residuals in block 0 too and does not use them.
constexpr NameRow kGgufModel[] = {
    {"emb.weight", "token_embd.weight"},
    {"blocks.0.ln0.weight", "token_embd_norm.weight"},
    {"blocks.0.ln0.bias", "token_embd_norm.bias"},
    {"ln_out.weight", "output_norm.weight"},
    {"ln_out.bias", "output_norm.bias"},
    {"head.weight", "output.weight"},
};
constexpr NameRow kGgufBlocks[] = {
    {"ln1.weight", "attn_norm.weight"},
    {"ln1.bias", "attn_norm.bias"},
    {"ln2.weight", "attn_norm_2.weight"},
    {"ln2.bias", "attn_norm_2.bias"},
    {"att.x_r", "time_mix_lerp_fused.weight", kPart, 0},
    {"att.x_w", "time_mix_lerp_fused.weight", kPart, 1},
    {"att.x_k", "time_mix_lerp_fused.weight", kPart, 2},
    {"att.x_v", "time_mix_lerp_fused.weight", kPart, 3},
    {"att.x_a", "time_mix_lerp_fused.weight", kPart, 4},
    {"att.x_g", "time_mix_lerp_fused.weight", kPart, 5},
    {"att.w0", "time_mix_w0.weight", kVector},
    {"att.w1", "time_mix_w1.weight", kTransposed},
    {"att.w2", "time_mix_w2.weight", kTransposed},
    {"att.a0", "time_mix_a0.weight", kVector},
    {"att.a1", "time_mix_a1.weight", kTransposed},
    {"att.a2", "time_mix_a2.weight", kTransposed},
    {"att.v0", "time_mix_v0.weight", kVector, 0, "att.a0"},
    {"att.v1", "time_mix_v1.weight", kTransposed, 0, "att.a1"},
    {"att.v2", "time_mix_v2.weight", kTransposed, 0, "att.a2"},
    {"att.g1", "time_mix_g1.weight", kTransposed},
    {"att.g2", "time_mix_g2.weight", kTransposed},
    {"att.k_k", "time_mix_k_k.weight", kVector},
    {"att.k_a", "time_mix_k_a.weight", kVector},
    {"att.r_k", "time_mix_r_k.weight", kHeads},
    {"att.receptance.weight", "time_mix_receptance.weight"},
    {"att.key.weight", "time_mix_key.weight"},
    {"att.value.weight", "time_mix_value.weight"},
    {"att.output.weight", "time_mix_output.weight"},
    {"att.ln_x.weight", "time_mix_ln.weight"},
    {"att.ln_x.bias", "time_mix_ln.bias"},
    {"ffn.x_k", "channel_mix_lerp_k.weight", kVector},
    {"ffn.key.weight", "channel_mix_key.weight"},
    {"ffn.value.weight", "channel_mix_value.weight"},
};
constexpr std::string_view kGgufWide[] = {"att.w1", "att.w2"};
constexpr std::string_view kHeadSizeKey = "rwkv7.wkv.head_size";

// The width of the pair that stands for the values' in a model of one block, which has none.
std::int64_t value_rank(const ModelConfig& config) {
  const Sizes size(config);
  return config.n_layer > 1 ? size.value : size.iclr;
}

nlohmann::ordered_json describe_hugging_face(const ModelConfig& config, const TensorFile&) {
  const Sizes size(config);
  return {{"architectures", {"RWKV7ForCausalLM"}},
          {"model_type", "rwkv7"},
          {"vocab_size", config.vocab_size},
          {"hidden_size", size.C},
          {"num_hidden_layers", config.n_layer},
          {"head_dim", size.N},
          {"num_heads", size.H},
          {"intermediate_size", size.F},
          {"hidden_ratio", static_cast<double>(size.F) / static_cast<double>(size.C)},
          {"decay_low_rank_dim", size.decay},
          {"a_low_rank_dim", size.iclr},
          {"v_low_rank_dim", value_rank(config)},
          {"gate_low_rank_dim", size.gate},
          {"hidden_act", "sqrelu"},
          {"norm_eps", 1e-5},
          {"norm_bias", true},
          {"norm_first", true},
          {"fuse_norm", false},
          {"bos_token_id", 0},
          {"eos_token_id", 0},
          {"pad_token_id", 0},
          {"tie_word_embeddings", false},
          {"use_cache", true}};
}

nlohmann::ordered_json describe_gguf(const ModelConfig& config, const TensorFile&) {
  const Sizes size(config);
  return {{"general.architecture", "rwkv7"},
          {"rwkv7.context_length", 1048576},
          {"rwkv7.embedding_length", size.C},
          {"rwkv7.block_count", config.n_layer},
          {"rwkv7.feed_forward_length", size.F},
          {"rwkv7.vocab_size", config.vocab_size},
          {"rwkv7.attention.head_count", 0},
          {"rwkv7.attention.layer_norm_epsilon", 1e-5},
          {std::string(kHeadSizeKey), size.N},
          {"rwkv7.attention.decay_lora_rank", size.decay},
          {"rwkv7.attention.iclr_lora_rank", size.iclr},
          {"rwkv7.attention.value_residual_mix_lora_rank", value_rank(config)},
          {"rwkv7.attention.gate_lora_rank", size.gate}};
}

constexpr Naming kNamings[] = {
    {NamingUse::kHuggingFace, "model.layers.", kHuggingFaceModel, kHuggingFaceBlocks,
     describe_hugging_face},
    {NamingUse::kReadOnly, "model.layers.", {}, kEarlierMixes},
    {NamingUse::kGguf, "blk.", kGgufModel, kGgufBlocks, describe_gguf, kHeadSizeKey, kGgufWide},
};

}  // namespace

bool recognizes(std::span<const TensorView> tensors) { return rwkv_version(tensors) == "7"; }

std::span<const Naming> namings() { return kNamings; }

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
