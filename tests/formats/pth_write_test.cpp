#include <gtest/gtest.h>

#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/formats/pth.h"
#include "rwkvx/formats/tensor_file.h"
#include "support/golden.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

struct Owned {
  std::vector<float> floats{1, 2, 3, 4, 5, 6};
  std::vector<std::byte> small{std::byte{1}, std::byte{2}};
  std::vector<TensorView> views() const {
    return {{"blocks.0.att.key.weight", DType::kF32, {2, 3}, std::as_bytes(std::span(floats))},
            {"half", DType::kF16, {1, 1, 1}, small},
            {"empty", DType::kBF16, {0, 300}, {}},
            {"scalar", DType::kBF16, {}, small}};
  }
};

TEST(PthWriter, WhatIsWrittenIsRead) {
  const ScratchDirectory folder;
  const Owned owned;
  write_pth(folder / "a.pth", pending(owned.views()));
  const auto file = open_tensor_file(folder / "a.pth");
  const auto wanted = owned.views();
  ASSERT_EQ(file.tensors().size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto& found = file.tensors()[i];
    EXPECT_EQ(found.name, wanted[i].name);
    EXPECT_EQ(found.dtype, wanted[i].dtype);
    EXPECT_EQ(found.shape, wanted[i].shape);
    EXPECT_TRUE(std::equal(found.bytes.begin(), found.bytes.end(), wanted[i].bytes.begin(),
                           wanted[i].bytes.end()));
    EXPECT_EQ((found.bytes.data() - file.tensors()[0].bytes.data()) % 64, 0) << found.name;
  }
}

TEST(PthWriter, TheNameOfTheFileDoesNotMatter) {
  const ScratchDirectory folder;
  const Owned owned;
  write_pth(folder / "a.pth", pending(owned.views()));
  write_pth(folder / "other", pending(owned.views()));
  EXPECT_EQ(read_file(folder / "a.pth"), read_file(folder / "other"));
}

TEST(PthWriter, AFileOfPyTorchIsWrittenAgainWithTheSameTensors) {
  const ScratchDirectory folder;
  const auto from = open_tensor_file(test::golden_dirs("model").front() / "hf_rwkv4.pth");
  write_pth(folder / "a.pth", pending(from.tensors()));
  const auto again = open_tensor_file(folder / "a.pth");
  ASSERT_EQ(again.tensors().size(), from.tensors().size());
  for (std::size_t i = 0; i < from.tensors().size(); ++i) {
    EXPECT_EQ(again.tensors()[i].name, from.tensors()[i].name);
    EXPECT_TRUE(std::equal(again.tensors()[i].bytes.begin(), again.tensors()[i].bytes.end(),
                           from.tensors()[i].bytes.begin(), from.tensors()[i].bytes.end()));
  }
}

TEST(PthWriter, RefusesWhatPyTorchHasNotAndWritesNothing) {
  const ScratchDirectory folder;
  const auto complaint = [&](const TensorView& tensor) -> std::string {
    try {
      write_pth(folder / "a.pth", pending(std::vector{tensor, tensor}));
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "";
  };
  const std::vector<std::byte> bytes(8);
  EXPECT_NE(complaint({"a", DType::kU8, {8}, bytes}).find("a: two tensors have this name"),
            std::string::npos);
  const auto alone = [&](const TensorView& tensor) -> std::string {
    try {
      write_pth(folder / "a.pth", pending(std::span(&tensor, 1)));
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(alone({"a", DType::kU64, {1}, bytes}).find("a: is of type U64"), std::string::npos);
  EXPECT_NE(alone({"a", DType::kF32, {3}, bytes}).find("(3) of F32 does not fit its 8 bytes"),
            std::string::npos);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

// The bits of half precision that NumPy rounds these numbers to.
TEST(Conversion, RoundsToTheNearestTiesToEven) {
  const std::vector<float> values{
      0.0f,       -0.0f,        1.0f,         65504.0f,       65519.0f,       0x1p-24f, 0x1p-25f,
      0x1.8p-25f, 0x1.ff8p-15f, 0x1.fffp-15f, 1.00048828125f, 1.00146484375f, -2.5f,    0.1f};
  const std::vector<std::uint16_t> wanted{0x0000, 0x8000, 0x3c00, 0x7bff, 0x7bff, 0x0001, 0x0000,
                                          0x0001, 0x03ff, 0x0400, 0x3c00, 0x3c02, 0xc100, 0x2e66};
  const TensorView view{"x",
                        DType::kF32,
                        {static_cast<std::int64_t>(values.size())},
                        std::as_bytes(std::span(values))};
  const auto bytes = converted(view, DType::kF16);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    std::uint16_t found = 0;
    std::memcpy(&found, bytes.data() + 2 * i, 2);
    EXPECT_EQ(found, wanted[i]) << values[i];
  }
  const float large = 70000;
  EXPECT_THROW(converted({"x", DType::kF32, {1}, std::as_bytes(std::span(&large, 1))}, DType::kF16),
               CheckpointError);
  const std::vector<float> brain{1.00390625f, 1.01171875f, 3.4e38f};  // ties; near the largest
  const auto small =
      converted({"x", DType::kF32, {3}, std::as_bytes(std::span(brain))}, DType::kBF16);
  std::uint16_t found[3];
  std::memcpy(found, small.data(), 6);
  EXPECT_EQ(found[0], 0x3f80);
  EXPECT_EQ(found[1], 0x3f82);
  EXPECT_EQ(found[2], 0x7f80);
}

}  // namespace
}  // namespace rwkvx
