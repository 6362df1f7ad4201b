#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/formats/safetensors.h"
#include "support/golden.h"
#include "support/pth_builder.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using test::PthBuilder;
namespace fs = std::filesystem;
namespace pickle = test::pickle;

// Removed first: some file systems flush a file that is truncated and written.
void put(const fs::path& path, const std::string& bytes) {
  fs::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

// What a file of these bytes is refused for; "" where it is read.
std::string complaint(const std::string& bytes) {
  static const ScratchDirectory folder;  // one for all: this is called by the thousand
  put(folder / "a.pth", bytes);
  try {
    const auto file = open_tensor_file(folder / "a.pth");
    // Every byte that it hands out can be read.
    std::size_t sum = 0;
    for (const auto& tensor : file.tensors())
      for (const auto byte : tensor.bytes) sum += static_cast<std::size_t>(byte);
    return sum == std::size_t(-1) ? "?" : "";
  } catch (const CheckpointError& error) {
    const std::string what = error.what();
    EXPECT_TRUE(what.starts_with((folder / "a.pth").string() + ": ")) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos);
    return what;
  }
}

void expect_refused(const std::string& bytes, const std::string& says) {
  const auto found = complaint(bytes);
  EXPECT_NE(found.find(says), std::string::npos) << says << "\nis not in: " << found;
}

PthBuilder sample() {
  PthBuilder builder;
  builder.add("emb.weight", {5, 3});
  builder.add("scalar", {}, 7);
  builder.add("empty", {0, 2});
  builder.add("one", {1, 1, 4}, -1);
  return builder;
}

std::vector<float> values(const TensorFile& file, const std::string& name) {
  const auto* tensor = file.find(name);
  return tensor == nullptr ? std::vector<float>{} : to_float32(*tensor);
}

TensorFile open(const ScratchDirectory& folder, const std::string& bytes) {
  put(folder / "a.pth", bytes);
  return open_tensor_file(folder / "a.pth");
}

TEST(Pth, AFileOfTorchSaveHoldsWhatItsSafetensorsTwinHolds) {
  const auto golden = test::golden_dirs("model").front();
  const auto pth = open_tensor_file(golden / "hf_rwkv4.pth");
  const auto twin = read_safetensors(golden / "hf_rwkv4.safetensors");
  ASSERT_EQ(pth.tensors().size(), twin.tensors().size());
  for (const auto& wanted : twin.tensors()) {
    const auto* found = pth.find(wanted.name);
    ASSERT_NE(found, nullptr) << wanted.name;
    EXPECT_EQ(found->dtype, wanted.dtype);
    EXPECT_EQ(found->shape, wanted.shape);
    EXPECT_TRUE(std::equal(found->bytes.begin(), found->bytes.end(), wanted.bytes.begin(),
                           wanted.bytes.end()))
        << wanted.name;
  }
}

TEST(Pth, TensorsComeInTheDictsOrder) {
  const ScratchDirectory folder;
  const auto file = open(folder, sample().build());
  ASSERT_EQ(file.tensors().size(), 4U);
  EXPECT_EQ(file.tensors()[0].name, "emb.weight");
  EXPECT_EQ(file.tensors()[3].shape, (std::vector<std::int64_t>{1, 1, 4}));
  EXPECT_EQ(values(file, "one"), (std::vector<float>{-1, 0, 1, 2}));
  EXPECT_EQ(values(file, "scalar"), (std::vector<float>{7}));
  EXPECT_EQ(values(file, "empty"), (std::vector<float>{}));
  EXPECT_EQ(file.find("two"), nullptr);
}

// A training saves the model beside its optimizer.
TEST(Pth, ADictInsideTheDictIsTheModel) {
  const ScratchDirectory folder;
  const auto inner = [](const PthBuilder& builder) {
    const auto whole = pickle::dict(builder.items);
    return whole.substr(2, whole.size() - 3);  // without protocol and end
  };
  for (const char* name : {"state_dict", "model_state_dict", "model", "module"}) {
    auto builder = sample();
    builder.items = {{"epoch", "K\x01"}, {name, inner(builder)}, {"optimizer", "}"}};
    EXPECT_EQ(values(open(folder, builder.build()), "scalar"), (std::vector<float>{7})) << name;
    builder.items = {{"model", inner(builder)}};
    EXPECT_EQ(values(open(folder, builder.build()), "scalar"), (std::vector<float>{7})) << name;
  }
  // Tensors beside it are the model.
  auto builder = sample();
  builder.items.emplace_back("state_dict", "}");
  EXPECT_EQ(values(open(folder, builder.build()), "scalar"), (std::vector<float>{7}));
}

