#include "rwkvx/study/flops.h"

namespace rwkvx {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

// One site of the shift.
ModuleCost shift_cost(const ModelConfig& config) {
  const auto& s = config.shift;
  const std::int64_t C = config.n_embd, K = s.kernel, F = s.features();
  ModuleCost cost{"positional shift and gate"};
  if (s.has_conv()) {
    cost.parameters += K * C + K * F;
    // K taps with their sum, and the position's factor of each tap.
    cost.elementwise += real(2 * K - 1) * real(C) + (F > 0 ? real(K) * real(C) + real(K) : 0);
  }
  cost.elementwise += real(C);  // onto the input
  const auto form = s.gate_form();
  if (form == "one") return cost;
  cost.elementwise += real(C);  // gate times shift
  std::int64_t gates = C;
  if (form == "diag") {
    cost.parameters += 2 * C;
    cost.elementwise += 4 * real(C);
  } else if (form == "lowrank") {
    cost.parameters += 2 * s.gate_rank * C;
    cost.matrix += 4 * real(s.gate_rank) * real(C);
    cost.elementwise += real(C);
  } else {
    gates = form == "group" ? s.gate_groups : 1;
    cost.parameters += gates * C;
    cost.matrix += 2 * real(gates) * real(C);
    cost.elementwise += real(gates);
  }
  cost.parameters += gates;
  cost.elementwise += 3 * real(gates);  // logistic: exp, addition, division
  return cost;
}

}  // namespace

std::int64_t ModelCost::parameters() const {
  std::int64_t sum = 0;
  for (const auto& module : modules) sum += module.parameters;
  return sum;
}

double ModelCost::matrix() const {
  double sum = 0;
  for (const auto& module : modules) sum += module.matrix;
  return sum;
}

double ModelCost::elementwise() const {
  double sum = 0;
  for (const auto& module : modules) sum += module.elementwise;
  return sum;
}

ModelCost count_cost(const ModelConfig& config) {
  const std::int64_t L = config.n_layer, C = config.n_embd, A = config.att_channels(),
                     F = config.ffn_channels(), V = config.vocab_size;
  const auto& s = config.shift;
  const std::int64_t sites = (s.at_att() ? L : 0) + (s.at_ffn() ? L : 0);
  ModelCost cost;
  cost.modules.push_back({"embedding", V * C});
  const std::int64_t norms = 2 * L + 2;
  // Mean, deviation, scale and offset: two passes of sums, a difference, a product, an affine map.
  cost.modules.push_back({"layer norms", norms * 2 * C, 0, real(norms) * (7 * real(C) + 4)});
  // Three token mixes of 4 operations, WKV with two exponentials for the output and two for the
  // state (8 + 8 and a division), the receptance's logistic and product; the residual sum.
  cost.modules.push_back({"time mix", L * (2 * A + 3 * C + 4 * A * C), real(L) * 8 * real(A * C),
                          real(L) * (12 * real(C) + 25 * real(A) + 4 * real(A) + real(C))});
  // Two token mixes, squared ReLU, the receptance's logistic and product; the residual sum.
  cost.modules.push_back({"channel mix", L * (2 * C + 2 * F * C + C * C),
                          real(L) * (4 * real(F * C) + 2 * real(C * C)),
                          real(L) * (8 * real(C) + 2 * real(F) + 4 * real(C) + real(C))});
  if (sites > 0) {
    auto shift = shift_cost(config);
    shift.parameters *= sites;
    shift.matrix *= real(sites);
    shift.elementwise *= real(sites);
    cost.modules.push_back(shift);
    cost.matrix_per_position = real(sites) * 2 * real(s.kernel) * real(s.features());
  }
  cost.modules.push_back({"head", V * C, 2 * real(V * C), 0});
  cost.state_floats = L * (2 * C + 3 * A) + sites * s.history() * C;
  return cost;
}

}  // namespace rwkvx
