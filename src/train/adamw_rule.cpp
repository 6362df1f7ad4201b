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
        m_(torch::zeros_like(buffers_.values)),
        v_(torch::zeros_like(buffers_.values)) {}

  void step(const RuleStep& step) override {
    const auto taken = static_cast<double>(step.taken);
    const double m_scale = 1 / (1 - std::pow(config_.beta1, taken)),
                 v_scale = 1 / (1 - std::pow(config_.beta2, taken));
    if (!buffers_.values.is_cpu()) {
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
    at::parallel_for(0, static_cast<int64_t>(tasks_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto& task = tasks_[static_cast<size_t>(i)];
        adamw_step({task.count, values + task.offset, grads + task.offset, m + task.offset,
                    v + task.offset, static_cast<float>(step.clip),
                    static_cast<float>(step.rate * task.segment->rate_scale),
                    static_cast<float>(task.segment->decay), static_cast<float>(config_.beta1),
                    static_cast<float>(config_.beta2), static_cast<float>(config_.epsilon),
                    static_cast<float>(m_scale), static_cast<float>(v_scale)});
      }
    });
  }

  NamedTensors state() const override {
    NamedTensors all;
    for (const auto& segment : buffers_.segments) {
      all.emplace_back("m." + segment.row.name, segment.view(m_));
      all.emplace_back("v." + segment.row.name, segment.view(v_));
    }
    return all;
  }

 private:
  std::vector<FlatTask> tasks_;
  at::Tensor m_, v_;  // flat
};

}  // namespace

const RuleRow kAdamwRule{
    .takes = [](const ParameterRow&, const TrainingConfig&) { return true; },
    .make = [](RuleBuffers buffers, const TrainingConfig& config) -> std::unique_ptr<UpdateRule> {
      return std::make_unique<AdamwRule>(std::move(buffers), config);
    }};

}  // namespace rwkvx
