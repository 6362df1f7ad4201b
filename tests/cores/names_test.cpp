#include "rwkvx/cores/names.h"

#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/formats/safetensors.h"
#include "support/golden.h"
#include "support/pth_builder.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using test::PthBuilder;

std::vector<std::string> names(const TensorFile& file) {
  std::vector<std::string> all;
  for (const auto& tensor : file.tensors()) all.push_back(tensor.name);
  return all;
}

PthBuilder pth_with(const std::vector<std::string>& tensors) {
  PthBuilder builder;
  for (const auto& name : tensors) builder.add(name, {2});
  return builder;
}

TensorFile open(const ScratchDirectory& folder, const std::string& bytes) {
  write_file(folder / "model", bytes);
  return open_tensors(folder / "model");
}

void expect_refused(const std::string& bytes, const std::string& says) {
  const ScratchDirectory folder;
  try {
    open(folder, bytes);
    ADD_FAILURE() << "read, expected: " << says;
  } catch (const CheckpointError& error) {
    const std::string found = error.what();
    EXPECT_NE(found.find(says), std::string::npos) << says << "\nis not in: " << found;
    EXPECT_TRUE(found.starts_with((folder / "model").string())) << found;
  }
}

TEST(TensorFile, ContentDecidesTheFormatNotTheName) {
  const ScratchDirectory folder;
  EXPECT_EQ(open(folder, pth_with({"blocks.0.att.key.weight"}).build()).tensors().size(), 1U);
  const std::vector<float> values{1, 2};
  const TensorView view{
      "blocks.0.att.key.weight", DType::kF32, {2}, std::as_bytes(std::span(values))};
  write_safetensors(folder / "model.pth", {&view, 1}, {{"step", "3"}});
  const auto file = open_tensors(folder / "model.pth");
  EXPECT_EQ(to_float32(file.at("blocks.0.att.key.weight")), values);
  EXPECT_EQ(file.metadata().at("step"), "3");
  EXPECT_EQ(file.find("x"), nullptr);
  EXPECT_THROW(file.at("x"), CheckpointError);
}

TEST(TensorFile, BothFormsOfTheGoldenModelAreTheSame) {
  const auto golden = test::golden_dirs("model").front();
  const auto a = open_tensors(golden / "hf_rwkv4.pth");
  const auto b = open_tensors(golden / "hf_rwkv4.safetensors");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const auto& tensor : a.tensors())
    EXPECT_EQ(to_float32(tensor), to_float32(b.at(tensor.name))) << tensor.name;
}

TEST(TensorFile, OutlivesItsCopies) {
  const ScratchDirectory folder;
  auto file =
      std::make_unique<TensorFile>(open(folder, pth_with({"blocks.0.att.key.weight"}).build()));
  const TensorFile copy = *file;
  file.reset();
  EXPECT_EQ(to_float32(copy.tensors()[0]), (std::vector<float>{0, 1}));
}

TEST(TensorFile, ConvertedNamesBecomeOfficial) {
  const std::pair<std::string, std::string> cases[] = {
      {"rwkv.embeddings.weight", "emb.weight"},
      {"rwkv.blocks.0.pre_ln.bias", "blocks.0.ln0.bias"},
      {"rwkv.blocks.10.ln1.weight", "blocks.10.ln1.weight"},
      {"rwkv.blocks.1.attention.time_mix_key", "blocks.1.att.time_mix_k"},
      {"rwkv.blocks.1.attention.time_mix_value", "blocks.1.att.time_mix_v"},
      {"rwkv.blocks.1.attention.time_mix_receptance", "blocks.1.att.time_mix_r"},
      {"rwkv.blocks.1.attention.key.weight", "blocks.1.att.key.weight"},
      {"rwkv.blocks.1.attention.time_decay", "blocks.1.att.time_decay"},
      {"rwkv.blocks.1.feed_forward.time_mix_key", "blocks.1.ffn.time_mix_k"},
      {"rwkv.blocks.1.feed_forward.receptance.weight", "blocks.1.ffn.receptance.weight"},
      {"rwkv.ln_out.weight", "ln_out.weight"},
      {"head.weight", "head.weight"},
      {"_forward_module.blocks.0.att.time_first", "blocks.0.att.time_first"},
      {"_forward_module.head.weight", "head.weight"},
      {"blocks.0.att.shift.conv", "blocks.0.att.shift.conv"},
      {"blocks.0.att.key.weight", "blocks.0.att.key.weight"},
      {"emb.weight", "emb.weight"},
      {"", ""},
      {"blocks.", "blocks."},
  };
  for (const auto& [given, wanted] : cases) EXPECT_EQ(official_name(given), wanted);
}

TEST(TensorFile, ConvertedFilesAreOpenedUnderOfficialNames) {
  const ScratchDirectory folder;
  const auto file =
      open(folder,
           pth_with({"rwkv.embeddings.weight", "head.weight", "rwkv.blocks.0.attention.key.weight"})
               .build());
  EXPECT_EQ(names(file),
            (std::vector<std::string>{"emb.weight", "head.weight", "blocks.0.att.key.weight"}));
}

