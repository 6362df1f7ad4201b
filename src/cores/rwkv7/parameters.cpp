#include "cores/rwkv7/parameters.h"

#include <algorithm>
#include <cmath>

#include "rwkvx/base/error.h"

namespace rwkvx::rwkv7 {
namespace {

constexpr std::string_view kTimeMix = "time mix", kChannelMix = "channel mix";

double real(std::int64_t value) { return static_cast<double>(value); }

// Whole times 32, as near as can be to factor sqrt(C); halves go to the even number.
std::int64_t rank_of(std::int64_t set, double factor, std::int64_t C) {
  if (set > 0) return set;
  const auto blocks = static_cast<std::int64_t>(std::nearbyint(factor * std::sqrt(real(C)) / 32));
  return std::max<std::int64_t>(32, 32 * blocks);
}

// The initial values of RWKV-LM, RWKV-v7/train_temp/src/model.py.

// 1 - (c / C)^power: the share of the token before.
Start mix_start(double power) {
  return starts_by_channel("1 - (c/C)^" + start_number(power),
                           [power](std::int64_t c, std::int64_t channels) {
                             return 1 - std::pow(real(c) / real(channels), power);
                           });
}
// -0.5 to 0.5 over the channels.
double linear(std::int64_t c, std::int64_t channels) {
  return real(c) / std::max(real(channels) - 1, 1.0) - 0.5;
}
// -1 to 1 over the channels of each head, flat in the middle.
double zigzag(std::int64_t c, std::int64_t N) {
  const double half = std::max(real(N) - 1, 1.0) / 2, z = (real(c % N) - half) / half;
  return z * std::abs(z);
}
Start decay_start(double power, std::int64_t N) {
  return starts_by_channel("-5.5 to 0.5, power " + start_number(power) + ", + 2.5 zigzag",
                           [power, N](std::int64_t c, std::int64_t channels) {
                             const double last = std::max(real(channels) - 1, 1.0);
                             return -6 + 6 * std::pow(real(c) / last, power) + 0.5 +
                                    2.5 * zigzag(c, N);
                           });
}
Start rate_start(std::int64_t N) {
  return starts_by_channel("-0.39 to 0.01, + 0.3 zigzag",
                           [N](std::int64_t c, std::int64_t channels) {
                             return -0.19 + 0.3 * zigzag(c, N) + 0.4 * linear(c, channels);
                           });
}
// number - slope linear.
Start slope_start(double number, double slope) {
  return starts_by_channel(
      start_number(number + slope / 2) + " to " + start_number(number - slope / 2),
      [number, slope](std::int64_t c, std::int64_t channels) {
        return number - slope * linear(c, channels);
      });
}
Start second_of_pair_start(std::int64_t in, std::int64_t out) {
  return starts_orthogonal(0.1 * (in > out ? std::sqrt(real(in) / real(out)) : 1));
}

}  // namespace

Sizes::Sizes(const ModelConfig& config)
    : C(config.n_embd),
      F(config.ffn_channels()),
      H(0),
      N(config.head_size > 0 ? config.head_size : 64),
      decay(rank_of(config.decay_rank, 2.5, C)),
      iclr(rank_of(config.iclr_rank, 2.5, C)),
      value(rank_of(config.value_rank, 1.7, C)),
      gate(rank_of(config.gate_rank, 5, C)) {
  H = C / N;
}

void check(const ModelConfig& config, const std::string& where) {
  const Sizes size(config);
  if (config.dim_att != 0 && config.dim_att != size.C)
    throw ConfigError(where + ".dim_att", "expected 0 or n_embd = " + std::to_string(size.C) +
                                              " for the core rwkv7, got " +
                                              std::to_string(config.dim_att));
  if (size.N % 8 != 0)
    throw ConfigError(where + ".head_size",
                      "expected a multiple of 8, got " + std::to_string(size.N));
  if (size.C % size.N != 0)
    throw ConfigError(where + ".n_embd",
                      "expected a multiple of head_size = " + std::to_string(size.N) + ", got " +
                          std::to_string(size.C));
}

std::vector<ParameterRow> parameters(const ModelConfig& config, std::int64_t layer) {
  const Sizes size(config);
  const std::int64_t C = size.C, N = size.N, L = config.n_layer;
  // 0 in the first block, 1 in the last; 1 in the first, towards 0 in the last.
  const double rising = L > 1 ? real(layer) / real(L - 1) : 0;
  const double falling = 1 - real(layer) / real(L);
  std::vector<ParameterRow> rows;
  const auto vector = [&](const char* name, std::string_view part, Start start) {
    rows.push_back({name, {1, 1, C}, part, std::move(start)});
  };
  // What a token's channels make of x through a narrow layer: bias + f(x first) second.
  const auto pair = [&](const std::string& name, std::int64_t rank) {
    rows.push_back(transposed_row("att." + name + "1", C, rank, kTimeMix, starts_at(0)));
    rows.push_back(
        transposed_row("att." + name + "2", rank, C, kTimeMix, second_of_pair_start(rank, C)));
  };
  const auto matrix = [&](const char* name, std::int64_t out, std::int64_t in,
                          std::string_view part, Start start) {
    rows.push_back(matrix_row(name, out, in, part, std::move(start)));
  };
  add_norm_rows(rows, "ln1", C);
  add_norm_rows(rows, "ln2", C);
  if (config.shift.at_first()) add_shift_rows(config, "att.shift.", rows);
  vector("att.x_r", kTimeMix, mix_start(0.2 * falling));
  vector("att.x_w", kTimeMix, mix_start(0.9 * falling));
  vector("att.x_k", kTimeMix, mix_start(0.7 * falling));
  vector("att.x_v", kTimeMix, mix_start(0.7 * falling));
  vector("att.x_a", kTimeMix, mix_start(0.9 * falling));
  vector("att.x_g", kTimeMix, mix_start(0.2 * falling));
  vector("att.w0", kTimeMix, decay_start(1 + std::pow(rising, 0.3), N));
  rows.back().rate = 2, rows.back().rate_group = RateGroup::kLayerwise;
  pair("w", size.decay);
  vector("att.a0", kTimeMix, rate_start(N));
  pair("a", size.iclr);
  if (layer > 0) {
    vector("att.v0", kTimeMix, slope_start(0.73, 0.4));
    pair("v", size.value);
  }
  pair("g", size.gate);
  vector("att.k_k", kTimeMix, slope_start(0.71, 0.1));
  vector("att.k_a", kTimeMix, starts_at(1.02));
  rows.push_back({"att.r_k", {size.H, N}, kTimeMix, starts_at(-0.04)});
  matrix("att.receptance.weight", C, C, kTimeMix, starts_orthogonal(1));
  matrix("att.key.weight", C, C, kTimeMix, starts_orthogonal(0.1));
  matrix("att.value.weight", C, C, kTimeMix, starts_orthogonal(1));
  matrix("att.output.weight", C, C, kTimeMix, starts_at(0));
  rows.push_back(
      {"att.ln_x.weight", {C}, kNormPart, starts_at(std::pow((1 + real(layer)) / real(L), 0.7))});
  rows.push_back({"att.ln_x.bias", {C}, kNormPart, starts_at(0)});
  if (config.shift.at_second()) add_shift_rows(config, "ffn.shift.", rows);
  vector("ffn.x_k", kChannelMix, mix_start(std::pow(falling, 4)));
  matrix("ffn.key.weight", size.F, C, kChannelMix, starts_orthogonal(1));
  matrix("ffn.value.weight", C, size.F, kChannelMix, starts_at(0));
  return rows;
}

std::vector<StateRow> state(const ModelConfig& config) {
  const Sizes size(config);
  std::vector<StateRow> rows;
  rows.push_back({"att.x", {size.C}});  // the last input of the time mix, shifted
  if (config.shift.at_first()) rows.push_back(shift_ring_row(config, "att.ring"));
  rows.push_back({"att.wkv", {size.H, size.N, size.N}});  // of a head: (value, key)
  rows.push_back({"ffn.x", {size.C}});
  if (config.shift.at_second()) rows.push_back(shift_ring_row(config, "ffn.ring"));
  return rows;
}

StatePlaces::StatePlaces(const ModelConfig& config) {
  const auto rows = state(config);
  att = {state_index(rows, "att.x"), state_index(rows, "att.ring")};
  ffn = {state_index(rows, "ffn.x"), state_index(rows, "ffn.ring")};
  wkv = state_index(rows, "att.wkv");
}

std::vector<CostRow> cost(const ModelConfig& config) {
  const Sizes size(config);
  const double C = real(size.C), N = real(size.N), F = real(size.F);
  std::vector<CostRow> rows;
  // Mean, deviation, scale and offset: two passes of sums, a difference, a product, an affine map;
  // the same per head behind the recurrence.
  rows.push_back({kNormPart, 2 * (7 * C + 4) + 7 * C + 4 * C / N});
  // Six token mixes of 3 operations and their difference. Per channel: bias, logistic and
  // exponential of the decay (6), the learning rate (4), the value's share (7, not in the first
  // block, counted in all), the removal key and its norm (5), the key (4), the bonus (5), the gate
  // (2); tanh and logistic inside the pairs; the residual sum. Per number of the state: the removed
  // value (2), decay, removal and addition (5), the read (2).
  const double pairs = real(size.decay) + 4 * real(size.gate);
  rows.push_back({kTimeMix, 19 * C + 33 * C + pairs + C + 9 * C * N});
  rows.back().in_state = 9 * C * N;
  // A token mix, squared ReLU; the residual sum.
  rows.push_back({kChannelMix, 4 * C + 2 * F + C});
  for (const bool site : {config.shift.at_first(), config.shift.at_second()})
    if (site) rows.push_back(shift_cost(config));
  return rows;
}

}  // namespace rwkvx::rwkv7
