#include "rwkvx/formats/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "support/golden.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

// Tensors with bytes of their own.
struct Owned {
  std::vector<std::string> buffers;
  std::vector<TensorView> views;

  void add(const std::string& name, DType dtype, std::vector<std::int64_t> shape) {
    std::uint64_t count = dtype_size(dtype);
    for (const auto size : shape) count *= static_cast<std::uint64_t>(size);
    std::string bytes;
    for (std::uint64_t i = 0; i < count; ++i)
      bytes += static_cast<char>((i * 37 + name.size() * 11) & 0x3f);
    buffers.push_back(bytes);
    views.push_back({name, dtype, std::move(shape), {}});
  }
  std::span<const TensorView> get() {
    for (std::size_t i = 0; i < views.size(); ++i)
      views[i].bytes = std::as_bytes(std::span(buffers[i]));
    return views;
  }
};

Owned sample() {
  Owned tensors;
  tensors.add("emb.weight", DType::kF32, {5, 3});
  tensors.add("step", DType::kI64, {});
  tensors.add("mask", DType::kBool, {7});
  tensors.add("half", DType::kBF16, {3, 1});
  tensors.add("nothing", DType::kF32, {0, 4});
  tensors.add("blocks.0.att.key.weight", DType::kF32, {2, 2});
  return tensors;
}

// Removed first: some file systems flush a file that is truncated and written, which takes longer
// than all else in these tests.
void put(const fs::path& path, const std::string& bytes) {
  fs::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string with_header(const std::string& header, const std::string& data = "") {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

// What an operation complains of; "" where it does not.
std::string complaint(const std::function<void()>& operation) {
  try {
    operation();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "";
}

std::string content(const TensorFile& file) {
  std::string all;
  for (const auto& tensor : file.tensors()) {
    all += tensor.name + " " + std::string(dtype_name(tensor.dtype)) + shape_text(tensor.shape);
    all.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  for (const auto& [key, value] : file.metadata()) all += key + "=" + value + ";";
  return all;
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a.safetensors", tensors.get(), {{"step", "7"}, {"ünï", "\"\n"}});
  const auto file = read_safetensors(folder / "a.safetensors");
  ASSERT_EQ(file.tensors().size(), tensors.views.size());
  for (const auto& wanted : tensors.get()) {
    const auto& found = file.at(wanted.name);
    EXPECT_EQ(found.dtype, wanted.dtype);
    EXPECT_EQ(found.shape, wanted.shape);
    ASSERT_EQ(found.bytes.size(), wanted.bytes.size());
    EXPECT_TRUE(std::equal(found.bytes.begin(), found.bytes.end(), wanted.bytes.begin()));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(found.bytes.data()) % dtype_size(found.dtype), 0U);
  }
  EXPECT_EQ(file.at("nothing").numel(), 0);
  EXPECT_EQ(file.at("step").numel(), 1);
  EXPECT_EQ(file.metadata().at("step"), "7");
  EXPECT_EQ(file.metadata().at("ünï"), "\"\n");
  EXPECT_TRUE(file.has_checksums());
  EXPECT_EQ(file.find("emb"), nullptr);
  EXPECT_NO_THROW(file.verify());
}

TEST(Safetensors, TheChecksumOfATensorIsThatOfItsBytes) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a.safetensors", tensors.get());
  const auto file = read_safetensors(folder / "a.safetensors");
  EXPECT_EQ(file.metadata().at("checksum.emb.weight"), hash_bytes(tensors.buffers[0]));
}

TEST(Safetensors, TensorsOfOneDtypeKeepTheirOrderAndDataIsAligned) {
  const ScratchDirectory folder;
  Owned tensors;
  for (const auto* name : {"z", "a", "m"}) tensors.add(name, DType::kF32, {3});
  write_safetensors(folder / "a", tensors.get());
  const auto file = read_safetensors(folder / "a");
  EXPECT_EQ(file.tensors()[0].name, "z");
  EXPECT_EQ(file.tensors()[1].name, "a");
  EXPECT_EQ(file.tensors()[2].name, "m");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.tensors()[0].bytes.data()) % 64, 0U);
}

