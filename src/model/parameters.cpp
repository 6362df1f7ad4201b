#include "rwkvx/model/parameters.h"

#include <cmath>
#include <cstdio>

namespace rwkvx {
namespace {

class Table {
 public:
  explicit Table(const ModelConfig& config) : config_(config) {}

  std::vector<ParameterInfo> build() {
    const std::int64_t C = config_.n_embd, A = config_.att_channels(), F = config_.ffn_channels(),
                       V = config_.vocab_size, L = config_.n_layer;
    add("emb.weight", {V, C}, Role::kMatrix, Init::kUniform);
    for (layer_ = 0; layer_ < L; ++layer_) {
      // 0 in the first block, 1 in the last; 1 in the first, towards 0 in the last.
      const double rising = L > 1 ? static_cast<double>(layer_) / static_cast<double>(L - 1) : 0;
      const double falling = 1 - static_cast<double>(layer_) / static_cast<double>(L);
      prefix_ = "blocks." + std::to_string(layer_) + ".";
      if (layer_ == 0) norm("ln0");
      norm("ln1");
      norm("ln2");
      if (config_.shift.at_att()) shift("att.shift.");
      add("att.time_decay", {A}, Role::kDecay, Init::kDecay, 0, 0.7 + 1.3 * rising);
      add("att.time_first", {A}, Role::kBonus, Init::kBonus);
      add("att.time_mix_k", {1, 1, C}, Role::kMix, Init::kMix, 0, falling);
      add("att.time_mix_v", {1, 1, C}, Role::kMix, Init::kMix, 0.3 * rising, falling);
      add("att.time_mix_r", {1, 1, C}, Role::kMix, Init::kMix, 0, 0.5 * falling);
      zeros("att.key.weight", A, C);
      orthogonal("att.value.weight", A, C);
      zeros("att.receptance.weight", A, C);
      zeros("att.output.weight", C, A);
      if (config_.shift.at_ffn()) shift("ffn.shift.");
      add("ffn.time_mix_k", {1, 1, C}, Role::kMix, Init::kMix, 0, falling);
      add("ffn.time_mix_r", {1, 1, C}, Role::kMix, Init::kMix, 0, falling);
      orthogonal("ffn.key.weight", F, C);
      zeros("ffn.receptance.weight", C, C);
      zeros("ffn.value.weight", C, F);
    }
    layer_ = 0;
    prefix_ = "";
    norm("ln_out");
    const double gain =
        V > C ? 0.5 * std::sqrt(static_cast<double>(V) / static_cast<double>(C)) : 0.5;
    add("head.weight", {V, C}, Role::kMatrix, Init::kOrthogonal, gain);
    return std::move(rows_);
  }

 private:
  void add(const std::string& name, std::vector<std::int64_t> shape, Role role, Init init,
           double value = 0, double power = 0) {
    rows_.push_back({prefix_ + name, std::move(shape), role, init, value, power, layer_});
  }
  void norm(const std::string& name) {
    add(name + ".weight", {config_.n_embd}, Role::kNorm, Init::kConstant, 1);
    add(name + ".bias", {config_.n_embd}, Role::kNorm, Init::kConstant, 0);
  }
  void zeros(const std::string& name, std::int64_t out, std::int64_t in) {
    add(name, {out, in}, Role::kMatrix, Init::kConstant, 0);
  }
  void orthogonal(const std::string& name, std::int64_t out, std::int64_t in) {
    const double gain =
        out > in ? std::sqrt(static_cast<double>(out) / static_cast<double>(in)) : 1;
    add(name, {out, in}, Role::kMatrix, Init::kOrthogonal, gain);
  }
  void shift(const std::string& site) {
    const auto& s = config_.shift;
    const std::int64_t C = config_.n_embd;
    const auto zero = [&](const char* name, std::vector<std::int64_t> shape) {
      add(site + name, std::move(shape), Role::kShift, Init::kConstant, 0);
    };
    if (s.has_conv()) zero("conv", {s.kernel, C});
    if (s.features() > 0) zero("pos_u", {s.kernel, s.features()});
    const std::string form = s.gate_form();
    if (form == "one") return;
    std::int64_t gates = C;
    if (form == "diag") {
      zero("gate_x", {C});
      zero("gate_s", {C});
    } else if (form == "lowrank") {
      add(site + "gate_d", {s.gate_rank, C}, Role::kShift, Init::kNormal,
          1 / std::sqrt(static_cast<double>(C)));
      zero("gate_u", {C, s.gate_rank});
    } else {
      gates = form == "group" ? s.gate_groups : 1;
      zero("gate_w", {gates, C});
    }
    const double bias = s.has_conv() ? s.gate_bias : -4;
    add(site + "gate_b", {gates}, Role::kShift, Init::kConstant, bias);
  }

  const ModelConfig& config_;
  std::string prefix_;
  std::int64_t layer_ = 0;
  std::vector<ParameterInfo> rows_;
};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

}  // namespace

std::int64_t ParameterInfo::count() const {
  std::int64_t product = 1;
  for (const auto size : shape) product *= size;
  return product;
}

std::string ParameterInfo::init_text() const {
  switch (init) {
    case Init::kConstant:
      return value == 0 ? "zeros" : value == 1 ? "ones" : number(value);
    case Init::kUniform:
      return "uniform, +- learning rate";
    case Init::kOrthogonal:
      return "orthogonal, gain " + number(value);
    case Init::kNormal:
      return "normal, deviation " + number(value);
    case Init::kDecay:
      return "-5 to 3, power " + number(power);
    case Init::kBonus:
      return "ln 0.3 - 0.5, + 0, + 0.5 in turn";
    case Init::kMix:
      return "(c/C)^" + number(power) + (value == 0 ? "" : " + " + number(value));
  }
  return "";
}

std::vector<ParameterInfo> describe_parameters(const ModelConfig& config) {
  return Table(config).build();
}

std::int64_t parameter_count(const ModelConfig& config) {
  std::int64_t sum = 0;
  for (const auto& row : describe_parameters(config)) sum += row.count();
  return sum;
}

}  // namespace rwkvx
