// The shape of a model and the switches of the enhancement.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>

#include "rwkvx/base/field.h"

namespace rwkvx {

// The gated positional shift in front of the mixers, inspired by arXiv 2502.15485. With kind "none"
// the model is plain RWKV-4.
struct ShiftConfig {
  std::string kind = "gps";
  std::string sites = "af";
  std::int64_t kernel = 4;
  std::string gate = "diag";
  std::int64_t gate_groups = 8;
  std::int64_t gate_rank = 8;
  double gate_bias = 2.0;
  std::string pos = "exp";
  std::string ablation = "none";

  static constexpr auto fields() {
    using C = ShiftConfig;
    return std::tuple{
        choice<C>("kind", &C::kind, "gated positional shift, or none: the RWKV-4 baseline",
                  "gps|none"),
        choice<C>("sites", &C::sites, "before the time mix (a), the channel mix (f), or both (af)",
                  "af|a|f"),
        Field<C, std::int64_t>{"kernel", &C::kernel,
                               "taps of the convolution: the current token and kernel-1 before it",
                               1, 64},
        choice<C>("gate", &C::gate, "form of the gate; one: always open, the convolution alone",
                  "diag|one|scalar|group|lowrank"),
        Field<C, std::int64_t>{"gate_groups", &C::gate_groups,
                               "gate values per token where gate is group", 1, 65536},
        Field<C, std::int64_t>{"gate_rank", &C::gate_rank, "inner width where gate is lowrank", 1,
                               65536},
        Field<C, double>{"gate_bias", &C::gate_bias,
                         "initial gate bias; 2 starts it open (gate_only always starts at -4)", -20,
                         20},
        choice<C>("pos", &C::pos, "position features that modulate the taps", "exp|sin|none"),
        choice<C>("ablation", &C::ablation,
                  "conv_only: no gate; gate_only: a gated copy of the previous token, no taps",
                  "none|conv_only|gate_only"),
    };
  }
  bool enabled() const { return kind == "gps"; }
  bool at_att() const { return enabled() && sites != "f"; }
  bool at_ffn() const { return enabled() && sites != "a"; }
  bool has_conv() const { return ablation != "gate_only"; }
  // The gate's form after the ablation: "one" has no parameters.
  std::string gate_form() const { return ablation == "conv_only" ? "one" : gate; }
  // Position features per token: 4 (exp), 8 (sin) or 0.
  std::int64_t features() const {
    return !has_conv() || pos == "none" ? 0 : (pos == "exp" ? 4 : 8);
  }
  // Raw inputs a site must remember: the ring's rows.
  std::int64_t history() const { return has_conv() ? kernel - 1 : 1; }
};

struct ModelConfig {
  std::int64_t n_layer = 12;
  std::int64_t n_embd = 768;
  std::int64_t vocab_size = 0;
  std::int64_t dim_att = 0;
  std::int64_t dim_ffn = 0;
  ShiftConfig shift;

  static constexpr auto fields() {
    using C = ModelConfig;
    return std::tuple{
        Field<C, std::int64_t>{"n_layer", &C::n_layer, "number of RWKV blocks", 1, 1000},
        Field<C, std::int64_t>{"n_embd", &C::n_embd, "channels of the residual stream", 1, 65536},
        Field<C, std::int64_t>{"vocab_size", &C::vocab_size,
                               "rows of the embedding and the head; 0: the tokenizer's", 0,
                               1 << 24},
        Field<C, std::int64_t>{"dim_att", &C::dim_att, "channels of the time mix; 0: n_embd", 0,
                               65536},
        Field<C, std::int64_t>{"dim_ffn", &C::dim_ffn,
                               "hidden channels of the channel mix; 0: 4 n_embd", 0, 1 << 20},
        Field<C, ShiftConfig>{"shift", &C::shift, "the enhancement and its switches"},
    };
  }
  // Throws ConfigError where settings contradict each other.
  void check(const std::string& where) const;
  std::int64_t att_channels() const { return dim_att > 0 ? dim_att : n_embd; }
  std::int64_t ffn_channels() const { return dim_ffn > 0 ? dim_ffn : 4 * n_embd; }
};

}  // namespace rwkvx