TEST(TensorFile, TwoTensorsOfOneOfficialNameAreRefused) {
  expect_refused(
      pth_with({"blocks.0.att.key.weight", "rwkv.blocks.0.attention.key.weight"}).build(),
      "rwkv.blocks.0.attention.key.weight: is another tensor by the name of "
      "blocks.0.att.key.weight");
}

TEST(TensorFile, OtherVersionsOfRwkvAreRefusedByVersion) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"blocks.0.att.key.weight", "blocks.0.att.ln_x.weight"}, "5"},
      {{"blocks.0.att.gate.weight", "blocks.0.att.ln_x.weight"}, "5.2"},
      {{"blocks.0.att.gate.weight", "blocks.0.att.ln_x.weight", "blocks.0.att.time_maa_x"}, "6"},
      {{"blocks.1.att.time_maa_w1"}, "6"},
  };
  for (const auto& [tensors, version] : cases)
    expect_refused(pth_with(tensors).build(),
                   "expected an RWKV-4 or RWKV-7 model, got RWKV-" + version);
}

TEST(TensorFile, VersionFourIsWhatHasNoneOfTheLaterNames) {
  const TensorView tensors[] = {{"emb.weight", DType::kF32, {}, {}},
                                {"blocks.11.ffn.key.weight", DType::kF32, {}, {}}};
  EXPECT_EQ(rwkv_version(tensors), "4");
  EXPECT_EQ(rwkv_version(std::span(tensors, 1)), "");
}

TEST(TensorFile, WeightsConvertedForOneDeviceAreRefused) {
  for (const auto* mark : {"_rescale_layer", "_strategy", "_version"}) {
    auto builder = pth_with({"blocks.0.att.key.weight"});
    builder.items.emplace_back(mark, "K\x06");
    expect_refused(builder.build(), std::string(mark) +
                                        ": the weights were converted for one device by ChatRWKV; "
                                        "expected the original .pth");
  }
}

TEST(TensorFile, WhatIsNoModelIsRefused) {
  expect_refused(pth_with({"layers.0.weight"}).build(), "got 1 others, first layers.0.weight");
  expect_refused(PthBuilder().build(), "got no tensors");
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer");
  expect_refused("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.", "PyTorch before 1.6");
  expect_refused("hello", "expected a safetensors file");
  expect_refused("", "expected a safetensors file");
}

// What a broken download leaves under the name of weights.
TEST(TensorFile, OtherKindsOfFilesAreNamed) {
  expect_refused("<!DOCTYPE html><html><body>404</body></html>",
                 "is a web page (HTML), expected weights");
  expect_refused("\n  <html lang=\"en\">", "is a web page (HTML)");
  expect_refused("\x1f\x8b\x08 packed bytes", "is a gzip file, expected weights");
  expect_refused("\x28\xb5\x2f\xfd packed bytes", "is a zstd file");
  expect_refused("{\"error\": \"Repository not got\"}", "is JSON text, expected weights");
  expect_refused("GGUF\x03 and so on", "expected version 2 or 3 of GGUF");
  expect_refused("\x80\x04\x95 a pickle", "is a Python pickle");
  expect_refused("BZh91AY&SY\x01\x02", "is a bzip2 file");
}

// The length of a header is any number, also one that looks like another file's first bytes.
TEST(TensorFile, ALengthIsNoMark) {
  for (const std::size_t length : {0x4b50u, 0x8b1fu, 0x0280u, 0xfeffu, 0x227bu}) {
    std::string header =
        "{\"blocks.0.att.key.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[0,4]}}";
    header.resize(length, ' ');
    const ScratchDirectory folder;
    EXPECT_EQ(names(open(folder, test::le64(length) + header + "abcd")),
              (std::vector<std::string>{"blocks.0.att.key.weight"}))
        << length;
  }
}

TEST(TensorFile, NamesOfWrappersAreDropped) {
  for (const char* name : {"module.blocks.0.att.key.weight", "_orig_mod.blocks.0.att.key.weight",
                           "_orig_mod.module.blocks.0.att.key.weight",
                           "module._orig_mod.rwkv.blocks.0.attention.key.weight"})
    EXPECT_EQ(official_name(name), "blocks.0.att.key.weight");
}

TEST(TensorFile, LoraMatricesAloneAreNoModel) {
  expect_refused(pth_with({"blocks.0.att.key.lora_A", "blocks.0.att.key.lora_B"}).build(),
                 "is an adapter, expected the whole model");
}

TEST(TensorFile, ADirectoryOrAMissingFileIsAFileError) {
  const ScratchDirectory folder;
  EXPECT_THROW(open_tensors(folder.path()), FileError);
  EXPECT_THROW(open_tensors(folder / "missing"), FileError);
}

}  // namespace
}  // namespace rwkvx