TEST(Safetensors, TheSameInputGivesTheSameBytes) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a", tensors.get(), {{"x", "1"}});
  write_safetensors(folder / "b", tensors.get(), {{"x", "1"}});
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

TEST(Safetensors, AFileWithoutTensorsIsAFile) {
  const ScratchDirectory folder;
  write_safetensors(folder / "a", {});
  EXPECT_TRUE(read_safetensors(folder / "a").tensors().empty());
  put(folder / "b", with_header("{}"));
  EXPECT_TRUE(read_safetensors(folder / "b").tensors().empty());
}

TEST(Safetensors, AMovedFileKeepsItsBytes) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a", tensors.get());
  auto first = read_safetensors(folder / "a");
  const auto before = content(first);
  const auto second = std::move(first);
  EXPECT_EQ(content(second), before);
}

TEST(Safetensors, WritingRefusesWhatNoReaderWouldTake) {
  const ScratchDirectory folder;
  const auto write = [&](const std::function<void(Owned&)>& change,
                         const std::map<std::string, std::string>& metadata = {}) {
    auto tensors = sample();
    change(tensors);
    return complaint([&] { write_safetensors(folder / "a", tensors.get(), metadata); });
  };
  EXPECT_NE(write([](Owned& t) { t.views[0].name = "step"; }).find("step: two tensors"),
            std::string::npos);
  EXPECT_NE(write([](Owned& t) {
              t.views[0].shape = {5, 4};
            }).find("(5, 4) of F32 does not fit"),
            std::string::npos);
  EXPECT_NE(write([](Owned& t) {
              t.views[0].shape = {-5, -3};
            }).find("does not fit"),
            std::string::npos);
  EXPECT_NE(write([](Owned& t) { t.views[0].name = ""; }).find("cannot have this name"),
            std::string::npos);
  EXPECT_NE(write([](Owned& t) { t.views[0].name = "\xff"; }).find("UTF-8"), std::string::npos);
  EXPECT_NE(write([](Owned&) {}, {{"checksum.x", "1"}}).find("checksum.x: "), std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "a"));
}

TEST(Safetensors, EveryMalformedHeaderIsRefusedWithItsReason) {
  const ScratchDirectory folder;
  const std::string tensor = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const std::string data(8, 'x');
  const struct {
    std::string bytes, says;
  } cases[] = {
      {"", "got 0 bytes"},
      {"1234567", "got 7 bytes"},
      {std::string(8, '\xff') + "{}", "expected a safetensors header of at most 100000000 bytes"},
      {std::string("\x05\xf5\xe1\x05\0\0\0\0", 8) + "{}", "follow: the file is cut off"},
      {with_header(" {}"), "must begin with '{'"},
      {with_header(""), "must begin with '{'"},
      {with_header("{"), "not valid JSON"},
      {with_header("{} {}"), "not valid JSON"},
      {with_header(R"({"a":1})"), "an object of objects, got 1"},
      {with_header(R"({"a":[]})"), "a list"},
      {with_header(R"({"a":{)" + tensor + R"(},"a":{)" + tensor + "}}", data),
       "a: the header names it twice"},
      {with_header(R"({"a":{)" + tensor + R"(,"shape":[2]}})", data), "a: has \"shape\" twice"},
      {with_header(R"({"a":{)" + tensor + R"(,"x":1}})", data), "a: unknown key \"x\""},
      {with_header(R"({"":{)" + tensor + "}}", data), "a tensor has no name"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2]}})", data), "a: lacks dtype"},
      {with_header(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", data),
       "a: dtype \"F31\" is unknown"},
      {with_header(R"({"a":{"dtype":3,"shape":[2],"data_offsets":[0,8]}})", data),
       "a: dtype cannot be 3"},
      {with_header(R"({"a":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}})", data), "a list"},
      {with_header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", data), "got -2"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", data), "got 2.0"},
      {with_header(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", data),
       "got a list"},
      {with_header(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})",
                   data),
       "got 18446744073709551615"},
      {with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})"),
       "needs too many bytes"},
      {with_header(
           R"({"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}})"),
       "needs too many bytes"},
      {with_header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", data),
       "a: shape (3) of F32 needs 12 bytes, got 8"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", data),
       "data_offsets must be two"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", data),
       "data_offsets must be two"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", data),
       "a: should lie in bytes 8 to 0"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234"),
       "cut off or damaged"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", data + data),
       "expected it to begin at 0"},
      {with_header(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
           data + "1234"),
       "b: lies in bytes 4 to 12 of the data, expected it to begin at 8"},
      {with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data + "x"),
       "the tensors end at byte 8 of the data, which has 9"},
      {with_header(R"({"__metadata__":{"a":1}})"), "metadata \"a\" must be a string, got 1"},
      {with_header(R"({"__metadata__":{"a":"1","a":"2"}})"), "names \"a\" twice"},
      {with_header(R"({"__metadata__":{},"__metadata__":{}})"), "twice"},
      {with_header("{\"\xff\":{}}"), "not valid JSON"},
  };
  for (const auto& [bytes, says] : cases) {
    put(folder / "a", bytes);
    const auto found = complaint([&] { const auto file = read_safetensors(folder / "a"); });
    EXPECT_NE(found.find(says), std::string::npos) << says << "\nis not in: " << found;
    EXPECT_TRUE(found.starts_with((folder / "a").string() + ": ")) << found;
  }
}

