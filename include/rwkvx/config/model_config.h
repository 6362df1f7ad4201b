// The shape of a model and the switches of the enhancement.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>

#include "rwkvx/base/field.h"

namespace rwkvx {

// What may stand before the mixers: the gated positional shift, or nothing.
enum class ShiftKind { kGatedPositional, kNone };
constexpr std::string_view enum_names(ShiftKind) { return "gps|none"; }

// Before which mixers: both, the first half of a block alone, the second alone.
enum class ShiftSites { kBoth, kFirst, kSecond };
constexpr std::string_view enum_names(ShiftSites) { return "af|a|f"; }

// The forms of the gate; what each does is in cores/shift/gate_forms.cpp.
enum class Gate { kDiag, kOne, kScalar, kGroup, kLowrank };
constexpr std::string_view enum_names(Gate) { return "diag|one|scalar|group|lowrank"; }

// The position features; see cores/shift/positions.cpp.
enum class Position { kExp, kSin, kNone };
constexpr std::string_view enum_names(Position) { return "exp|sin|none"; }

// What is done to the convolution's sum.
enum class Activation { kNone, kSilu };
constexpr std::string_view enum_names(Activation) { return "none|silu"; }

enum class Ablation { kNone, kConvOnly, kGateOnly };
constexpr std::string_view enum_names(Ablation) { return "none|conv_only|gate_only"; }

// The gated positional shift in front of the mixers, inspired by arXiv 2502.15485. With kind "none"
// the model is its core alone.
struct ShiftConfig {
  ShiftKind kind = ShiftKind::kGatedPositional;
  ShiftSites sites = ShiftSites::kBoth;
  std::int64_t kernel = 4;
  Gate gate = Gate::kDiag;
  std::int64_t gate_groups = 8;
  std::int64_t gate_rank = 8;
  double gate_bias = 2.0;
  Position pos = Position::kExp;
  Ablation ablation = Ablation::kNone;
  std::int64_t dilation = 1;
  Activation activation = Activation::kNone;

  static constexpr auto fields() {
    using C = ShiftConfig;
    return std::tuple{
        Field<C, ShiftKind>{"kind", &C::kind, "gated positional shift, or none: the core alone"},
        Field<C, ShiftSites>{"sites", &C::sites,
                             "before the time mix (a), the channel mix (f), or both (af)"},
        Field<C, std::int64_t>{"kernel", &C::kernel,
                               "taps of the convolution: the current token and kernel-1 before it",
                               1, 64},
        Field<C, Gate>{"gate", &C::gate,
                       "form of the gate; one = always open, the convolution alone"},
        Field<C, std::int64_t>{"gate_groups", &C::gate_groups,
                               "gate values per token if gate is group", 1, 65536},
        Field<C, std::int64_t>{"gate_rank", &C::gate_rank, "inner width if gate is lowrank", 1,
                               65536},
        Field<C, double>{"gate_bias", &C::gate_bias,
                         "initial gate bias; 2 starts it open (gate_only always starts at -4)", -20,
                         20},
        Field<C, Position>{"pos", &C::pos, "position features that modulate the taps"},
        Field<C, Ablation>{
            "ablation", &C::ablation,
            "conv_only: no gate; gate_only: a gated copy of the previous token, no taps"},
        added(Field<C, std::int64_t>{"dilation", &C::dilation, "tokens from one tap to the next", 1,
                                     64}),
        added(Field<C, Activation>{"activation", &C::activation,
                                   "of the convolution's sum: none, or silu"}),
    };
  }
  bool enabled() const { return kind == ShiftKind::kGatedPositional; }
  // Before the first half of a block (the time mix), and before the second (the channel mix).
  bool at_first() const { return enabled() && sites != ShiftSites::kSecond; }
  bool at_second() const { return enabled() && sites != ShiftSites::kFirst; }
  bool has_conv() const { return ablation != Ablation::kGateOnly; }
  // The gate's form after the ablation.
  Gate gate_form() const { return ablation == Ablation::kConvOnly ? Gate::kOne : gate; }
  // Raw inputs a site must remember: the ring's rows.
  std::int64_t history() const { return has_conv() ? (kernel - 1) * dilation : 1; }
  // The convolution's sum goes through SiLU.
  bool has_silu() const { return has_conv() && activation == Activation::kSilu; }
};

struct ModelConfig {
  std::string core = "rwkv4";
  std::int64_t n_layer = 12;
  std::int64_t n_embd = 768;
  std::int64_t vocab_size = 0;
  std::int64_t dim_att = 0;
  std::int64_t dim_ffn = 0;
  std::int64_t head_size = 0;
  std::int64_t decay_rank = 0;
  std::int64_t iclr_rank = 0;
  std::int64_t value_rank = 0;
  std::int64_t gate_rank = 0;
  ShiftConfig shift;

  static constexpr auto fields() {
    using C = ModelConfig;
    return std::tuple{
        added(Field<C, std::string>{"core", &C::core, "the recurrent blocks: rwkv4 or rwkv7"}),
        Field<C, std::int64_t>{"n_layer", &C::n_layer, "number of blocks", 1, 1000},
        Field<C, std::int64_t>{"n_embd", &C::n_embd, "channels of the residual stream", 1, 65536},
        Field<C, std::int64_t>{"vocab_size", &C::vocab_size,
                               "rows of the embedding and the head; 0 = the tokenizer's", 0,
                               1 << 24},
        Field<C, std::int64_t>{"dim_att", &C::dim_att,
                               "rwkv4: channels of the time mix; 0 = n_embd", 0, 65536},
        Field<C, std::int64_t>{"dim_ffn", &C::dim_ffn,
                               "hidden channels of the channel mix; 0 = 4 n_embd", 0, 1 << 20},
        added(Field<C, std::int64_t>{"head_size", &C::head_size,
                                     "rwkv7: channels of a head; 0 = 64", 0, 256}),
        added(Field<C, std::int64_t>{"decay_rank", &C::decay_rank,
                                     "rwkv7: inner width of what finds the decay; 0 = by n_embd", 0,
                                     65536}),
        added(Field<C, std::int64_t>{"iclr_rank", &C::iclr_rank,
                                     "rwkv7: the same for the in-context learning rate", 0, 65536}),
        added(Field<C, std::int64_t>{"value_rank", &C::value_rank,
                                     "rwkv7: the same for the share of the first block's values", 0,
                                     65536}),
        added(Field<C, std::int64_t>{"gate_rank", &C::gate_rank,
                                     "rwkv7: the same for the output's gate", 0, 65536}),
        Field<C, ShiftConfig>{"shift", &C::shift, "the gated positional shift"},
    };
  }
  // Throws ConfigError where settings contradict each other, whatever the core.
  void check(const std::string& where) const;
  std::int64_t att_channels() const { return dim_att > 0 ? dim_att : n_embd; }
  std::int64_t ffn_channels() const { return dim_ffn > 0 ? dim_ffn : 4 * n_embd; }
};

RWKVX_SETTINGS_FUNCTIONS(extern, ModelConfig)

}  // namespace rwkvx
