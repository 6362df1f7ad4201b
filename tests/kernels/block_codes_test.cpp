#include "rwkvx/kernels/block_codes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "rwkvx/base/splitmix64.h"

namespace rwkvx {
namespace {

constexpr std::int64_t kCount = 200;

// Sizes over twelve octaves, with a zero in between.
std::vector<float> numbers(bool with_sign) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < kCount; ++i) {
    const auto bits = splitmix64(7, static_cast<std::uint64_t>(i));
    const auto size = static_cast<float>(std::exp2(-static_cast<double>(bits % 12000) / 1000));
    x.push_back(i % 17 == 3 ? 0 : with_sign && bits >> 63 != 0 ? -size : size);
  }
  return x;
}

struct Block {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(kCount);
  float scale = 0;
  std::vector<float> decoded = std::vector<float>(kCount);
};
template <class Encode, class Decode>
Block through(const std::vector<float>& x, std::uint64_t key, Encode encode, Decode decode) {
  Block block;
  const auto count = static_cast<std::int64_t>(x.size());
  encode(x.data(), count, key, block.codes.data(), &block.scale);
  decode(block.codes.data(), block.scale, count, block.decoded.data());
  return block;
}
Block signed_block(const std::vector<float>& x, std::uint64_t key) {
  return through(x, key, encode_signed, decode_signed);
}
Block positive_block(const std::vector<float>& x, std::uint64_t key) {
  return through(x, key, encode_positive, decode_positive);
}

TEST(BlockCodes, AreWithinOneStepOfTheNumbersAndExactInTheMean) {
  constexpr int kKeys = 4000;
  for (const bool with_sign : {true, false}) {
    const auto x = numbers(with_sign);
    std::vector<double> sums(x.size());
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      const auto block =
          with_sign ? signed_block(x, splitmix64(key)) : positive_block(x, splitmix64(key));
      for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_LE(std::fabs(block.decoded[i] - x[i]), 0.0906 * std::fabs(x[i])) << x[i];
        sums[i] += block.decoded[i];
      }
    }
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(sums[i] / kKeys, x[i], 0.003 * std::fabs(x[i])) << x[i];
  }
}

TEST(BlockCodes, WhatWasDecodedIsEncodedAgainWithoutLoss) {
  for (const bool with_sign : {true, false}) {
    const auto through_it = with_sign ? signed_block : positive_block;
    const auto first = through_it(numbers(with_sign), 1);
    EXPECT_EQ(through_it(first.decoded, 2).codes, first.codes);
    EXPECT_EQ(through_it(first.decoded, 2).decoded, first.decoded);
    // A largest number that has fallen to less than half changes no other number.
    auto halved = first.decoded;
    for (auto& one : halved)
      if (std::fabs(one) > 0.4f) one = 0.4f * first.scale;
    const auto second = through_it(halved, 3);
    EXPECT_LT(second.scale, first.scale);
    for (std::size_t i = 0; i < halved.size(); ++i)
      if (std::fabs(first.decoded[i]) < 0.4f && std::fabs(first.decoded[i]) > 0x1p-14f) {
        EXPECT_EQ(second.decoded[i], first.decoded[i]);
      }
  }
}

TEST(BlockCodes, ASecondMomentNeverTurnsZeroAndZerosStay) {
  std::vector<float> x(static_cast<std::size_t>(kCount), 1e-30f);
  x[0] = 1;
  x[1] = 0;
  const auto block = positive_block(x, 1);
  EXPECT_EQ(block.decoded[0], 1);
  EXPECT_EQ(block.decoded[1], 0);
  EXPECT_GT(block.decoded[2], 0);
  const std::vector<float> zeros(static_cast<std::size_t>(kCount));
  EXPECT_EQ(signed_block(zeros, 1).decoded, zeros);
  EXPECT_EQ(positive_block(zeros, 1).decoded, zeros);
}

TEST(BlockCodes, SurviveNumbersOfAnySize) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float extreme : {1e-45f, 1e-38f, 1e38f, std::numeric_limits<float>::max(), infinity,
                              std::numeric_limits<float>::quiet_NaN()}) {
    const std::vector<float> x{extreme, 0, 1e-3f, extreme};
    for (const auto& block : {signed_block(x, 1), positive_block(x, 1)}) {
      if (std::isfinite(extreme) && extreme > 1e-37f) {
        EXPECT_NEAR(block.decoded[0] / extreme, 1, 0.1) << extreme;
      }
      EXPECT_EQ(std::isfinite(block.decoded[0]), std::isfinite(extreme)) << extreme;
    }
  }
}

}  // namespace
}  // namespace rwkvx