TEST(Pth, NumbersOfOtherKindsAreNamed) {
  const auto asks = [](const std::string& module, const std::string& name) {
    PthBuilder builder;
    builder.items.emplace_back("x", pickle::global(module, name));
    return builder.build();
  };
  expect_refused(asks("torch._utils", "_rebuild_tensor_v3"), "of a type such as fp8");
  expect_refused(asks("torch", "float8_e4m3fn"), "convert the weights to bfloat16");
  expect_refused(asks("torch.storage", "UntypedStorage"), "of a type such as fp8");
  expect_refused(asks("torch._utils", "_rebuild_qtensor"), "holds quantized tensors of PyTorch");
  expect_refused(asks("torch", "QInt8Storage"), "holds quantized tensors of PyTorch");
}

TEST(Pth, LargeArchivesInZip64FormAreRead) {
  const ScratchDirectory folder;
  const auto builder = sample();
  auto zip = builder.zip(pickle::dict(builder.items));
  zip.wide = true;
  zip.comment = "a comment with PK\x05\x06 in it";
  EXPECT_EQ(values(open(folder, zip.build()), "scalar"), (std::vector<float>{7}));
}

TEST(Pth, TransposedAndSlicedTensorsAreCopied) {
  const ScratchDirectory folder;
  PthBuilder builder;
  builder.add("whole", {2, 3});
  const auto storage = pickle::storage("FloatStorage", "0", 6);
  builder.items.emplace_back("transposed", pickle::tensor(storage, 0, {3, 2}, {1, 3}));
  builder.items.emplace_back("column", pickle::tensor(storage, 1, {2}, {3}));
  builder.items.emplace_back("row", pickle::tensor(storage, 3, {1, 3}, {99, 1}));
  auto file = open(folder, builder.build());
  EXPECT_EQ(values(file, "transposed"), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(values(file, "column"), (std::vector<float>{1, 4}));
  EXPECT_EQ(values(file, "row"), (std::vector<float>{3, 4, 5}));
  const auto moved = std::move(file);
  EXPECT_EQ(values(moved, "transposed"), (std::vector<float>{0, 3, 1, 4, 2, 5}));
}

TEST(Pth, EveryStorageClassHasItsDtype) {
  const ScratchDirectory folder;
  const struct {
    std::string name;
    DType dtype;
  } classes[] = {{"DoubleStorage", DType::kF64}, {"FloatStorage", DType::kF32},
                 {"HalfStorage", DType::kF16},   {"BFloat16Storage", DType::kBF16},
                 {"LongStorage", DType::kI64},   {"IntStorage", DType::kI32},
                 {"ShortStorage", DType::kI16},  {"CharStorage", DType::kI8},
                 {"ByteStorage", DType::kU8},    {"BoolStorage", DType::kBool}};
  PthBuilder builder;
  for (const auto& [name, dtype] : classes) {
    const auto key = builder.add_storage(std::string(2 * dtype_size(dtype), '\1'));
    builder.items.emplace_back(name, pickle::tensor(pickle::storage(name, key, 2), 0, {2}, {1}));
  }
  const auto file = open(folder, builder.build());
  for (const auto& [name, dtype] : classes) {
    ASSERT_NE(file.find(name), nullptr) << name;
    EXPECT_EQ(file.find(name)->dtype, dtype);
  }
}

TEST(Pth, ParametersOrderedDictsAndModuleVersionsAreUnderstood) {
  const ScratchDirectory folder;
  PthBuilder builder;
  builder.add("unused", {2}, 5);
  const auto tensor = pickle::tensor(pickle::storage("FloatStorage", "0", 2), 0, {2}, {1});
  const auto ordered = pickle::global("collections", "OrderedDict") + ")R";
  // OrderedDict(w=Parameter(tensor)) with an attribute _metadata.
  const auto pickled = "\x80\x02" + ordered + pickle::text("w") +
                       pickle::global("torch._utils", "_rebuild_parameter") + "(" + tensor +
                       "\x88" + ordered + "tRs}" + pickle::text("_metadata") + ordered + "sb.";
  EXPECT_EQ(values(open(folder, builder.zip(pickled).build()), "w"), (std::vector<float>{5, 6}));
}

TEST(Pth, ProtocolFourIsUnderstood) {
  const ScratchDirectory folder;
  PthBuilder builder;
  builder.add("unused", {2}, 5);
  const auto small_text = [](const std::string& x) {
    return "\x8c" + std::string(1, static_cast<char>(x.size())) + x + "\x94";
  };
  const auto stack_global = [&](const std::string& module, const std::string& name) {
    return small_text(module) + small_text(name) + "\x93\x94";
  };
  std::string body =
      "}\x94" + small_text("w") + stack_global("torch._utils", "_rebuild_tensor_v2") + "((" +
      small_text("storage") + stack_global("torch", "FloatStorage") + small_text("0") +
      small_text("cpu") + std::string("K\x02t\x94QK\0K\x02\x85\x94", 11);
  body += "K\x01\x85\x94\x89" + stack_global("collections", "OrderedDict") + ")R\x94t\x94R\x94s.";
  const auto pickled = "\x80\x04\x95" + test::le64(body.size()) + body;
  EXPECT_EQ(values(open(folder, builder.zip(pickled).build()), "w"), (std::vector<float>{5, 6}));
}

TEST(Pth, PlainValuesOfTheDictAreMetadata) {
  const ScratchDirectory folder;
  auto builder = sample();
  const auto add = [&](const std::string& key, const std::string& value) {
    builder.items.emplace_back(key, value);
  };
  add("_strategy", pickle::text("cpu fp32"));
  add("_rescale_layer", "K\x06");
  add("_version", std::string("G\x3f\xe6\x66\x66\x66\x66\x66\x66", 9));
  add("flag", "\x88");
  add("none", "N");
  add("wide", pickle::integer(-5));
  add("small", std::string("J\xfe\xff\xff\xff", 5));
  add("long", std::string("\x8a\x01\xff", 3));
  add("longer", std::string("\x8a\x02\xff\x00", 4));
  add("list",
      "](K\x01K\x02"
      "e");
  const auto file = open(folder, builder.build());
  const std::map<std::string, std::string> wanted{
      {"_strategy", "cpu fp32"}, {"_rescale_layer", "6"}, {"_version", "0.7"},
      {"flag", "true"},          {"none", "null"},        {"wide", "-5"},
      {"small", "-2"},           {"long", "-1"},          {"longer", "255"}};
  EXPECT_EQ(file.metadata(), wanted);
  EXPECT_EQ(file.tensors().size(), 4U);
}

std::string with_pickle(const std::string& pickled) { return sample().zip(pickled).build(); }

TEST(Pth, WhatTheFileAsksToRunIsRefusedByName) {
  expect_refused(
      with_pickle("\x80\x02" + pickle::global("os", "system") + pickle::text("true") + "\x85R."),
      "archive/data.pkl: asks for os.system, which is refused");
  expect_refused(with_pickle("\x80\x04\x8c\x08"
                             "builtins"
                             "\x8c\x04"
                             "eval"
                             "\x93."),
                 "asks for builtins.eval, which is refused");
  expect_refused(with_pickle("\x80\x02" + pickle::global("torch", "load") + "."),
                 "asks for torch.load");
  expect_refused(with_pickle("\x80\x02(ios\nsystem\n."), "pickle opcode 0x69 (INST) at byte 3");
  expect_refused(with_pickle("\x80\x02)\x81."), "pickle opcode 0x81 (NEWOBJ)");
  expect_refused(with_pickle("\x80\x02\x82\x01."), "pickle opcode 0x82 (EXT1)");
  expect_refused(with_pickle("\x80\x02\xf0."), "pickle opcode 0xf0 (unknown)");
  expect_refused(with_pickle("\x80\x02" + pickle::global("torch", "FloatStorage") + ")R."),
                 "a storage's class cannot be called");
}

TEST(Pth, MalformedPicklesAreRefused) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "it is cut off"},
      {"\x80", "it is cut off"},
      {"\x80\x01.", "protocol 2 to 5, got 1"},
      {"\x80\x02.", "does not end with one object"},
      {"\x80\x02}}.", "does not end with one object"},
      {"\x80\x02(}.", "does not end with one object"},
      {"\x80\x02}(", "it is cut off"},
      {"\x80\x02].", "expected a dict of tensors, got a list"},
      {"\x80\x02"
       "K\x01.",
       "expected a dict of tensors, got an integer"},
      {"\x80\x02t.", "there is no mark"},
      {"\x80\x02\x85.", "the stack is empty"},
      {"\x80\x02}(\x85.", "the stack is empty"},
      {"\x80\x02}h\x05.", "nothing was put at 5"},
      {"\x80\x02q\x05.", "the stack is empty"},
      {"\x80\x02}NNNu.", "there is no mark"},
      {"\x80\x02}(NNNu.", "a key has no value"},
      {"\x80\x02}(NNu.", "expected strings as the dict's keys, got None"},
      {"\x80\x02NNNs.", "expected a dict, got None"},
      {"\x80\x02X\xff\xff\xff\xff.", "it is cut off"},
      {"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "it is cut off"},
      {"\x80\x02\x8a\x09"
       "123456789.",
       "an integer has more than 64 bits"},
      {"\x80\x02"
       "cos.",
       "it is cut off"},
      {"\x80\x02NN\x93.", "expected a string, got None"},
      {"\x80\x02NQ.", "expected a tuple, got None"},
      {"\x80\x02)Q.", "expected the five parts of a storage"},
      {"\x80\x02N)R.", "expected a class, got None"},
      {"\x80\x02Nb.", "the stack is empty"},
  };
  for (const auto& [pickled, says] : cases) expect_refused(with_pickle(pickled), says);
  expect_refused(with_pickle(pickle::dict({{"a", "N"}, {"a", "N"}})), "the dict has a twice");
  expect_refused(with_pickle(std::string("\x80\x04\x95\xff\0\0\0\0\0\0\0}.", 12)),
                 "a frame reaches");
}

