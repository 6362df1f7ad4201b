#include "cores/rwkv4/parameters.h"

#include <algorithm>
#include <cmath>

namespace rwkvx::rwkv4 {
namespace {

constexpr std::string_view kTimeMix = "time mix", kChannelMix = "channel mix";

double real(std::int64_t value) { return static_cast<double>(value); }

// The initial values of RWKV-LM, RWKV-v4neo/src/model.py.

// time_decay: -5 + 8 (c / (A-1))^(0.7 + 1.3 l/(L-1)).
Start decay_start(double power) {
  return starts_by_channel("-5 to 3, power " + start_number(power),
                           [power](std::int64_t c, std::int64_t channels) {
                             const double last = std::max(real(channels) - 1, 1.0);
                             return std::pow(real(c) / last, power) * 8 - 5;
                           });
}
// time_first: ln 0.3 + ((c + 1) mod 3 - 1) / 2.
Start bonus_start() {
  return starts_by_channel("ln 0.3 - 0.5, + 0, + 0.5 in turn", [](std::int64_t c, std::int64_t) {
    return std::log(0.3) + 0.5 * real((c + 1) % 3 - 1);
  });
}
// (c / C)^power + more.
Start mix_start(double power, double more = 0) {
  return starts_by_channel(
      "(c/C)^" + start_number(power) + (more == 0 ? "" : " + " + start_number(more)),
      [power, more](std::int64_t c, std::int64_t channels) {
        return std::pow(real(c) / real(channels), power) + more;
      });
}

Start orthogonal_start(std::int64_t out, std::int64_t in) {
  return starts_orthogonal(out > in ? std::sqrt(real(out) / real(in)) : 1);
}

}  // namespace

std::vector<ParameterRow> parameters(const ModelConfig& config, std::int64_t layer) {
  const std::int64_t C = config.n_embd, A = config.att_channels(), F = config.ffn_channels(),
                     L = config.n_layer;
  // 0 in the first block, 1 in the last; 1 in the first, towards 0 in the last.
  const double rising = L > 1 ? real(layer) / real(L - 1) : 0;
  const double falling = 1 - real(layer) / real(L);
  std::vector<ParameterRow> rows;
  const auto mix = [&](const char* name, std::string_view part, double power, double more = 0) {
    rows.push_back({name, {1, 1, C}, part, mix_start(power, more)});
  };
  add_norm_rows(rows, "ln1", C);
  add_norm_rows(rows, "ln2", C);
  if (config.shift.at_first()) add_shift_rows(config, "att.shift.", rows);
  rows.push_back({"att.time_decay",
                  {A},
                  kTimeMix,
                  decay_start(0.7 + 1.3 * rising),
                  false,
                  2,
                  RateGroup::kLayerwise});
  rows.push_back({"att.time_first", {A}, kTimeMix, bonus_start(), false, 3, RateGroup::kLayerwise});
  mix("att.time_mix_k", kTimeMix, falling);
  mix("att.time_mix_v", kTimeMix, falling, 0.3 * rising);
  mix("att.time_mix_r", kTimeMix, 0.5 * falling);
  rows.push_back(matrix_row("att.key.weight", A, C, kTimeMix, starts_at(0)));
  rows.push_back(matrix_row("att.value.weight", A, C, kTimeMix, orthogonal_start(A, C)));
  rows.push_back(matrix_row("att.receptance.weight", A, C, kTimeMix, starts_at(0)));
  rows.push_back(matrix_row("att.output.weight", C, A, kTimeMix, starts_at(0)));
  if (config.shift.at_second()) add_shift_rows(config, "ffn.shift.", rows);
  mix("ffn.time_mix_k", kChannelMix, falling);
  mix("ffn.time_mix_r", kChannelMix, falling);
  rows.push_back(matrix_row("ffn.key.weight", F, C, kChannelMix, orthogonal_start(F, C)));
  rows.push_back(matrix_row("ffn.receptance.weight", C, C, kChannelMix, starts_at(0)));
  rows.push_back(matrix_row("ffn.value.weight", C, F, kChannelMix, starts_at(0)));
  return rows;
}

std::vector<StateRow> state(const ModelConfig& config) {
  const std::int64_t C = config.n_embd, A = config.att_channels();
  std::vector<StateRow> rows;
  rows.push_back({"att.x", {C}});  // the last input of the time mix, shifted
  if (config.shift.at_first()) rows.push_back(shift_ring_row(config, "att.ring"));
  rows.push_back({"att.wkv", {3, A}, {0, 0, -1e30f}});  // p, q, o: see modules/wkv.h
  rows.push_back({"ffn.x", {C}});
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
  const double C = real(config.n_embd), A = real(config.att_channels()),
               F = real(config.ffn_channels());
  std::vector<CostRow> rows;
  // Mean, deviation, scale and offset: two passes of sums, a difference, a product, an affine map.
  rows.push_back({kNormPart, 2 * (7 * C + 4)});
  // Three token mixes of 4 operations, WKV with two exponentials for the output and two for the
  // state (8 + 8 and a division), the receptance's logistic and product; the residual sum.
  rows.push_back({kTimeMix, 12 * C + 25 * A + 4 * A + C});
  // Two token mixes, squared ReLU, the receptance's logistic and product; the residual sum.
  rows.push_back({kChannelMix, 8 * C + 2 * F + 4 * C + C});
  for (const bool site : {config.shift.at_first(), config.shift.at_second()})
    if (site) rows.push_back(shift_cost(config));
  return rows;
}

}  // namespace rwkvx::rwkv4
