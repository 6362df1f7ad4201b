// Weights to integers: what the vectorized loops choose is what their definitions say, on every
// instruction set and with any number of threads.
#include "rwkvx/kernels/round_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "rwkvx/base/threads.h"
#include "rwkvx/kernels/round_rows.h"
#include "support/instruction_sets.h"

namespace rwkvx {
namespace {

std::vector<float> weights(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw(0, 0.05f);
  std::vector<float> all(static_cast<std::size_t>(count));
  for (auto& one : all) one = draw(random);
  for (std::size_t i = 0; i < all.size(); i += 211) all[i] *= 60;  // outliers
  for (std::size_t i = 5; i < all.size(); i += 17) all[i] = 0;
  return all;
}

TEST(RoundMatrix, TheMiddleIsThatOfTheSortedSizes) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> draw(-300, 300);
  std::uniform_int_distribution<int> some(0, 3);
  for (const std::size_t count : {1u, 2u, 3u, 7u, 8u, 9u, 100u, 769u})
    for (const int kind : {0, 1, 2, 3}) {
      std::vector<double> sizes(count), left;
      for (auto& size : sizes) {
        if (kind == 0) size = std::abs(draw(random));        // ordinary numbers
        if (kind == 1) size = std::pow(10.0, draw(random));  // all magnitudes
        if (kind == 2) size = some(random) * 0.5;            // many alike, and zeros
        if (kind == 3) size = some(random) * 5e-324;         // the smallest, and zeros
      }
      std::ranges::copy_if(sizes, std::back_inserter(left), [](double s) { return s != 0; });
      std::ranges::sort(left);
      const double expected = left.empty() ? 0 : left[left.size() / 2];
      sizes.resize(count + kSizesUnit, 77);
      test::for_each_instruction_set([&](const std::string& set) {
        SCOPED_TRACE(set + " " + std::to_string(count) + " " + std::to_string(kind));
        EXPECT_EQ(middle_size(sizes.data(), static_cast<std::int64_t>(count)), expected);
      });
    }
}

TEST(RoundMatrix, AnInt4GroupHasTheScaleOfLeastError) {
  for (const std::int64_t columns : {1, 31, 32, 33, 64, 200}) {
    auto w = weights(columns, 2);
    if (columns == 200) std::fill_n(w.begin() + 64, 32, 0.0f);
    const std::int64_t groups = (columns + kInt4Block - 1) / kInt4Block * 2;
    test::for_each_instruction_set([&](const std::string& set) {
      SCOPED_TRACE(set + " " + std::to_string(columns));
      std::vector<std::uint8_t> q(static_cast<std::size_t>(groups * 16));
      std::vector<std::uint16_t> scales(static_cast<std::size_t>(groups));
      round_int4_row(w.data(), columns, q.data(), scales.data());
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t first = g * kInt4Group, last = std::min(columns, first + kInt4Group);
        const auto error = [&](double scale, auto digit) {
          double sum = 0;
          for (auto c = first; c < last; ++c) {
            const double away =
                digit(c) * scale - static_cast<double>(w[static_cast<std::size_t>(c)]);
            sum += away * away;
          }
          return sum;
        };
        const double scale =
            static_cast<double>(bf16_to_float(scales[static_cast<std::size_t>(g)]));
        float largest = 0;
        for (auto c = first; c < last; ++c)
          if (const float one = w[static_cast<std::size_t>(c)]; std::abs(one) > std::abs(largest))
            largest = one;
        if (largest == 0) {
          EXPECT_EQ(scale, 0);
          continue;
        }
        const auto stored = [&](std::int64_t c) {
          const int both = q[static_cast<std::size_t>(g / 2 * 32 + c % kInt4Group)];
          return (g % 2 == 0 ? both & 15 : both >> 4) - 8;
        };
        double least = INFINITY;
        for (const double share : {1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 1.04}) {
          const double tried = static_cast<double>(
              bf16_to_float(float_to_bf16(static_cast<float>(share) * largest / -8)));
          least = std::min(least, error(tried, [&](std::int64_t c) {
                             const float exact =
                                 w[static_cast<std::size_t>(c)] / static_cast<float>(tried);
                             return std::clamp(std::nearbyint(exact), -8.0f, 7.0f);
                           }));
        }
        EXPECT_NEAR(error(scale, stored), least, 1e-12 * least);
      }
    });
  }
}

TEST(RoundMatrix, BytesDependNeitherOnInstructionsNorOnThreads) {
  for (const auto type : {WeightType::kBF16, WeightType::kInt8, WeightType::kInt4})
    for (const auto& [rows, columns] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 40}, {50, 33}, {2100, 96}}) {
      const auto w = weights(rows * columns, 3);
      const auto first = round_matrix(w.data(), rows, columns, type);
      for (const int threads : {1, 2, 3}) {
        set_team_threads(threads);
        test::for_each_instruction_set([&](const std::string& set) {
          SCOPED_TRACE(set + " " + std::to_string(threads) + " " + std::to_string(columns));
          const auto again = round_matrix(w.data(), rows, columns, type);
          EXPECT_TRUE(again.values == first.values);
          EXPECT_TRUE(again.scales == first.scales);
          EXPECT_EQ(again.column_scales, first.column_scales);
          EXPECT_EQ(again.wide_first, first.wide_first);
          EXPECT_EQ(again.wide_columns, first.wide_columns);
          EXPECT_EQ(again.wide_values, first.wide_values);
          EXPECT_NEAR(again.relative_error, first.relative_error, 1e-12);
        });
      }
      set_team_threads(0);
      if (type == WeightType::kBF16 || rows < 50) continue;
      EXPECT_GT(first.wide_columns.size(), 0u);
      EXPECT_LE(first.view.wide_count(), rows * columns / 256);
    }
}

}  // namespace
}  // namespace rwkvx
