// Comparing tensors: one helper per kind of comparison, each prints the largest difference.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace rwkvx::test {

// |actual - wanted| <= atol + rtol |wanted| everywhere.
inline void expect_close(const at::Tensor& actual, const at::Tensor& wanted, double rtol,
                         double atol, const std::string& what = "") {
  ASSERT_EQ(actual.sizes(), wanted.sizes()) << what;
  if (wanted.numel() == 0) return;
  const auto a = actual.detach().to(at::kDouble), w = wanted.detach().to(at::kDouble);
  const auto difference = (a - w).abs();
  const auto over = difference - (atol + rtol * w.abs());
  const auto worst = over.argmax().item<int64_t>();
  EXPECT_TRUE(at::isfinite(a).all().item<bool>()) << what << ": not finite";
  EXPECT_LE(over.max().item<double>(), 0)
      << what << ": " << a.flatten()[worst].item<double>() << " instead of "
      << w.flatten()[worst].item<double>() << " at " << worst << "; largest difference "
      << difference.max().item<double>();
}

// ||actual - wanted|| <= tolerance ||wanted|| + smallest, the 2-norm over all elements. `smallest`
// is for what is zero but for rounding.
inline void expect_near_in_norm(const at::Tensor& actual, const at::Tensor& wanted,
                                double tolerance, const std::string& what = "",
                                double smallest = 1e-30) {
  ASSERT_EQ(actual.sizes(), wanted.sizes()) << what;
  const auto a = actual.detach().to(at::kDouble), w = wanted.detach().to(at::kDouble);
  const double scale = w.norm().item<double>(), away = (a - w).norm().item<double>();
  EXPECT_LE(away, tolerance * scale + smallest) << what << ": relative error " << away / scale;
}

}  // namespace rwkvx::test
