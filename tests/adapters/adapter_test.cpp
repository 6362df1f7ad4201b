#include "rwkvx/adapters/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/cores/state.h"
#include "rwkvx/formats/pth.h"
#include "rwkvx/formats/safetensors.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

AdapterTensor tensor(const std::string& name, std::vector<std::int64_t> shape, float first = 0.5f) {
  AdapterTensor out{name, std::move(shape), {}};
  out.values.resize(static_cast<std::size_t>(
      std::accumulate(out.shape.begin(), out.shape.end(), std::int64_t{1}, std::multiplies<>())));
  std::iota(out.values.begin(), out.values.end(), first);
  return out;
}

ModelConfig rwkv4() {
  ModelConfig config;
  config.n_layer = 2, config.n_embd = 8, config.vocab_size = 11;
  config.shift.kind = ShiftKind::kNone;
  return config;
}
ModelConfig rwkv7() {
  auto config = rwkv4();
  config.core = "rwkv7", config.n_embd = 16, config.head_size = 8;
  return config;
}

Adapter lora() {
  Adapter adapter;
  adapter.base_hash = "0123456789abcdef", adapter.rank = 2, adapter.alpha = 3.5;
  adapter.tensors = {tensor("blocks.0.att.key.lora_A", {2, 8}),
                     tensor("blocks.0.att.key.lora_B", {8, 2}),
                     tensor("blocks.1.ffn.value.lora_A", {2, 32}),
                     tensor("blocks.1.ffn.value.lora_B", {8, 2}), tensor("blocks.1.ln1.bias", {8})};
  return adapter;
}
Adapter state() {
  Adapter adapter;
  adapter.kind = AdapterKind::kState;
  adapter.tensors = {tensor("blocks.0.att.wkv", {2, 8, 8}), tensor("blocks.1.att.wkv", {2, 8, 8})};
  return adapter;
}
Adapter shift() {
  Adapter adapter;
  adapter.kind = AdapterKind::kShift;
  adapter.shift.kernel = 3;
  auto config = rwkv4();
  config.shift = adapter.shift;
  for (const auto& row : describe_parameters(config))
    if (row.of_shift()) adapter.tensors.push_back(tensor(row.name, row.shape));
  return adapter;
}

std::string refused(const Adapter& adapter, const ModelConfig& base) {
  try {
    check_adapter(adapter, base, "a");
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "nothing";
}

void expect_same(const Adapter& one, const Adapter& other) {
  EXPECT_EQ(one.kind, other.kind);
  EXPECT_EQ(one.rank, other.rank);
  EXPECT_EQ(one.alpha, other.alpha);
  EXPECT_EQ(one.hash(), other.hash());
  ASSERT_EQ(one.tensors.size(), other.tensors.size());
  for (std::size_t i = 0; i < one.tensors.size(); ++i) {
    EXPECT_EQ(one.tensors[i].name, other.tensors[i].name);
    EXPECT_EQ(one.tensors[i].shape, other.tensors[i].shape);
    EXPECT_EQ(one.tensors[i].values, other.tensors[i].values);
  }
}

TEST(Adapter, IsReadAsItWasWritten) {
  const ScratchDirectory folder;
  for (const auto& adapter : {lora(), state(), shift()}) {
    const auto path = folder / "adapter.safetensors", again = folder / "again.safetensors";
    write_adapter(path, adapter);
    const auto read = read_adapter(path);
    expect_same(read, adapter);
    EXPECT_EQ(read.base_hash, adapter.base_hash);
    EXPECT_EQ(read.shift.kernel, adapter.shift.kernel);
    write_adapter(again, read);
    EXPECT_EQ(read_file(path), read_file(again));
    EXPECT_TRUE(is_adapter(path));
  }
  EXPECT_NE(lora().hash(), state().hash());
}

TEST(Adapter, NamesAPairByItsMatrix) {
  EXPECT_EQ(lora_a_name("blocks.0.att.key.weight"), "blocks.0.att.key.lora_A");
  EXPECT_EQ(lora_b_name("blocks.0.att.w1"), "blocks.0.att.w1.lora_B");
}

TEST(Adapter, TravelsThroughTheLayoutOfRwkvPeft) {
  const ScratchDirectory folder;
  for (const auto& adapter : {lora(), state()}) {
    write_peft(folder / "a.pth", adapter);
    const auto file = open_tensor_file(folder / "a.pth");
    EXPECT_EQ(file.tensors()[0].name, adapter.kind == AdapterKind::kLora
                                          ? "blocks.0.att.key.lora_A"
                                          : "blocks.0.att.time_state");
    EXPECT_TRUE(is_adapter(folder / "a.pth"));
    const bool is_lora = adapter.kind == AdapterKind::kLora;
    expect_same(read_adapter(folder / "a.pth", is_lora ? std::optional(3.5) : std::nullopt),
                adapter);
  }
  write_peft(folder / "a.pth", lora());
  EXPECT_EQ(read_adapter(folder / "a.pth").alpha, kPeftAlpha);
  EXPECT_THROW(write_peft(folder / "b.pth", shift()), CheckpointError);
}

TEST(Adapter, FitsTheModelThatItIsFor) {
  EXPECT_EQ(refused(lora(), rwkv4()), "nothing");
  EXPECT_EQ(refused(state(), rwkv7()), "nothing");
  EXPECT_EQ(refused(shift(), rwkv4()), "nothing");
  EXPECT_TRUE(adapted_config(shift(), rwkv4()).shift.enabled());
}

TEST(Adapter, OfAnotherModelIsRefusedByName) {
  auto one = lora();
  EXPECT_THAT(refused(one, rwkv7()), HasSubstr("a: blocks.0.att.key.lora_A: expected shape "
                                               "(2, 16) for blocks.0.att.key.weight (16, 16)"));
  one.tensors.push_back(tensor("blocks.2.att.key.lora_A", {2, 8}));
  one.tensors.push_back(tensor("blocks.2.att.key.lora_B", {8, 2}));
  EXPECT_THAT(refused(one, rwkv4()),
              HasSubstr("is for the matrix blocks.2.att.key, which the model does not have"));
  one = lora();
  one.tensors.push_back(tensor("blocks.0.att.gain", {8}));
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("blocks.0.att.gain: is no parameter of the model"));
  one = lora();
  one.tensors.back().name = "blocks.1.att.time_decay.lora_A";  // no matrix
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("has no blocks.1.att.time_decay.lora_B beside it"));

  auto two = state();
  two.tensors.pop_back();
  EXPECT_THAT(refused(two, rwkv7()), HasSubstr("blocks.1.att.wkv: is missing"));
  EXPECT_THAT(refused(state(), rwkv4()),
              HasSubstr("expected the state of this model, (3, 8), got (2, 8, 8)"));
  two = state();
  two.tensors[1].name = "blocks.1.att.y";
  EXPECT_THAT(refused(two, rwkv7()), HasSubstr("is no state of the model"));

  auto three = shift();
  three.tensors.erase(three.tensors.begin());
  EXPECT_THAT(refused(three, rwkv4()), HasSubstr("blocks.0.att.shift.conv: is missing"));
  three = shift();
  three.tensors.push_back(tensor("blocks.0.att.shift.more", {1}));
  EXPECT_THAT(refused(three, rwkv4()), HasSubstr("is no parameter of the shift"));
  auto enhanced = rwkv4();
  enhanced.shift = {};
  EXPECT_THAT(refused(shift(), enhanced), HasSubstr("other settings"));
}

