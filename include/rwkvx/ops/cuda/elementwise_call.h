// How an elementwise step (ops/cuda/elementwise.h) is called.
#pragma once

#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/cuda/elementwise.h"

namespace rwkvx::cuda {

template <class Step>
void emulate(const Elementwise<Step>& call) {
  constexpr std::int64_t kNumbers = 1 << 14;  // of a block
  for_each_block((call.count + kNumbers - 1) / kNumbers, [&](std::int64_t block) {
    const std::int64_t end = std::min(call.count, (block + 1) * kNumbers);
    for (std::int64_t i = block * kNumbers; i < end; ++i) call.step.at(i);
  });
}

// For all numbers of a tensor of the size of `like`, where that lies.
template <class Step>
void for_each(const Step& step, const at::Tensor& like) {
  run(Elementwise<Step>{step, like.numel()}, like);
}

}  // namespace rwkvx::cuda
