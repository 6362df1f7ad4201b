#include "rwkvx/train/optimizer.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>

#include "rwkvx/kernels/adamw.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/ops/adamw_tensors.h"

namespace rwkvx {
namespace {

// Numbers of one task of the flat loops. Fixed, so that sums do not depend on the threads.
constexpr int64_t kTask = 1 << 16;
// Every parameter starts at a whole cache line of the flat buffers.
constexpr int64_t kAlign = 16;

// Something trained: its place in the flat buffers.
struct Segment {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0, count = 0;
  double rate_scale = 1, decay = 0;
  bool extra = false;  // no parameter of the model
};

struct Task {
  int64_t offset = 0, count = 0;
  const Segment* segment = nullptr;
};

}  // namespace

double learning_rate_scale(const ParameterRow& row, const TrainingConfig& config) {
  switch (row.rate_group) {
    case RateGroup::kNone:
      return row.rate;
    case RateGroup::kLayerwise:
      return config.layerwise_lr ? row.rate : 1;
    case RateGroup::kShift:
      return row.rate * config.shift_lr_scale;
  }
  return 1;
}

double weight_decay_of(const ParameterRow& row, const TrainingConfig& config) {
  return row.matrix && !row.transposed ? config.weight_decay : 0;
}

struct Optimizer::Impl {
  TrainingConfig config;
  std::vector<Segment> segments;
  std::vector<Task> tasks;
  at::Tensor values, grads, m, v;  // flat
  std::ptrdiff_t extra_begin = 0;  // the first segment that is no parameter of the model
  int64_t steps = 0;

  at::Tensor view(const at::Tensor& flat, const Segment& segment) const {
    return flat.slice(0, segment.offset, segment.offset + segment.count).view(segment.shape);
  }
};

Optimizer::Optimizer(RwkvImpl& model, const TrainingConfig& config,
                     const std::function<bool(const ParameterRow&)>& trainable,
                     const std::vector<ExtraParameter>& extra)
    : impl_(std::make_unique<Impl>()) {
  const torch::NoGradGuard no_grad;
  impl_->config = config;
  auto parameters = model.named_parameters();
  const auto device = parameters.begin()->value().device();
  std::vector<at::Tensor> trained;
  int64_t size = 0;
  const auto add = [&](const at::Tensor& tensor, const std::string& name, double rate,
                       double decay) {
    impl_->segments.push_back({name, tensor.sizes().vec(), size, tensor.numel(), rate, decay});
    impl_->segments.back().extra = parameters.find(name) == nullptr;
    trained.push_back(tensor);
    size += (tensor.numel() + kAlign - 1) / kAlign * kAlign;
  };
  for (const auto& row : describe_parameters(model.config())) {
    auto& parameter = parameters[row.name];
    if (trainable && !trainable(row))
      parameter.set_requires_grad(false);
    else
      add(parameter, row.name, learning_rate_scale(row, config), weight_decay_of(row, config));
  }
  for (const auto& one : extra) {
    TORCH_CHECK(one.tensor.defined() && one.tensor.scalar_type() == torch::kFloat32,
                "Optimizer: ", one.name, " must be float32");
    add(one.tensor, one.name, one.rate, one.decay);
  }
  for (const auto& segment : impl_->segments)
    for (int64_t begin = 0; begin < segment.count; begin += kTask)
      impl_->tasks.push_back(
          {segment.offset + begin, std::min(kTask, segment.count - begin), &segment});
  // What is trained moves first, so that its old places are free before the other buffers exist.
  impl_->values = torch::zeros({size}, device);
  for (size_t i = 0; i < trained.size(); ++i) {
    const auto place = impl_->view(impl_->values, impl_->segments[i]);
    place.copy_(trained[i]);
    trained[i].set_data(place);
  }
  impl_->grads = torch::zeros({size}, device);
  impl_->m = torch::zeros({size}, device);
  impl_->v = torch::zeros({size}, device);
  for (size_t i = 0; i < trained.size(); ++i)
    trained[i].mutable_grad() = impl_->view(impl_->grads, impl_->segments[i]);
}

Optimizer::~Optimizer() = default;

double Optimizer::grad_norm() const {
  if (!impl_->grads.is_cpu()) return impl_->grads.norm().item<double>();
  const float* grads = impl_->grads.const_data_ptr<float>();
  std::vector<double> sums(impl_->tasks.size());
  at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& task = impl_->tasks[static_cast<size_t>(i)];
      sums[static_cast<size_t>(i)] = sum_of_squares(grads + task.offset, task.count);
    }
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return std::sqrt(sum);
}

void Optimizer::step(double rate, double norm) {
  const auto& config = impl_->config;
  const auto taken = static_cast<double>(++impl_->steps);
  const double clip = config.grad_clip > 0 && norm > config.grad_clip ? config.grad_clip / norm : 1;
  const double m_scale = 1 / (1 - std::pow(config.beta1, taken)),
               v_scale = 1 / (1 - std::pow(config.beta2, taken));
  if (!impl_->values.is_cpu()) {
    AdamwTensors all{impl_->values, impl_->grads, impl_->m,       impl_->v, {},     clip,
                     config.beta1,  config.beta2, config.epsilon, m_scale,  v_scale};
    for (const auto& segment : impl_->segments)
      all.groups.push_back(
          {segment.offset, segment.count, rate * segment.rate_scale, segment.decay});
    adamw_step(all);
    return;
  }
  float *values = impl_->values.mutable_data_ptr<float>(), *m = impl_->m.mutable_data_ptr<float>(),
        *v = impl_->v.mutable_data_ptr<float>(), *grads = impl_->grads.mutable_data_ptr<float>();
  at::parallel_for(
      0, static_cast<int64_t>(impl_->tasks.size()), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto& task = impl_->tasks[static_cast<size_t>(i)];
          adamw_step({task.count, values + task.offset, grads + task.offset, m + task.offset,
                      v + task.offset, static_cast<float>(clip),
                      static_cast<float>(rate * task.segment->rate_scale),
                      static_cast<float>(task.segment->decay), static_cast<float>(config.beta1),
                      static_cast<float>(config.beta2), static_cast<float>(config.epsilon),
                      static_cast<float>(m_scale), static_cast<float>(v_scale)});
        }
      });
}

std::int64_t Optimizer::steps() const { return impl_->steps; }
void Optimizer::set_steps(std::int64_t steps) { impl_->steps = steps; }

std::vector<std::pair<std::string, at::Tensor>> Optimizer::moments() const {
  std::vector<std::pair<std::string, at::Tensor>> all;
  for (const auto& segment : impl_->segments) {
    all.emplace_back("m." + segment.name, impl_->view(impl_->m, segment));
    all.emplace_back("v." + segment.name, impl_->view(impl_->v, segment));
    if (segment.extra) all.emplace_back("x." + segment.name, impl_->view(impl_->values, segment));
  }
  return all;
}

std::string Optimizer::first_not_finite() const {
  for (const auto& [flat, what] :
       {std::pair{impl_->values, "parameter "}, std::pair{impl_->grads, "gradient of "}})
    for (const auto& segment : impl_->segments)
      if (!torch::isfinite(impl_->view(flat, segment)).all().item<bool>())
        return what + segment.name;
  return "";
}

}  // namespace rwkvx