TEST(Pth, TensorsThatDoNotFitTheirStorageAreRefusedByName) {
  const auto refused = [](std::int64_t offset, const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& strides, const std::string& says) {
    PthBuilder builder;
    builder.add("x", {6});
    builder.items.emplace_back(
        "w", pickle::tensor(pickle::storage("FloatStorage", "0", 6), offset, shape, strides));
    expect_refused(builder.build(), says);
  };
  const auto large = std::int64_t{1} << 62;
  refused(1, {6}, {1}, "a.pth: w: shape (6) reaches outside its storage");
  refused(0, {7}, {1}, "reaches outside its storage");
  refused(0, {2, 3}, {4, 1}, "reaches outside its storage");
  refused(-1, {2}, {1}, "negative offset");
  refused(0, {-2}, {1}, "negative size or stride");
  refused(5, {2}, {-1}, "negative size or stride");
  refused(0, {large, large}, {0, 0}, "is too large");
  refused(0, {large, large, 0}, {0, 0, 0}, "is too large");
  refused(0, {3}, {large}, "reaches outside its storage");
  refused(large, {2}, {large}, "reaches outside its storage");
  refused(7, {0}, {1}, "reaches outside its storage");
  refused(0, {1000, 1000}, {0, 0}, "repeats elements of its storage");
  refused(0, {2}, {1, 1}, "1 sizes but 2 strides");
  refused(0, std::vector<std::int64_t>(33, 1), std::vector<std::int64_t>(33, 1), "32 dimensions");
}

