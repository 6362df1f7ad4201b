#include "cores/ema/ema_core.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/cores/step.h"
#include "rwkvx/kernels/activation.h"
#include "rwkvx/modules/block.h"
#include "rwkvx/ops/layer_norm.h"

namespace rwkvx::test {
namespace {

constexpr std::string_view kPart = "moving average";

std::vector<ParameterRow> table(const ModelConfig& config, std::int64_t) {
  const std::int64_t C = config.n_embd;
  std::vector<ParameterRow> rows;
  add_norm_rows(rows, "norm", C);
  rows.push_back({"ema.decay", {C}, kPart, starts_at(1), false, 2, RateGroup::kLayerwise});
  rows.push_back(matrix_row("ema.value.weight", C, C, kPart, starts_orthogonal(1)));
  rows.push_back(matrix_row("ema.output.weight", C, C, kPart, starts_at(0)));
  return rows;
}

std::vector<StateRow> state(const ModelConfig& config) { return {{"ema.mean", {config.n_embd}}}; }

std::vector<CostRow> cost(const ModelConfig& config) {
  const auto C = static_cast<double>(config.n_embd);
  return {{kNormPart, 7 * C + 4}, {kPart, 5 * C}};
}

class EmaBlock : public BlockImpl {
 public:
  EmaBlock(const ModelConfig& config, std::int64_t layer) : BlockImpl(table(config, layer)) {}

  at::Tensor forward(at::Tensor x, const BlockContext&, LayerState& state) override {
    const auto n = layer_norm(x, {parameter("norm.weight"), parameter("norm.bias")});
    const auto v = at::linear(n, parameter("ema.value.weight"));  // (B, T, C)
    const auto d = at::sigmoid(parameter("ema.decay"));           // (C)
    std::vector<at::Tensor> means;
    auto mean = state[0];  // (B, C)
    for (std::int64_t t = 0; t < x.size(1); ++t)
      means.push_back(mean = d * mean + (1 - d) * v.select(1, t));
    state[0] = mean.detach();
    return x + at::linear(at::stack(means, 1), parameter("ema.output.weight"));
  }
  at::Tensor half_lives() const override {
    return -std::log(2.0) / at::log_sigmoid(parameter("ema.decay").detach());
  }
};

class EmaStep : public BlockStep {
 public:
  explicit EmaStep(const StepSetup& setup)
      : layer_(setup.layer),
        C_(setup.config.n_embd),
        weight_(setup.vector("norm.weight")),
        bias_(setup.vector("norm.bias")),
        decay_(setup.vector("ema.decay")),
        value_(setup.matrix("ema.value.weight")),
        output_(setup.matrix("ema.output.weight")) {
    for (std::int64_t c = 0; c < C_; ++c) decay_[c] = 1 / (1 + std::exp(-decay_[c]));
  }
  std::vector<WeightMatrix*> matrices() override { return {&value_, &output_}; }
  void prepare(StepRun& run) override {
    for (const std::size_t buffer : {kNormal, kMean, kProduct}) run.reserve(buffer, C_);
  }
  void run(const Worker& worker, StepRun& run) override {
    const std::int64_t R = run.rows();
    float *normal = run.buffer(kNormal), *mean = run.buffer(kMean), *product = run.buffer(kProduct);
    const auto* moments = run.find_moments(worker, run.x());
    const auto [begin, end] = worker.part(C_, kStepLine);
    for (std::int64_t i = 0; i < R; ++i)
      normalize(run.x() + i * C_, moments[i], weight_, bias_, begin, end, normal + i * C_);
    worker.meet();
    const auto for_value = run.input(worker, value_, normal, R);
    run.meet_inputs(worker);
    run.share(worker, R, C_, [&](std::int64_t first, std::int64_t last) {
      run.multiply({{value_, for_value, mean}}, first, last);
      for (const auto& piece : run.pieces()) {
        float* state = run.state(piece, layer_, 0);
        for (std::int64_t i = piece.first; i < piece.first + piece.tokens; ++i)
          for (std::int64_t c = first; c < last; ++c)
            mean[i * C_ + c] = state[c] = decay_[c] * state[c] + (1 - decay_[c]) * mean[i * C_ + c];
      }
    });
    worker.meet();
    run.add_product(worker, output_, mean, product);
  }

 private:
  enum Buffer : std::size_t { kNormal, kMean, kProduct };
  std::int64_t layer_, C_;
  const float *weight_, *bias_;
  float* decay_;
  WeightMatrix value_, output_;
};

}  // namespace

const Core kEma{
    .name = "ema",
    .help = "moving averages",
    .check =
        [](const ModelConfig& config, const std::string& where) {
          if (config.shift.enabled())
            throw ConfigError(where + ".shift.kind",
                              "expected none, got gps: the core ema has no site for a shift");
        },
    .embedding_start = starts_in_embedding_range,
    .parameters = table,
    .state = state,
    .cost = cost,
    .recognizes =
        [](std::span<const TensorView> tensors) {
          return std::ranges::any_of(tensors, [](const TensorView& tensor) {
            return tensor.name.ends_with(".ema.decay");
          });
        },
    .namings = [] { return std::span<const Naming>(); },
    .infer = [](const TensorFile&, ModelConfig&) {},
    .step = [](const StepSetup& setup) -> std::unique_ptr<BlockStep> {
      return std::make_unique<EmaStep>(setup);
    },
};

const CoreModules kEmaModules{
    .core = "ema",
    .block = [](const ModelConfig& config, std::int64_t layer) -> std::shared_ptr<BlockImpl> {
      return std::make_shared<EmaBlock>(config, layer);
    },
};

}  // namespace rwkvx::test