TEST(Safetensors, ADeeplyNestedHeaderIsRefusedAtOnce) {
  const ScratchDirectory folder;
  std::string header = R"({"a":)";
  for (int i = 0; i < 1'000'000; ++i) header += R"({"a":)";
  put(folder / "a", with_header(header));
  EXPECT_NE(complaint([&] { const auto file = read_safetensors(folder / "a"); }), "");
}

TEST(Safetensors, AMissingFileIsAFileError) {
  EXPECT_THROW(read_safetensors("/no/such/file"), FileError);
}

TEST(Safetensors, CutOffAnywhereIsRefused) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a", tensors.get());
  const auto whole = read_file(folder / "a");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(folder / "b", whole.substr(0, size));
    EXPECT_NE(complaint([&] { const auto file = read_safetensors(folder / "b"); }), "") << size;
  }
}

TEST(Safetensors, AFlippedBitInATensorIsFoundAndTheTensorNamed) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a", tensors.get());
  const auto whole = read_file(folder / "a");
  const auto file = read_safetensors(folder / "a");
  const auto* begin = reinterpret_cast<const char*>(file.tensors()[0].bytes.data());
  std::size_t data_bytes = 0;
  for (const auto& tensor : file.tensors()) data_bytes += tensor.bytes.size();
  for (const auto& tensor : file.tensors()) {
    for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
      auto damaged = whole;
      const auto offset =
          static_cast<std::size_t>(reinterpret_cast<const char*>(tensor.bytes.data()) - begin);
      damaged[whole.size() - data_bytes + offset + i] ^= static_cast<char>(1 << (i % 8));
      put(folder / "b", damaged);
      const auto reopened = read_safetensors(folder / "b");
      const auto found = complaint([&] { reopened.verify(); });
      EXPECT_NE(found.find("b: " + tensor.name + ": checksum "), std::string::npos) << found;
      EXPECT_NE(found.find("the file is damaged"), std::string::npos) << found;
    }
  }
}

// The strong form: whatever single bit changes, nothing different is ever taken for sound.
TEST(Safetensors, AFlippedBitAnywhereIsFoundOrChangesNothing) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a", tensors.get(), {{"step", "7"}});
  const auto whole = read_file(folder / "a");
  const auto wanted = content(read_safetensors(folder / "a"));
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    auto damaged = whole;
    damaged[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    put(folder / "b", damaged);
    const auto found = complaint([&] {
      const auto file = read_safetensors(folder / "b");
      file.verify();
      EXPECT_EQ(content(file), wanted) << "bit " << bit;
    });
    EXPECT_EQ(found.find('\n'), std::string::npos);
  }
}

