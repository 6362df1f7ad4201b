// AdamW and the squared gradient norm on flat arrays, vectorized.
#pragma once

#include <cstdint>

namespace rwkvx {

// One step of decoupled weight decay Adam (arXiv 1711.05101, algorithm 2) over `count` numbers:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   x = x - rate decay x - rate * m_scale m / (sqrt(v v_scale) + epsilon),
// with g = grad * grad_scale (the clipping). Where v is not finite, because g is beyond about 1e20,
// x becomes NaN instead of standing still.
struct AdamwStep {
  std::int64_t count;
  float* x;
  float* grad;  // zeros afterwards, for the next step to add to
  float* m;
  float* v;
  float grad_scale, rate, decay, beta1, beta2, epsilon;
  float m_scale, v_scale;  // 1 / (1 - beta^step), the bias corrections
};
void adamw_step(const AdamwStep& step);

// The sum of squares of `count` numbers in float64, from blocks of a fixed size: the same on every
// machine with the same vector width, whatever the number of threads.
double sum_of_squares(const float* x, std::int64_t count);

}  // namespace rwkvx
