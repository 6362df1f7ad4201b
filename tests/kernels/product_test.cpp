// Matrix times vectors: one vector and several give the same on each instruction set, and what is
// as accurate as the weights; prompts' products; panels.
#include "rwkvx/kernels/product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "rwkvx/kernels/round_matrix.h"
#include "rwkvx/kernels/simd.h"
#include "support/instruction_sets.h"

namespace rwkvx {
namespace {

constexpr WeightType kTypes[] = {WeightType::kF32, WeightType::kBF16, WeightType::kInt8,
                                 WeightType::kInt4};

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<float> normal_numbers(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw;
  std::vector<float> out(size(count));
  for (float& one : out) one = draw(random);
  return out;
}

bool is_integer(WeightType type) { return type == WeightType::kInt8 || type == WeightType::kInt4; }

// W (M, N) rounded, and in panels.
struct Matrix {
  RoundedMatrix rounded;
  PanelMatrix panels;
  Matrix(const std::vector<float>& w, std::int64_t M, std::int64_t N, WeightType type)
      : rounded(round_matrix(w.data(), M, N, type)), panels(rounded.view) {}
  const WeightMatrix& view() const { return panels.view; }
};

// Vectors (count, N) in the form that a matrix is multiplied with.
struct Vectors {
  std::vector<float> x;
  std::int64_t N, bytes;
  std::vector<std::byte> quantized;

