// AdamW with its moments in float32.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "rwkvx/kernels/adamw.h"
#include "rwkvx/ops/cuda/adamw_on_device.h"
#include "rwkvx/ops/cuda/call.h"
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

  bool takes_scale() const override { return buffers_.kernels; }

  bool keep_copy(int64_t offset, const at::Tensor& copy) override {
    // What other parts change comes from other processes.
    if (!buffers_.kernels || buffers_.parts > 1) return false;
    copies_[offset] = copy;
    table_ = at::Tensor();
    return true;
  }

  void step(const RuleStep& step) override {
    const auto taken = static_cast<double>(step.taken);
    const double m_scale = 1 / (1 - std::pow(config_.beta1, taken)),
                 v_scale = 1 / (1 - std::pow(config_.beta2, taken));
    if (buffers_.kernels) {
      if (!table_.defined()) table_ = pieces();
      cuda::AdamwCall call{};
      call.state_begin = own().begin;
      call.scale = cuda::data<float>(step.scale);
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
  at::Tensor pieces() const {
    std::vector<cuda::AdamwPiece> all;
    for (auto i = begin(); i < end(); ++i) {
      const auto& task = tasks_[static_cast<size_t>(i)];
      cuda::AdamwPiece piece{task.offset, task.count, static_cast<float>(task.segment->rate_scale),
                             static_cast<float>(task.segment->decay)};
      if (const auto copy = copies_.find(task.segment->offset); copy != copies_.end())
        piece.copy = cuda::mutable_data<cuda::Bf16>(copy->second) + task.offset - copy->first;
      cuda::add_pieces(all, piece);
    }
    return cuda::piece_table(all, buffers_.values);
  }

  std::vector<size_t> begins_;     // the first task of each part
  std::vector<FlatRange> ranges_;  // of the values of each part
  at::Tensor m_, v_;               // flat, of this part
  // With a device's kernels: the pieces (ops/cuda/adamw.h), and copies by their segments' offsets.
  at::Tensor table_;
  std::map<int64_t, at::Tensor> copies_;
};

}  // namespace

const RuleRow kAdamwRule{
    .takes = [](const ParameterRow&, const TrainingConfig&) { return true; },
    .make = [](RuleBuffers buffers, const TrainingConfig& config) -> std::unique_ptr<UpdateRule> {
      return std::make_unique<AdamwRule>(std::move(buffers), config);
    }};

}  // namespace rwkvx
