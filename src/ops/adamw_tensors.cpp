#include "rwkvx/ops/adamw_tensors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace rwkvx {

void adamw_step(const AdamwTensors& step) {
  const at::NoGradGuard no_grad;
  auto grad = step.grad, m = step.m, v = step.v;
  if (step.grad_scale != 1) grad.mul_(step.grad_scale);
  m.mul_(step.beta1).add_(grad, 1 - step.beta1);
  v.mul_(step.beta2).addcmul_(grad, grad, 1 - step.beta2);
  const auto away = (v * step.v_scale).sqrt_().add_(step.epsilon);
  std::vector<at::Tensor> xs, ms, aways;
  std::vector<at::Scalar> kept, steps;
  for (const auto& group : step.groups) {
    const auto part = [&](const at::Tensor& flat) {
      return flat.slice(0, group.offset, group.offset + group.count);
    };
    xs.push_back(part(step.x));
    ms.push_back(part(m));
    aways.push_back(part(away));
    kept.emplace_back(1 - group.rate * group.decay);
    steps.emplace_back(-group.rate * step.m_scale);
  }
  at::_foreach_mul_(xs, kept);
  at::_foreach_addcdiv_(xs, ms, aways, steps);
  grad.zero_();
}

}  // namespace rwkvx