TEST(Adapter, WrongInItselfIsRefusedByName) {
  auto one = lora();
  one.rank = 0;
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("expected a rank of 1 or more, got 0"));
  one = lora(), one.alpha = 0;
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("expected an alpha above 0, got 0"));
  one = lora(), one.tensors.erase(one.tensors.begin());
  EXPECT_THAT(refused(one, rwkv4()),
              HasSubstr("blocks.0.att.key.lora_B: has no blocks.0.att.key.lora_A beside it"));
  one = lora(), one.tensors.push_back(one.tensors[1]);
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("blocks.0.att.key.lora_B: is there twice"));
  one = lora(), one.tensors[0].values[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("lora_A: holds a number that is not finite"));
  one = lora(), one.tensors[0] = tensor("blocks.0.att.key.lora_A", {3, 8});
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("expected a matrix (2, inputs) of rank 2, got "
                                               "shape (3, 8)"));
  one = lora(), one.tensors = {};
  EXPECT_THAT(refused(one, rwkv4()), HasSubstr("without tensors"));
}

std::string unreadable(const std::filesystem::path& path) {
  try {
    read_adapter(path);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "nothing";
}

TEST(Adapter, ADamagedFileIsRefused) {
  const ScratchDirectory folder;
  const auto path = folder / "a.safetensors";
  const auto good = lora();
  std::vector<TensorView> views;
  for (const auto& one : good.tensors)
    views.push_back({one.name, DType::kF32, one.shape, std::as_bytes(std::span(one.values))});
  const auto with = [&](std::map<std::string, std::string> metadata) {
    write_safetensors(path, views, metadata);
    return unreadable(path);
  };
  EXPECT_EQ(with({}), "nothing");  // the names alone are RWKV-PEFT's
  EXPECT_THAT(with({{"format", "rwkvx adapter 9"}}), HasSubstr("another version of rwkvx"));
  EXPECT_THAT(with({{"format", kAdapterFormat}, {"kind", "dora"}}), HasSubstr("kind"));
  EXPECT_THAT(with({{"format", kAdapterFormat}, {"kind", "lora"}, {"rank", "2x"}}),
              HasSubstr("expected a number as \"rank\", got \"2x\""));
  EXPECT_THAT(with({{"format", kAdapterFormat}, {"kind", "lora"}, {"rank", "2"}, {"alpha", "nan"}}),
              HasSubstr("expected an alpha above 0"));
  EXPECT_THAT(with({{"format", kAdapterFormat}, {"kind", "shift"}, {"shift", "{\"kernel\": []}"}}),
              HasSubstr("shift.kernel"));
  EXPECT_THAT(with({{"format", kAdapterFormat}, {"kind", "shift"}, {"shift", "{"}}),
              HasSubstr("shift"));
}

TEST(Adapter, IsDescribed) {
  const ScratchDirectory folder;
  write_adapter(folder / "a.safetensors", lora());
  const auto info = describe_adapter(folder / "a.safetensors");
  EXPECT_EQ(info["adapter"], "lora");
  EXPECT_EQ(info["rank"], 2);
  EXPECT_EQ(info["alpha"], 3.5);
  EXPECT_EQ(info["matrices"], 2);
  EXPECT_EQ(info["parameters"], 2 * 8 + 8 * 2 + 2 * 32 + 8 * 2 + 8);
  EXPECT_EQ(info["base"], "0123456789abcdef");
  EXPECT_EQ(info["of"].dump(),
            "[\"blocks.*.att.key\",\"blocks.*.ffn.value\",\"blocks.*.ln1.bias\"]");
}

}  // namespace
}  // namespace rwkvx