TEST(Pth, StoragesMustBeWholeAndThere) {
  const auto refused = [](const std::string& storage, const std::string& says) {
    PthBuilder builder;
    builder.add("x", {6});
    builder.items.emplace_back("w", pickle::tensor(storage, 0, {2}, {1}));
    expect_refused(builder.build(), says);
  };
  refused(pickle::storage("FloatStorage", "0", 5), "should hold 5 elements of F32, got 24 bytes");
  refused(pickle::storage("FloatStorage", "0", -6), "should hold -6 elements");
  refused(pickle::storage("DoubleStorage", "0", (std::int64_t{1} << 61) + 3), "got 24 bytes");
  refused(pickle::storage("FloatStorage", "9", 6), "the archive has no archive/data/9");
  refused(pickle::storage("FloatStorage", "../data.pkl", 6), "the archive has no");
  refused(pickle::storage("QInt8Storage", "0", 6),
          "holds quantized tensors of PyTorch (torch.QInt8Storage)");
}

TEST(Pth, ManyViewsOfOneStorageCannotFillTheMemory) {
  PthBuilder builder;
  builder.add("x", {256, 256});
  const auto storage = pickle::storage("FloatStorage", "0", 65536);
  for (int i = 0; i < 50; ++i)
    builder.items.emplace_back("w" + std::to_string(i),
                               pickle::tensor(storage, 0, {256, 256}, {1, 256}));
  expect_refused(builder.build(), "too many tensors are views of the same bytes");
}

