// AdamW with its moments in float32.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/kernels/adamw.h"
#include "rwkvx/ops/adamw_tensors.h"
#include "train/flat_tasks.h"
#include "train/update_rule.h"

namespace rwkvx {
namespace {

class AdamwRule : public UpdateRule {
 public:
  AdamwRule(RuleBuffers buffers, const TrainingConfig& config)
      : UpdateRule(std::move(buffers), config),
        tasks_(flat_tasks(buffers_.segments)),
        begins_(cut_into_parts(tasks_, buffers_.parts,
                               [](const FlatTask& task) { return task.count; })) {
    if (buffers_.parts > 1)
      ranges_ = ranges_of(tasks_, begins_);
    else
      ranges_ = {{0, buffers_.values.numel()}};
    m_ = torch::zeros({own().count}, buffers_.values.options());
    v_ = torch::zeros_like(m_);
  }

  void step(const RuleStep& step) override {
    const auto taken = static_cast<double>(step.taken);
    const double m_scale = 1 / (1 - std::pow(config_.beta1, taken)),
                 v_scale = 1 / (1 - std::pow(config_.beta2, taken));
    if (!buffers_.values.is_cpu()) {
      TORCH_CHECK(buffers_.parts == 1, "the optimizer's state is shared out on the CPU alone");
      AdamwTensors all{
          buffers_.values, buffers_.grads,  m_,      v_,     {}, step.clip, config_.beta1,
          config_.beta2,   config_.epsilon, m_scale, v_scale};
      for (const auto& segment : buffers_.segments)
        all.groups.push_back(
            {segment.offset, segment.row.count(), step.rate * segment.rate_scale, segment.decay});
      adamw_step(all);
      return;
    }
    float *values = buffers_.values.mutable_data_ptr<float>(),
          *grads = buffers_.grads.mutable_data_ptr<float>(), *m = m_.mutable_data_ptr<float>(),
          *v = v_.mutable_data_ptr<float>();
    const auto number = static_cast<size_t>(buffers_.part);
    const auto first = static_cast<int64_t>(begins_[number]),
               last = static_cast<int64_t>(begins_[number + 1]);
    at::parallel_for(first, last, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto& task = tasks_[static_cast<size_t>(i)];
        const auto kept = task.offset - own().begin;
        adamw_step({task.count, values + task.offset, grads + task.offset, m + kept, v + kept,
                    static_cast<float>(step.clip),
                    static_cast<float>(step.rate * task.segment->rate_scale),
                    static_cast<float>(task.segment->decay), static_cast<float>(config_.beta1),
                    static_cast<float>(config_.beta2), static_cast<float>(config_.epsilon),
                    static_cast<float>(m_scale), static_cast<float>(v_scale)});
      }
    });
  }

  std::vector<FlatRange> values() const override { return ranges_; }
  std::vector<FlatState> state() const override {
    const auto size = buffers_.values.numel();
    return {{m_, ranges_, size}, {v_, ranges_, size}};
  }
  NamedTensors named(const std::vector<at::Tensor>& whole) const override {
    NamedTensors all;
    for (const auto& segment : buffers_.segments) {
      all.emplace_back("m." + segment.row.name, segment.view(whole[0]));
      all.emplace_back("v." + segment.row.name, segment.view(whole[1]));
    }
    return all;
  }

 private:
  const FlatRange& own() const { return ranges_[static_cast<size_t>(buffers_.part)]; }
  std::vector<FlatTask> tasks_;
  std::vector<size_t> begins_;     // the first task of each part
  std::vector<FlatRange> ranges_;  // of the values of each part
  at::Tensor m_, v_;               // flat, of this part
};

}  // namespace

const RuleRow kAdamwRule{
    .takes = [](const ParameterRow&, const TrainingConfig&) { return true; },
    .make = [](RuleBuffers buffers, const TrainingConfig& config) -> std::unique_ptr<UpdateRule> {
      return std::make_unique<AdamwRule>(std::move(buffers), config);
    }};

}  // namespace rwkvx