  Vectors(const WeightMatrix& matrix, std::vector<float> numbers)
      : x(std::move(numbers)), N(matrix.columns), bytes(QuantizedLayout(matrix.type, N).bytes) {
    if (!is_integer(matrix.type)) return;
    quantized.resize(size(count() * bytes));
    for (std::int64_t i = 0; i < count(); ++i)
      quantize_activations(matrix, x.data() + i * N, quantized.data() + i * bytes);
  }
  std::int64_t count() const { return static_cast<std::int64_t>(x.size()) / N; }
  Activations some(std::int64_t from, std::int64_t count) const {
    return {count, x.data() + from * N, quantized.data() + from * bytes};
  }
  Activations all() const { return some(0, count()); }
};

// Runs a check on each instruction set, with and without dot-product instructions.
template <class Run>
void for_each_way(const Run& run) {
  test::for_each_instruction_set([&](const std::string&) {
    run(std::string(simd_name()));
    if (!simd_name().ends_with("_vnni")) return;
    allow_dot_instructions(false);
    run(std::string(simd_name()));
    allow_dot_instructions(true);
  });
}

TEST(Panels, HoldWhatTheRowsHold) {
  for (const auto type : kTypes)
    for (const std::int64_t N : {1, 2, 3, 31, 64, 65, 130, 300})
      for (const std::int64_t M : {1, 15, 16, 17, 40}) {
        auto w = normal_numbers(M * N, 1);
        w[size(M * N / 2)] = 300;  // a wide one where there are others
        const Matrix matrix(w, M, N, type);
        std::vector<float> rows(size(M * N)), panel(size(panel_bytes(WeightType::kF32, N) / 4));
        unpack_rows(matrix.rounded.view, 0, M, rows.data());
        for_each_way([&](const std::string& set) {
          for (std::int64_t m = 0; m < M; ++m) {
            if (m % kPanelRows == 0) unpack_panel(matrix.view(), m / kPanelRows, panel.data());
            for (std::int64_t n = 0; n < N; ++n)
              ASSERT_EQ(panel[size(n * kPanelRows + m % kPanelRows)], rows[size(m * N + n)])
                  << weight_type_name(type) << " on " << set << ", " << M << " x " << N << ", row "
                  << m << ", column " << n;
          }
        });
      }
}

TEST(Product, ARowAndAVectorGiveTheSameWhateverIsBesideThem) {
  constexpr std::int64_t kMost = 33;
  for (const auto type : kTypes)
    // Rests, blocks that are not full, more than are taken at a time.
    for (const std::int64_t N : {1, 7, 33, 64, 97, 128, 151, 768, 1024, 1025, 2113})
      for (const std::int64_t M : {1, 5, 16, 83}) {
        if (M == 1 && N > 151) continue;
        auto w = normal_numbers(M * N, 1);
        w[size(M * N / 2)] = 300;
        const Matrix matrix(w, M, N, type);
        std::vector<float> first_set;
        for_each_way([&](const std::string& set) {
          const Vectors in(matrix.view(), normal_numbers(kMost * N, 2));
          std::vector<float> alone(size(M * kMost));
          for (std::int64_t i = 0; i < kMost; ++i)
            multiply_panels(matrix.view(), 0, M, in.some(i, 1), alone.data() + i * M, M);
          if (first_set.empty()) first_set = alone;
          if (set != "scalar") {
            EXPECT_EQ(alone, first_set) << weight_type_name(type) << " on " << set;
          }
          for (std::int64_t count = 1; count <= kMost; ++count) {
            const std::int64_t from = kMost - count, first = count % (M / 16 + 1) * 16;
            std::vector<float> y(size(M * count), -1.0f);
            multiply_panels(matrix.view(), first, M, in.some(from, count), y.data(), M);
            for (std::int64_t i = 0; i < count; ++i)
              for (std::int64_t m = 0; m < M; ++m) {
                const float wanted = m < first ? -1.0f : alone[size((from + i) * M + m)];
                ASSERT_EQ(std::memcmp(&y[size(i * M + m)], &wanted, sizeof wanted), 0)
                    << weight_type_name(type) << " on " << set << ", " << M << " x " << N
                    << ", vector " << i << " of " << count << ", row " << m << ": "
                    << y[size(i * M + m)] << " instead of " << wanted;
              }
          }
        });
      }
}

// The largest weights and activations: sums that are taken as integers stay within their range.
TEST(Product, SumsOfTheLargestIntegersFit) {
  constexpr std::int64_t M = 4, N = 4096;
  for (const auto type : {WeightType::kInt8, WeightType::kInt4})
    for (const float sign : {1.0f, -1.0f}) {
      const Matrix matrix(std::vector<float>(size(M * N), sign), M, N, type);
      std::vector<float> unpacked(size(M * N));
      unpack_rows(matrix.rounded.view, 0, M, unpacked.data());
      for_each_way([&](const std::string& set) {
        const Vectors in(matrix.view(), std::vector<float>(size(2 * N), 1.0f));
        std::vector<float> y(size(2 * M));
        multiply_panels(matrix.view(), 0, M, in.all(), y.data(), M);
        for (const float one : y)
          EXPECT_NEAR(one / (unpacked[0] * N), 1, 1e-5) << weight_type_name(type) << " on " << set;
      });
    }
}

// What the kernel adds to the error of the rounded weights, against float64: normally distributed
// weights and activations, and activations that are all positive as those behind a squared ReLU.
TEST(Product, IsFarMoreAccurateThanTheWeights) {
  constexpr std::int64_t M = 64, kCount = 3;
  std::cout << std::left << "error of a product, |y' - y| / |y| over all rows\n";
  for (const auto type : kTypes)
    for (const std::int64_t N : {768, 3072})
      for (const bool positive : {false, true}) {
        const Matrix matrix(normal_numbers(M * N, 1), M, N, type);
        auto x = normal_numbers(kCount * N, 2);
        if (positive)
          for (float& one : x) one = std::max(one, 0.0f) * std::max(one, 0.0f);
        for_each_way([&](const std::string& set) {
          const Vectors in(matrix.view(), x);
          std::vector<float> y(size(M * kCount)), exact(size(M * kCount));
          multiply_panels(matrix.view(), 0, M, in.all(), y.data(), M);
          multiply_panels_reference(matrix.view(), 0, M, x.data(), kCount, exact.data(), M);
          double away = 0, all = 0;
          for (std::size_t i = 0; i < y.size(); ++i) {
            away += std::pow(static_cast<double>(y[i]) - static_cast<double>(exact[i]), 2);
            all += std::pow(static_cast<double>(exact[i]), 2);
          }
          const double error = std::sqrt(away / all);
          const double most = type == WeightType::kInt4   ? matrix.rounded.relative_error / 10
                              : type == WeightType::kInt8 ? 1.5e-4
                                                          : 5e-7;
          EXPECT_LT(error, most) << weight_type_name(type) << " on " << set;
          if (positive && set != "scalar")
            std::cout << std::setw(6) << weight_type_name(type) << std::setw(6) << N << "  "
                      << std::setw(12) << set << std::setprecision(2) << error << '\n';
        });
      }
}

// Rows times weights, whose results lie further apart than there are weight rows.
struct PromptProduct {
  std::int64_t R, M, N, stride;
  std::vector<float> a, out;
  Matrix matrix;
  Vectors in;
  PromptProduct(std::int64_t rows, std::int64_t weight_rows, std::int64_t columns,
                WeightType type = WeightType::kF32)
      : R(rows),
        M(weight_rows),
        N(columns),
        stride(M + 3),
        a(normal_numbers(R * N, 3)),
        out(size(R * stride), -7.0f),
        matrix(normal_numbers(M * N, 4), M, N, type),
        in(matrix.view(), a) {}
  void run() { multiply_panels(matrix.view(), 0, M, in.all(), out.data(), stride); }
  float at(std::int64_t r, std::int64_t m) const { return out[size(r * stride + m)]; }
};

TEST(PromptProduct, EqualsTheReferenceForOddShapes) {
  for (const auto type : kTypes) {
    // Integer weights meet activations of 16 and 8 bits, whose errors are parts of the largest one.
    const float tolerance = type == WeightType::kInt4   ? 1e-2f
                            : type == WeightType::kInt8 ? 1e-4f
                                                        : 1e-6f;
    for (const std::int64_t R : {1, 2, 7, 16, 31, 50})
      for (const std::int64_t M : {1, 3, 16, 23, 128, 145})
        for (const std::int64_t N : {1, 2, 3, 17, 100, 256, 385, 771}) {
          PromptProduct one(R, M, N, type);
          std::vector<float> wanted(one.out.size()), sizes(one.out.size());
          multiply_panels_reference(one.matrix.view(), 0, M, one.a.data(), R, wanted.data(),
                                    one.stride);
          std::vector<float> w(size(M * N));
          unpack_rows(one.matrix.rounded.view, 0, M, w.data());
          for (std::int64_t r = 0; r < R; ++r) {
            const auto* a = one.a.data() + r * N;
            float largest = 0;
            for (std::int64_t n = 0; n < N; ++n) largest = std::max(largest, std::abs(a[n]));
            for (std::int64_t m = 0; m < M; ++m)
              for (std::int64_t n = 0; n < N; ++n)
                sizes[size(r * one.stride + m)] +=
                    std::abs((is_integer(type) ? largest : a[n]) * w[size(m * N + n)]);
          }
          test::for_each_instruction_set([&](const std::string& set) {
            std::ranges::fill(one.out, -7.0f);
            one.run();
            for (std::int64_t r = 0; r < R; ++r) {
              for (std::int64_t m = 0; m < M; ++m) {
                const auto i = size(r * one.stride + m);
                ASSERT_NEAR(one.out[i], wanted[i], tolerance * sizes[i])
                    << weight_type_name(type) << " on " << set << ", R " << R << " M " << M << " N "
                    << N << ", row " << r << ", " << m;
              }
              for (std::int64_t m = M; m < one.stride; ++m) ASSERT_EQ(one.at(r, m), -7.0f) << set;
            }
          });
        }
  }
}

// The same bits whatever is beside a row, and wherever the product is cut.
TEST(PromptProduct, EachNumberIsTheSameAloneAndInAnyCut) {
  for (const auto type : kTypes) {
    PromptProduct whole(37, 301, 900, type);
    test::for_each_instruction_set([&](const std::string& set) {
      whole.run();
      std::mt19937 random(3);
      for (int i = 0; i < 50; ++i) {
        const auto draw = [&](std::int64_t most) {
          return std::uniform_int_distribution<std::int64_t>(0, most)(random);
        };
        const std::int64_t r0 = draw(whole.R - 1), R = i < 5 ? 1 : 1 + draw(whole.R - r0 - 1);
        const std::int64_t first = draw((whole.M - 1) / kPanelRows) * kPanelRows;
        const std::int64_t last = first + 1 + draw(whole.M - first - 1);
        std::vector<float> out(size(R * whole.M));
        multiply_panels(whole.matrix.view(), first, last, whole.in.some(r0, R), out.data(),
                        whole.M);
        for (std::int64_t r = 0; r < R; ++r)
          for (std::int64_t m = first; m < last; ++m)
            ASSERT_EQ(out[size(r * whole.M + m)], whole.at(r0 + r, m))
                << set << ", rows " << r0 << " + " << R << ", weight rows " << first << " to "
                << last;
      }
    });
  }
}

TEST(PromptProduct, WhatIsNotFiniteStaysInItsRow) {
  test::for_each_instruction_set([](const std::string& set) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      PromptProduct one(19, 14, 41);
      one.in.x[5 * 41 + 40] = bad;
      one.run();
      for (std::int64_t r = 0; r < one.R; ++r)
        for (std::int64_t m = 0; m < one.M; ++m)
          EXPECT_EQ(std::isfinite(one.at(r, m)), r != 5) << set << ' ' << r << ' ' << m;
    }
  });
}

TEST(PromptProduct, NoColumnsGiveZerosAndNoRowsNothing) {
  const WeightMatrix none{.type = WeightType::kF32, .rows = 5, .columns = 0, .panels = true};
  std::vector<float> y(15, -7.0f);
  multiply_panels(none, 0, 5, {3, y.data()}, y.data(), 5);
  EXPECT_EQ(y, std::vector<float>(15, 0.0f));
  PromptProduct rows(0, 5, 8), weights(4, 7, 8);
  rows.run();
  multiply_panels(weights.matrix.view(), 0, 0, weights.in.all(), weights.out.data(), 7);
  for (const float one : weights.out) EXPECT_EQ(one, -7.0f);
}

}  // namespace
}  // namespace rwkvx