TEST(Pth, DeepAndSelfContainingObjectsDoNoHarm) {
  std::string deep = "\x80\x02}" + pickle::text("a") + ")";
  for (int i = 0; i < 900'000; ++i) deep += '\x85';
  EXPECT_EQ(complaint(with_pickle(deep + "s.")), "");
  EXPECT_EQ(complaint(with_pickle("\x80\x02}q\x01" + pickle::text("me") + "h\x01s.")), "");
  std::string laughs = "\x80\x02}" + pickle::text("a") + ")";  // 2^1000 elements if unfolded
  for (int i = 0; i < 1000; ++i) laughs += "q\x01h\x01\x86";
  EXPECT_EQ(complaint(with_pickle(laughs + "s.")), "");
  expect_refused(with_pickle("\x80\x02" + std::string(3'000'000, 'N') + "."), "too many");
  expect_refused(with_pickle(std::string(17 << 20, 'N')), "bytes, expected at most");
}

TEST(Pth, DamagedArchivesAreRefused) {
  const auto builder = sample();
  const auto good = builder.zip(pickle::dict(builder.items));
  expect_refused("PK\x05\x06", "expected the zip archive that torch.save writes");
  expect_refused("PK\x03\x04", "too short for a zip archive");
  expect_refused(good.build() + "x", "the zip archive has no directory");
  auto zip = good;
  zip.method = 8;
  expect_refused(zip.build(), "archive/data.pkl is compressed, expected the stored entries");
  zip = good;
  zip.entries.push_back(zip.entries[0]);
  expect_refused(zip.build(), "the archive has archive/data.pkl twice");
  zip = good;
  zip.entries[0].first = "archive/x";
  expect_refused(zip.build(), "the archive has no data.pkl");
  zip = good;
  zip.entries.emplace_back("other/data.pkl", "}.");
  expect_refused(zip.build(), "two directories with data.pkl");
  zip = good;
  zip.entries.back().second = "big";
  expect_refused(zip.build(), "expected little-endian tensors, got byte order big");
  for (const bool wide : {false, true}) {
    zip = good;
    zip.wide = wide;
    auto bytes = zip.build();
    // The number of entries and the directory's size, as if there were billions.
    const auto at = wide ? bytes.rfind("PK\x06\x06") + 24 : bytes.size() - 14;
    for (std::size_t i = 0; i < (wide ? 24U : 10U); ++i) bytes[at + i] = '\xfe';
    expect_refused(bytes, "does not fit into the file");
  }
}

TEST(Pth, CutOffAnywhereIsRefused) {
  const auto whole = sample().build();
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(complaint(whole.substr(0, size)), "") << size;
}

TEST(Pth, RandomDamageGivesAnErrorOrAFileThatCanBeRead) {
  const auto builder = sample();
  auto wide = builder.zip(pickle::dict(builder.items));
  wide.wide = true;
  std::vector<std::string> whole{builder.build(), wide.build()};
  whole.push_back(read_file(test::golden_dirs("model").front() / "hf_rwkv4.pth"));
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 6000; ++round) {
    auto damaged = whole[static_cast<std::size_t>(round) % whole.size()];
    const auto changes = 1 + random() % 6;
    for (std::size_t i = 0; i < changes && !damaged.empty(); ++i) {
      // Half of the damage goes into the pickle, where most of the meaning is.
      const auto pickled = damaged.find("data.pkl");
      const auto at = random() % 2 == 0 && pickled != std::string::npos
                          ? std::min<std::size_t>(pickled + random() % 600, damaged.size() - 1)
                          : random() % damaged.size();
      switch (random() % 4) {
        case 0:
          damaged[at] = static_cast<char>(random());
          break;
        case 1:
          damaged[at] ^= static_cast<char>(1 << (random() % 8));
          break;
        case 2:
          damaged[at] = "(.tuseaR)}]bQqhrjXKMJG\x85\x86\x87\x88\x89\x8a\x93\x94"[random() % 30];
          break;
        default:  // keeps the length, so that the archive stays whole
          damaged.replace(at, 8, damaged.substr(random() % damaged.size(), 8));
      }
    }
    refused += complaint(damaged).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 2000);
  EXPECT_LT(refused, 6000);
}

}  // namespace
}  // namespace rwkvx
