#include "rwkvx/kernels/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "support/instruction_sets.h"

namespace rwkvx {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class Value>
std::vector<Value> numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> draw(-3, 6);
  std::vector<Value> all(count);
  for (auto& one : all) one = static_cast<Value>(draw(random));
  return all;
}

// The same bits for every length of vectors; on a processor without them rounding differs.
TEST(Softmax, SumsAreThoseOfTheStandardLibraryWhateverTheVectors) {
  for (const std::size_t count : {0u, 1u, 7u, 8u, 9u, 31u, 1000u, 50277u}) {
    const auto x = numbers<float>(count, 3);
    const auto wide = numbers<double>(count, 4);
    double top = -kInfinity, sum = 0, wide_top = -kInfinity, wide_sum = 0;
    for (const float one : x) top = std::max(top, static_cast<double>(one));
    for (const float one : x) sum += std::exp(static_cast<double>(one - static_cast<float>(top)));
    for (const double one : wide) wide_top = std::max(wide_top, one);
    for (const double one : wide) wide_sum += std::exp(one - wide_top);
    std::optional<double> bits;
    test::for_each_instruction_set([&](const std::string& name) {
      SCOPED_TRACE(name + " " + std::to_string(count));
      const auto found = sum_exponentials(x.data(), static_cast<std::int64_t>(count));
      EXPECT_EQ(found.top, top);
      EXPECT_NEAR(found.sum, sum, 1e-13 * sum);
      if (name != "SCALAR" && name != "EMU128") {
        EXPECT_EQ(found.sum, bits.value_or(found.sum));
        bits = found.sum;
      }
      auto taken = wide;
      const auto all = take_exponentials(taken.data(), static_cast<std::int64_t>(count));
      EXPECT_EQ(all.top, wide_top);
      EXPECT_NEAR(all.sum, wide_sum, 1e-13 * wide_sum);
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_NEAR(taken[i], std::exp(wide[i] - wide_top), 1e-15 * std::exp(wide[i] - wide_top))
            << i;
    });
  }
}

TEST(Softmax, WhatIsNotFinite) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  const auto never = -std::numeric_limits<float>::infinity();
  test::for_each_instruction_set([&](const std::string& name) {
    SCOPED_TRACE(name);
    for (const std::size_t place : {0u, 5u, 10u}) {
      std::vector<float> x(11, 1.0f);
      x[place] = never;
      EXPECT_EQ(sum_exponentials(x.data(), 11).sum, 10);
      x[place] = nan;
      EXPECT_EQ(sum_exponentials(x.data(), 11).top, 1);
      EXPECT_TRUE(std::isnan(sum_exponentials(x.data(), 11).sum));
      std::vector<double> wide(11, 700.0);
      wide[place] = -700;
      EXPECT_EQ(take_exponentials(wide.data(), 11).top, 700);
      EXPECT_LT(wide[place], 1e-300);
    }
  });
}

TEST(Softmax, TheFirstOfTheLargestIsFound) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  const auto never = -std::numeric_limits<float>::infinity();
  test::for_each_instruction_set([&](const std::string& name) {
    SCOPED_TRACE(name);
    EXPECT_EQ(find_largest(nullptr, 0), -1);
    for (const std::size_t count : {1u, 7u, 16u, 17u, 1003u}) {
      auto x = numbers<float>(count, 6);
      const auto find = [&] { return find_largest(x.data(), static_cast<std::int64_t>(count)); };
      EXPECT_EQ(find(), std::ranges::max_element(x) - x.begin());
      for (const std::size_t place : {std::size_t{0}, count / 2, count - 1}) {
        x[place] = x[count - 1] = 50;
        EXPECT_EQ(find(), static_cast<std::int64_t>(place)) << count;
        x[place] = x[count - 1] = nan;
      }
      x.assign(count, never);
      EXPECT_EQ(find(), -1);
      x[count / 3] = nan;
      EXPECT_EQ(find(), -1);
      x[count / 2] = -3e38f;
      EXPECT_EQ(find(), static_cast<std::int64_t>(count / 2));
    }
  });
}

}  // namespace
}  // namespace rwkvx
