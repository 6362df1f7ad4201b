// Muon: a matrix moves along its orthogonalized momentum.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>

#include "train/newton_schulz.h"
#include "train/update_rule.h"

namespace rwkvx {
namespace {

// K. Jordan et al., Muon (kellerjordan.github.io/posts/muon, 2024), with Nesterov's momentum:
//   m = mu m + g,  u = g + mu m,  x = x - rate decay x - rate s orthogonalized(u).
// s = 0.2 sqrt(max(rows, columns)) gives a step the size of AdamW's, so that its rate and decay can
// be kept: Liu et al., Muon is Scalable for LLM Training (arXiv 2502.16982), equation 4.
class MuonRule : public UpdateRule {
 public:
  MuonRule(RuleBuffers buffers, const TrainingConfig& config)
      : UpdateRule(std::move(buffers), config), momentum_(torch::zeros_like(buffers_.values)) {}

  void step(const RuleStep& step) override {
    const auto count = static_cast<int64_t>(buffers_.segments.size());
    if (!buffers_.values.is_cpu()) {
      for (const auto& segment : buffers_.segments) run(segment, step);
      return;
    }
    // A thread takes whole matrices, so that no sum depends on how many threads there are.
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) run(buffers_.segments[static_cast<size_t>(i)], step);
    });
  }

  NamedTensors state() const override {
    NamedTensors all;
    for (const auto& segment : buffers_.segments)
      all.emplace_back("momentum." + segment.row.name, segment.view(momentum_));
    return all;
  }

 private:
  void run(const Segment& segment, const RuleStep& step) {
    const at::NoGradGuard no_grad;
    auto x = segment.view(buffers_.values), g = segment.view(buffers_.grads),
         m = segment.view(momentum_);  // (rows, columns)
    if (step.clip != 1) g.mul_(step.clip);
    m.mul_(config_.muon_momentum).add_(g);
    const auto update = orthogonalized(at::add(g, m, config_.muon_momentum));
    const double rate = step.rate * segment.rate_scale;
    const auto longer = static_cast<double>(std::max(x.size(0), x.size(1)));
    x.mul_(1 - rate * segment.decay).add_(update, -rate * 0.2 * std::sqrt(longer));
    g.zero_();
  }

  at::Tensor momentum_;  // flat
};

}  // namespace

const RuleRow kMuonRule{
    .takes =
        [](const ParameterRow& row, const TrainingConfig&) {
          return row.matrix && row.shape.size() == 2 && row.name.starts_with("blocks.");
        },
    .make = [](RuleBuffers buffers, const TrainingConfig& config) -> std::unique_ptr<UpdateRule> {
      return std::make_unique<MuonRule>(std::move(buffers), config);
    }};

}  // namespace rwkvx