TEST(Safetensors, RandomDamageGivesAnErrorOrAFileThatCanBeRead) {
  const ScratchDirectory folder;
  auto tensors = sample();
  write_safetensors(folder / "a", tensors.get(), {{"step", "7"}});
  const auto whole = read_file(folder / "a");
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    auto damaged = whole;
    const int changes = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < changes && !damaged.empty(); ++i) {
      const auto at = random() % damaged.size();
      switch (random() % 5) {
        case 0:
          damaged[at] = static_cast<char>(random());
          break;
        case 1:
          damaged.erase(at, random() % 20);
          break;
        case 2:
          damaged.insert(at, damaged.substr(random() % damaged.size(), random() % 40));
          break;
        case 3:
          damaged[at] = "0123456789{}[],:\""[random() % 17];
          break;
        default:
          if (damaged.size() >= 8) damaged[random() % 8] = static_cast<char>(random() % 8);
      }
    }
    put(folder / "b", damaged);
    refused += complaint([&] {
                 const auto file = read_safetensors(folder / "b");
                 file.verify();
                 content(file);
               }).empty()
                   ? 0
                   : 1;
  }
  EXPECT_GT(refused, 3000);
}

TEST(Safetensors, FilesOfOtherToolsHaveNoChecksumsAndLoad) {
  const auto file = read_safetensors(test::golden_dirs("model").front() / "hf_rwkv4.safetensors");
  EXPECT_FALSE(file.has_checksums());
  EXPECT_NO_THROW(file.verify());
  EXPECT_EQ(file.at("head.weight").shape, (std::vector<std::int64_t>{17, 8}));
  EXPECT_EQ(file.at("head.weight").numel(), 136);
}

TEST(Safetensors, EveryGoldenFileLoads) {
  int files = 0;
  RWKVX_FOR_EACH_GOLDEN("model")
  for (const auto& entry : fs::directory_iterator(golden))
    if (entry.path().extension() == ".safetensors") {
      EXPECT_FALSE(read_safetensors(entry.path()).tensors().empty()) << entry.path();
      ++files;
    }
  EXPECT_GT(files, 0);
}

template <class Stored>
TensorView view_of_values(const std::vector<Stored>& values, DType dtype) {
  return {"x", dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))};
}

TEST(ToFloat32, ConvertsEveryHalfExactly) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  const auto floats = to_float32(view_of_values(halves, DType::kF16));
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const int exponent = (static_cast<int>(i) >> 10) & 31, fraction = static_cast<int>(i) & 1023;
    double wanted =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) wanted = fraction == 0 ? HUGE_VAL : NAN;
    if (i >= 32768) wanted = -wanted;
    if (std::isnan(wanted)) {
      EXPECT_TRUE(std::isnan(floats[i])) << i;
    } else {
      EXPECT_EQ(floats[i], wanted) << i;
    }
    EXPECT_EQ(std::signbit(floats[i]), i >= 32768) << i;
  }
}

TEST(ToFloat32, ConvertsTheOtherFloatingPointNumbers) {
  EXPECT_EQ(to_float32(view_of_values(std::vector<std::uint16_t>{0x3f80, 0xc049, 0}, DType::kBF16)),
            (std::vector<float>{1.0F, -3.140625F, 0.0F}));
  EXPECT_EQ(to_float32(view_of_values(std::vector<double>{1.5, 1.0 / 3}, DType::kF64)),
            (std::vector<float>{1.5F, 1.0F / 3}));
  EXPECT_EQ(to_float32(view_of_values(std::vector<float>{-2.25F}, DType::kF32)),
            (std::vector<float>{-2.25F}));
}

TEST(ToFloat32, ReadsFromAnyAddress) {
  std::string bytes(9, '\0');
  const float value = 1.25F;
  std::memcpy(bytes.data() + 1, &value, 4);
  const TensorView view{"x", DType::kF32, {1}, std::as_bytes(std::span(bytes)).subspan(1, 4)};
  EXPECT_EQ(to_float32(view), (std::vector<float>{1.25F}));
}

TEST(ToFloat32, RefusesIntegersByName) {
  const auto found =
      complaint([] { to_float32(view_of_values(std::vector<std::int64_t>{1}, DType::kI64)); });
  EXPECT_EQ(found, "x: expected numbers of dtype F64, F32, F16 or BF16, got I64");
}

}  // namespace
}  // namespace rwkvx
