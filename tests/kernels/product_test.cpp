// Weight rows times rows of activations: values, cuts, odd shapes, numbers that are none.
#include "rwkvx/kernels/product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "support/instruction_sets.h"

namespace rwkvx {
namespace {

using Floats = std::vector<float>;

// R, M, N of a call and its operands; out has 3 floats between two rows.
struct Product {
  std::int64_t R, M, N, stride;
  Floats a, w, out;
  Product(std::int64_t rows, std::int64_t weight_rows, std::int64_t columns)
      : R(rows),
        M(weight_rows),
        N(columns),
        stride(M + 3),
        a(size(R * N)),
        w(size(M * N)),
        out(size(R * stride), -7.0f) {
    std::mt19937 random(static_cast<unsigned>(R * 1000 + M * 10 + N));
    std::normal_distribution<float> normal;
    for (float& one : a) one = normal(random);
    for (float& one : w) one = normal(random);
  }
  static std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }
  void run() { multiply_rows(a.data(), R, w.data(), M, N, out.data(), stride); }
  float at(std::int64_t r, std::int64_t m) const { return out[size(r * stride + m)]; }
};

TEST(Product, EqualsTheReferenceForOddShapes) {
  test::for_each_instruction_set([](const std::string& set) {
    for (const std::int64_t R : {1, 2, 4, 7, 15, 16, 17, 31, 32, 33, 50, 65})
      for (const std::int64_t M : {1, 3, 4, 5, 6, 12, 13, 23, 128, 145, 290})
        for (const std::int64_t N : {1, 2, 3, 15, 16, 17, 100, 384, 385, 771}) {
          if (R * M * N > 2'000'000) continue;
          Product one(R, M, N);
          one.run();
          Floats wanted(one.out.size()), sizes(one.out.size());
          multiply_rows_reference(one.a.data(), R, one.w.data(), M, N, wanted.data(), one.stride);
          auto a = one.a, w = one.w;
          for (float& x : a) x = std::abs(x);
          for (float& x : w) x = std::abs(x);
          multiply_rows_reference(a.data(), R, w.data(), M, N, sizes.data(), one.stride);
          for (std::int64_t r = 0; r < R; ++r) {
            for (std::int64_t m = 0; m < M; ++m) {
              const auto i = Product::size(r * one.stride + m);
              ASSERT_NEAR(one.out[i], wanted[i], 1e-6f * sizes[i])
                  << set << ", R " << R << " M " << M << " N " << N << ", row " << r << ", " << m;
            }
            for (std::int64_t m = M; m < one.stride; ++m) ASSERT_EQ(one.at(r, m), -7.0f) << set;
          }
        }
  });
}

// The same bits whatever is beside a row, and wherever the product is cut.
TEST(Product, EachNumberIsTheSameAloneAndInAnyCut) {
  test::for_each_instruction_set([](const std::string& set) {
    Product whole(37, 301, 900);
    whole.run();
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
      const auto draw = [&](std::int64_t most) {
        return std::uniform_int_distribution<std::int64_t>(0, most)(random);
      };
      const std::int64_t r0 = draw(whole.R - 1), m0 = draw(whole.M - 1);
      const std::int64_t R = i < 20 ? 1 : 1 + draw(whole.R - r0 - 1);
      const std::int64_t M = i < 20 ? 1 : 1 + draw(whole.M - m0 - 1);
      Floats out(Product::size(R * M));
      multiply_rows(whole.a.data() + r0 * whole.N, R, whole.w.data() + m0 * whole.N, M, whole.N,
                    out.data(), M);
      for (std::int64_t r = 0; r < R; ++r)
        for (std::int64_t m = 0; m < M; ++m)
          ASSERT_EQ(out[Product::size(r * M + m)], whole.at(r0 + r, m0 + m))
              << set << ", rows " << r0 << " + " << R << ", weight rows " << m0 << " + " << M;
    }
  });
}

TEST(Product, WhatIsNotFiniteStaysInItsRow) {
  test::for_each_instruction_set([](const std::string& set) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Product one(19, 14, 40);
      one.a[5 * 40 + 39] = bad;
      one.run();
      for (std::int64_t r = 0; r < one.R; ++r)
        for (std::int64_t m = 0; m < one.M; ++m)
          EXPECT_EQ(std::isfinite(one.at(r, m)), r != 5) << set << ' ' << r << ' ' << m;
    }
  });
}

TEST(Product, NoColumnsGiveZerosAndNoRowsNothing) {
  Product none(3, 5, 0);
  none.run();
  for (std::int64_t r = 0; r < 3; ++r)
    for (std::int64_t m = 0; m < 5; ++m) EXPECT_EQ(none.at(r, m), 0);
  Product rows(0, 5, 8), weights(4, 0, 8);
  rows.run();
  weights.run();
  for (const float one : weights.out) EXPECT_EQ(one, -7.0f);
}

}  // namespace
}  // namespace rwkvx
