// Muon: a matrix moves along its orthogonalized momentum.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>

#include "train/flat_tasks.h"
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
      : UpdateRule(std::move(buffers), config),
        begins_(cut_into_parts(buffers_.segments, buffers_.parts,
                               [](const Segment& segment) { return segment.row.count(); })) {
    for (size_t p = 0; p + 1 < begins_.size(); ++p) {
      const auto place = [&](size_t segment) {
        return segment < buffers_.segments.size() ? buffers_.segments[segment].offset
                                                  : buffers_.values.numel();
      };
      ranges_.push_back({place(begins_[p]), place(begins_[p + 1]) - place(begins_[p])});
    }
    momentum_ = torch::zeros({own().count}, buffers_.values.options());
  }

  void step(const RuleStep& step) override {
    const auto number = static_cast<size_t>(buffers_.part);
    const auto first = static_cast<int64_t>(begins_[number]),
               last = static_cast<int64_t>(begins_[number + 1]);
    if (!buffers_.values.is_cpu()) {
      for (auto i = first; i < last; ++i) run(buffers_.segments[static_cast<size_t>(i)], step);
      return;
    }
    // A thread takes whole matrices, so that no sum depends on how many threads there are.
    at::parallel_for(first, last, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) run(buffers_.segments[static_cast<size_t>(i)], step);
    });
  }

  std::vector<FlatRange> values() const override { return ranges_; }
  std::vector<FlatState> state() const override {
    return {{momentum_, ranges_, buffers_.values.numel()}};
  }
  NamedTensors named(const std::vector<at::Tensor>& whole) const override {
    NamedTensors all;
    for (const auto& segment : buffers_.segments)
      all.emplace_back("momentum." + segment.row.name, segment.view(whole[0]));
    return all;
  }

 private:
  const FlatRange& own() const { return ranges_[static_cast<size_t>(buffers_.part)]; }
  void run(const Segment& segment, const RuleStep& step) {
    const at::NoGradGuard no_grad;
    auto x = segment.view(buffers_.values), g = segment.view(buffers_.grads),
         m = momentum_.narrow(0, segment.offset - own().begin, segment.row.count())
                 .view(segment.row.shape);  // (rows, columns)
    if (step.clip != 1) g.mul_(step.clip);
    m.mul_(config_.muon_momentum).add_(g);
    const auto update = orthogonalized(at::add(g, m, config_.muon_momentum));
    const double rate = step.rate * segment.rate_scale;
    const auto longer = static_cast<double>(std::max(x.size(0), x.size(1)));
    x.mul_(1 - rate * segment.decay).add_(update, -rate * 0.2 * std::sqrt(longer));
    g.zero_();
  }

  std::vector<size_t> begins_;     // the first matrix of each part
  std::vector<FlatRange> ranges_;  // of the values of each part
  at::Tensor momentum_;            // flat, of this part
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
