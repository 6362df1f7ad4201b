// Matrix times vectors: one vector and several give the same, on each instruction set, and both
// are as accurate as their weights.
#include "rwkvx/kernels/matvec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <random>
#include <string>
#include <vector>

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

// Vectors (count, N) in the form that a matrix is multiplied with.
struct Vectors {
  std::vector<float> x, scale;
  std::vector<std::int16_t> q;
  Activations view;

  Vectors(const WeightMatrix& matrix, std::vector<float> numbers) : x(std::move(numbers)) {
    const std::int64_t N = matrix.columns, stride = activation_stride(N);
    const auto count = static_cast<std::int64_t>(x.size()) / N;
    q.resize(size(count * stride));
    scale.resize(size(count));
    view = {count, x.data(), q.data(), scale.data()};
    if (matrix.type != WeightType::kInt8 && matrix.type != WeightType::kInt4) return;
    for (std::int64_t i = 0; i < count; ++i)
      quantize_activations(matrix, x.data() + i * N, q.data() + i * stride, &scale[size(i)]);
  }
  Activations some(std::int64_t from, std::int64_t count, std::int64_t N) const {
    return {count, x.data() + from * N, q.data() + from * activation_stride(N),
            scale.data() + from};
  }
};

// Runs a check on each instruction set, on AVX-512 with and without dot-product instructions.
template <class Run>
void for_each_way(const Run& run) {
  test::for_each_instruction_set([&](const std::string&) {
    run(std::string(simd_name()));
    if (!uses_dot_instructions() || simd_name() != "avx512_vnni") return;
    allow_dot_instructions(false);
    run(std::string(simd_name()));
    allow_dot_instructions(true);
  });
}

TEST(Matvec, ARowAndAVectorGiveTheSameWhateverIsBesideThem) {
  constexpr std::int64_t kMost = 33;
  for (const auto type : kTypes)
    // Fewer columns than a vector, rests, blocks that are not full, more than are taken at a time.
    for (const std::int64_t N : {1, 7, 33, 64, 97, 128, 151, 768, 1024, 1025, 2113})
      for (const std::int64_t M : {1, 5, 19}) {
        if (M == 1 && N > 151) continue;
        auto w = normal_numbers(M * N, 1);
        w[size(M * N / 2)] = 300;  // a wide one where there are others
        const auto rounded = round_matrix(w.data(), M, N, type);
        for_each_way([&](const std::string& set) {
          const Vectors in(rounded.view, normal_numbers(kMost * N, 2));
          std::vector<float> alone(size(M * kMost));
          for (std::int64_t i = 0; i < kMost; ++i)
            matvec_rows(rounded.view, 0, M, in.some(i, 1, N), alone.data() + i * M, M);
          for (std::int64_t count = 1; count <= kMost; ++count) {
            const std::int64_t from = kMost - count, first = M > 5 ? count % 3 : 0;
            std::vector<float> y(size(M * count), -1.0f);
            matvec_rows(rounded.view, first, M, in.some(from, count, N), y.data(), M);
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

TEST(Matvec, DotProductInstructionsChangeNothing) {
  if (!uses_dot_instructions()) GTEST_SKIP() << "this CPU has none";
  constexpr std::int64_t M = 9, N = 1217, kCount = 5;
  for (const auto type : {WeightType::kInt8, WeightType::kInt4}) {
    const auto rounded = round_matrix(normal_numbers(M * N, 1).data(), M, N, type);
    const Vectors in(rounded.view, normal_numbers(kCount * N, 2));
    std::vector<float> with(size(M * kCount)), without(size(M * kCount));
    matvec_rows(rounded.view, 0, M, in.view, with.data(), M);
    allow_dot_instructions(false);
    matvec_rows(rounded.view, 0, M, in.view, without.data(), M);
    allow_dot_instructions(true);
    EXPECT_EQ(with, without);
  }
}

// The largest weights and activations: sums that are taken as integers stay within their range.
TEST(Matvec, SumsOfTheLargestIntegersFit) {
  constexpr std::int64_t M = 4, N = 4096;
  for (const auto type : {WeightType::kInt8, WeightType::kInt4})
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> w(size(M * N), sign);
      const auto rounded = round_matrix(w.data(), M, N, type);
      std::vector<float> unpacked(size(M * N));
      unpack_rows(rounded.view, 0, M, unpacked.data());
      for_each_way([&](const std::string& set) {
        const Vectors in(rounded.view, std::vector<float>(size(2 * N), 1.0f));
        std::vector<float> y(size(2 * M));
        matvec_rows(rounded.view, 0, M, in.view, y.data(), M);
        for (const float one : y)
          EXPECT_NEAR(one / (unpacked[0] * N), 1, 1e-5) << weight_type_name(type) << " on " << set;
      });
    }
}

// What the kernel adds to the error of the rounded weights, against float64: normally distributed
// weights and activations, and activations that are all positive as those behind a squared ReLU.
TEST(Matvec, IsFarMoreAccurateThanTheWeights) {
  constexpr std::int64_t M = 64, kCount = 3;
  std::cout << std::left << "error of a product, |y' - y| / |y| over all rows\n";
  for (const auto type : kTypes)
    for (const std::int64_t N : {768, 3072})
      for (const bool positive : {false, true}) {
        const auto rounded = round_matrix(normal_numbers(M * N, 1).data(), M, N, type);
        auto x = normal_numbers(kCount * N, 2);
        if (positive)
          for (float& one : x) one = std::max(one, 0.0f) * std::max(one, 0.0f);
        for_each_way([&](const std::string& set) {
          const Vectors in(rounded.view, x);
          std::vector<float> y(size(M * kCount)), exact(size(M * kCount));
          matvec_rows(rounded.view, 0, M, in.view, y.data(), M);
          matvec_rows_reference(rounded.view, 0, M, in.view, exact.data(), M);
          double away = 0, all = 0;
          for (std::size_t i = 0; i < y.size(); ++i) {
            away += std::pow(static_cast<double>(y[i]) - static_cast<double>(exact[i]), 2);
            all += std::pow(static_cast<double>(exact[i]), 2);
          }
          const double error = std::sqrt(away / all);
          const bool integer = type == WeightType::kInt8 || type == WeightType::kInt4;
          EXPECT_LT(error, integer ? 1.5e-4 : 5e-7) << weight_type_name(type) << " on " << set;
          if (positive && set != "scalar")
            std::cout << std::setw(6) << weight_type_name(type) << std::setw(6) << N << "  "
                      << std::setw(12) << set << std::setprecision(2) << error << '\n';
        });
      }
}

}  // namespace
}  // namespace rwkvx
