// AdamW with its moments in float32.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/kernels/adamw.h"
#include "rwkvx/ops/cuda/adamw_on_device.h"
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
    if (buffers_.values.is_cpu()) return;
    std::vector<cuda::AdamwPiece> pieces;
    for (auto i = begin(); i < end(); ++i) {
      const auto& task = tasks_[static_cast<size_t>(i)];
      cuda::add_pieces(pieces,
                       {task.offset, task.count, static_cast<float>(task.segment->rate_scale),
                        static_cast<float>(task.segment->decay)});
    }
    table_ = cuda::piece_table(pieces, buffers_.values);
  }

  void step(const RuleStep& step) override {
    const auto taken = static_cast<double>(step.taken);
    const double m_scale = 1 / (1 - std::pow(config_.beta1, taken)),
                 v_scale = 1 / (1 - std::pow(config_.beta2, taken));
    if (table_.defined()) {
      cuda::AdamwCall call{};
      call.state_begin = own().begin;
      call.rate = static_cast<float>(step.rate), call.grad_scale = static_cast<float>(step.clip);
      call.beta1 = static_cast<float>(config_.beta1);
      call.beta2 = static_cast<float>(config_.beta2);
      call.epsilon = static_cast<float>(config_.epsilon);
      call.m_scale = static_cast<float>(m_scale), call.v_scale = static_cast<float>(v_scale);
      cuda::adamw_step(call, table_, buffers_.values, buffers_.grads, m_, v_);
      return;
    }
    float *values = buffers_.values.mutable_data_ptr<float>(),
          *grads = buffers_.grads.mutable_data_ptr<float>(), *m = m_.mutable_data_ptr<float>(),
          *v = v_.mutable_data_ptr<float>();
    at::parallel_for(begin(), end(), 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
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
  // This part's tasks.
  int64_t begin() const {
    return static_cast<int64_t>(begins_[static_cast<size_t>(buffers_.part)]);
  }
  int64_t end() const {
    return static_cast<int64_t>(begins_[static_cast<size_t>(buffers_.part) + 1]);
  }
  std::vector<FlatTask> tasks_;
  std::vector<size_t> begins_;     // the first task of each part
  std::vector<FlatRange> ranges_;  // of the values of each part
  at::Tensor m_, v_;               // flat, of this part
  at::Tensor table_;               // on a device: its pieces; see ops/cuda/adamw.h
};

}  // namespace

const RuleRow kAdamwRule{
    .takes = [](const ParameterRow&, const TrainingConfig&) { return true; },
    .make = [](RuleBuffers buffers, const TrainingConfig& config) -> std::unique_ptr<UpdateRule> {
      return std::make_unique<AdamwRule>(std::move(buffers), config);
    }};

}  // namespace rwkvx
