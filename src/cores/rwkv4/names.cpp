#include "cores/rwkv4/names.h"

#include <nlohmann/json.hpp>

#include "cores/shift/layout.h"
#include "rwkvx/cores/names.h"

namespace rwkvx::rwkv4 {

namespace {

// The models of the transformers library, RwkvForCausalLM.
constexpr NameRow kModel[] = {{"emb.weight", "rwkv.embeddings.weight"},
                              {"blocks.0.ln0.weight", "rwkv.blocks.0.pre_ln.weight"},
                              {"blocks.0.ln0.bias", "rwkv.blocks.0.pre_ln.bias"},
                              {"ln_out.weight", "rwkv.ln_out.weight"},
                              {"ln_out.bias", "rwkv.ln_out.bias"},
                              {"head.weight", "head.weight"}};
constexpr NameRow kBlocks[] = {
    {"ln1.weight", "ln1.weight"},
    {"ln1.bias", "ln1.bias"},
    {"ln2.weight", "ln2.weight"},
    {"ln2.bias", "ln2.bias"},
    {"att.time_decay", "attention.time_decay"},
    {"att.time_first", "attention.time_first"},
    {"att.time_mix_k", "attention.time_mix_key"},
    {"att.time_mix_v", "attention.time_mix_value"},
    {"att.time_mix_r", "attention.time_mix_receptance"},
    {"att.key.weight", "attention.key.weight"},
    {"att.value.weight", "attention.value.weight"},
    {"att.receptance.weight", "attention.receptance.weight"},
    {"att.output.weight", "attention.output.weight"},
    {"ffn.time_mix_k", "feed_forward.time_mix_key"},
    {"ffn.time_mix_r", "feed_forward.time_mix_receptance"},
    {"ffn.key.weight", "feed_forward.key.weight"},
    {"ffn.receptance.weight", "feed_forward.receptance.weight"},
    {"ffn.value.weight", "feed_forward.value.weight"},
};
nlohmann::ordered_json describe(const ModelConfig& config, const TensorFile& file) {
  // Half precision needs the residual halved every few layers, which that library does itself.
  const bool half = file.at("emb.weight").dtype == DType::kF16;
  return {{"architectures", {"RwkvForCausalLM"}},
          {"model_type", "rwkv"},
          {"vocab_size", config.vocab_size},
          {"context_length", 1024},
          {"hidden_size", config.n_embd},
          {"num_hidden_layers", config.n_layer},
          {"attention_hidden_size", config.att_channels()},
          {"intermediate_size", config.ffn_channels()},
          {"layer_norm_epsilon", 1e-5},
          {"bos_token_id", 0},
          {"eos_token_id", 0},
          {"rescale_every", half ? 6 : 0},
          {"tie_word_embeddings", false},
          {"use_cache", true}};
}

constexpr Naming kNamings[] = {
    {NamingUse::kHuggingFace, "rwkv.blocks.", kModel, kBlocks, describe}};

}  // namespace

bool recognizes(std::span<const TensorView> tensors) { return rwkv_version(tensors) == "4"; }

std::span<const Naming> namings() { return kNamings; }

void infer(const TensorFile& file, ModelConfig& config) {
  config.dim_att = tensor_dimension(file, "blocks.0.att.key.weight", 0, 2);
  config.dim_ffn = tensor_dimension(file, "blocks.0.ffn.key.weight", 0, 2);
  infer_shift(file, "blocks.0.att.shift.", "blocks.0.ffn.shift.", config);
}

}  // namespace rwkvx::rwkv4
