#include "rwkvx/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/pth_builder.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using test::le32;
using test::le64;
using testing::HasSubstr;
namespace fs = std::filesystem;

std::string text(const std::string& value) { return le64(value.size()) + value; }

// A file put together by hand.
struct Builder {
  std::string values, tensors, data;
  std::uint64_t value_count = 0, tensor_count = 0;
  std::uint32_t version = 3;

  Builder& value(const std::string& key, std::uint32_t type, const std::string& bytes) {
    values += text(key) + le32(type) + bytes;
    ++value_count;
    return *this;
  }
  // `shape` as the file has it: the row's length first.
  Builder& tensor(const std::string& name, const std::vector<std::uint64_t>& shape,
                  std::uint32_t type, std::uint64_t offset) {
    tensors += text(name) + le32(shape.size());
    for (const auto size : shape) tensors += le64(size);
    tensors += le32(type) + le64(offset);
    ++tensor_count;
    return *this;
  }
  std::string build() const {
    auto out = "GGUF" + le32(version) + le64(tensor_count) + le64(value_count) + values + tensors;
    out.append((32 - out.size() % 32) % 32, '\0');
    return out + data;
  }
};

TensorFile open(const ScratchDirectory& folder, const std::string& bytes) {
  write_file(folder / "a.gguf", bytes);
  return open_tensor_file(folder / "a.gguf");
}

std::string complaint(const std::string& bytes) {
  const ScratchDirectory folder;
  try {
    open(folder, bytes);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "";
}

TEST(Gguf, TensorsAndValuesOfAFileMadeByHand) {
  const ScratchDirectory folder;
  Builder builder;
  builder.value("general.architecture", 8, text("rwkv7"))
      .value("a.u32", 4, le32(7))
      .value("a.i64", 11, le64(static_cast<std::uint64_t>(-5)))
      .value("a.bool", 7, std::string("\1"))
      .value("a.f32", 6, le32(0x3fc00000))
      .value("a.numbers", 9, le32(4) + le64(2) + le32(1) + le32(2))
      .value("a.texts", 9, le32(8) + le64(2) + text("x") + text(""));
  builder.tensor("w", {2, 3}, 0, 0).tensor("q", {32}, 8, 32);
  for (int i = 0; i < 6; ++i) builder.data += le32(0x3f800000);
  builder.data.resize(32);
  builder.data += std::string("\x00\x38", 2);  // 0.5
  for (int i = 0; i < 32; ++i) builder.data += static_cast<char>(i - 16);
  const auto file = open(folder, builder.build());
  EXPECT_EQ(file.metadata().at("general.architecture"), "rwkv7");
  EXPECT_EQ(file.metadata().at("a.u32"), "7");
  EXPECT_EQ(file.metadata().at("a.i64"), "-5");
  EXPECT_EQ(file.metadata().at("a.bool"), "true");
  EXPECT_EQ(file.metadata().at("a.f32"), "1.5");
  EXPECT_EQ(file.metadata().at("weights"), "q8_0");
  EXPECT_EQ(gguf_strings(file.metadata().at("a.texts")), (std::vector<std::string>{"x", ""}));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.at("w").shape, (std::vector<std::int64_t>{3, 2}));
  EXPECT_EQ(to_float32(file.at("w")), std::vector<float>(6, 1));
  const auto q = to_float32(file.at("q"));
  EXPECT_EQ(q[0], -8);
  EXPECT_EQ(q[31], 7.5);
}

TEST(Gguf, WhatIsWrittenIsRead) {
  const ScratchDirectory folder;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(3 * 64);
  for (auto& value : values) value = normal(random);
  const TensorView view{"m", DType::kF32, {3, 64}, std::as_bytes(std::span(values))};
  const TensorView half{"h", DType::kF16, {2, 1, 1, 3}, std::as_bytes(std::span(values)).first(12)};
  auto quantized = pending(view);
  quantized.name = "q";
  const GgufTensor tensors[] = {{pending(view)}, {pending(half)}, {quantized, true}};
  write_gguf(folder / "a.gguf", tensors,
             {{"general.architecture", std::string("rwkv7")},
              {"n", std::uint32_t{5}},
              {"texts", std::vector<std::string>{"a", "bc"}},
              {"ids", std::vector<std::int32_t>{1, 2}}});
  const auto file = open_tensor_file(folder / "a.gguf");
  EXPECT_EQ(file.metadata().at("n"), "5");
  EXPECT_EQ(gguf_strings(file.metadata().at("texts")), (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(to_float32(file.at("m")), values);
  EXPECT_EQ(file.at("h").shape, half.shape);
  const auto q = to_float32(file.at("q"));
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(q[i], values[i], 0.02);
  // "q" is not where the file is mapped.
  EXPECT_EQ((file.at("h").bytes.data() - file.at("m").bytes.data()) % 32, 0);
}

TEST(Gguf, OtherTypesAndDamagedFilesAreRefusedByName) {
  Builder q4;
  q4.tensor("blk.0.w", {32}, 2, 0).data.resize(64);
  EXPECT_THAT(complaint(q4.build()), HasSubstr("blk.0.w: is of type Q4_0, which is not read"));
  Builder version;
  version.version = 1;
  EXPECT_THAT(complaint(version.build()), HasSubstr("expected version 2 or 3 of GGUF, got 1"));
  version.version = 0x03000000;
  EXPECT_THAT(complaint(version.build()), HasSubstr("big-endian"));
  Builder outside;
  outside.tensor("w", {1000}, 0, 0).data.resize(64);
  EXPECT_THAT(complaint(outside.build()), HasSubstr("w: does not fit into the file"));
  Builder overlapping;
  overlapping.tensor("a", {16}, 0, 0).tensor("b", {16}, 0, 0).data.resize(64);
  EXPECT_THAT(complaint(overlapping.build()), HasSubstr("b: lies where others do"));
  Builder huge;
  huge.tensor("w", {1ull << 40, 1ull << 40}, 0, 0);
  EXPECT_THAT(complaint(huge.build()), HasSubstr("does not fit into the file"));
  Builder many;
  many.tensor_count = 1ull << 60;
  EXPECT_THAT(complaint(many.build()), HasSubstr("more than the file has room for"));
  Builder list;
  list.value("l", 9, le32(8) + le64(1ull << 61));
  EXPECT_THAT(complaint(list.build()), HasSubstr("l is longer than the file"));
  Builder nested;
  nested.value("l", 9, le32(9) + le64(1) + le32(4) + le64(0));
  EXPECT_THAT(complaint(nested.build()), HasSubstr("list of lists"));
  Builder alignment;
  alignment.value("general.alignment", 4, le32(3));
  EXPECT_THAT(complaint(alignment.build()), HasSubstr("must be a power of two, got 3"));
  Builder twice;
  twice.tensor("a", {1}, 0, 0).tensor("a", {1}, 0, 32).data.resize(64);
  EXPECT_THAT(complaint(twice.build()), HasSubstr("has the tensor a twice"));
  const auto whole = Builder().value("k", 8, text("value")).tensor("w", {4}, 0, 0).build();
  for (std::size_t size = 4; size < whole.size(); ++size)
    EXPECT_NE(complaint(whole.substr(0, size)), "") << size;
}

}  // namespace
}  // namespace rwkvx
