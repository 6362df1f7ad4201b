#include "rwkvx/adapters/apply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/formats/safetensors.h"
#include "support/adapters.h"
#include "support/random_weights.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

class Apply : public ::testing::Test {
 protected:
  Apply() {
    config_.n_layer = 2, config_.n_embd = 16, config_.vocab_size = 23;
    config_.shift.kind = ShiftKind::kNone;
    test::write_random_weights(config_, model());
  }
  std::filesystem::path model() const { return folder_ / "model.safetensors"; }
  std::string write(const std::string& name, Adapter adapter) const {
    adapter.base_hash = base_of_.empty() ? base().hash() : base_of_;
    write_adapter(folder_ / name, adapter);
    return (folder_ / name).string();
  }
  ModelSource base() const { return open_model(model()); }
  AdaptedModel with(const std::vector<std::string>& files, bool any_base = false) const {
    return with_adapters(base(), {.files = files, .any_base = any_base});
  }
  std::string refused(const std::function<void()>& run) const {
    try {
      run();
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  }
  static std::vector<float> values(const TensorFile& file, const std::string& name) {
    return to_float32(file.at(name));
  }

  ScratchDirectory folder_;
  ModelConfig config_;
  std::string base_of_;
};

// W + scale alpha / r B A, one number at a time.
std::vector<float> merged_by_hand(const std::vector<float>& w, const Adapter& adapter,
                                  const std::string& name, double scale = 1) {
  const AdapterTensor *a = nullptr, *b = nullptr;
  for (const auto& one : adapter.tensors) {
    if (one.name == lora_a_name(name)) a = &one;
    if (one.name == lora_b_name(name)) b = &one;
  }
  const auto r = a->shape[0], N = a->shape[1], M = b->shape[0];
  std::vector<float> out = w;
  for (std::int64_t m = 0; m < M; ++m)
    for (std::int64_t n = 0; n < N; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < r; ++k)
        sum += static_cast<double>(b->values[static_cast<std::size_t>(m * r + k)]) *
               static_cast<double>(a->values[static_cast<std::size_t>(k * N + n)]);
      auto& one = out[static_cast<std::size_t>(m * N + n)];
      one = static_cast<float>(static_cast<double>(one) +
                               scale * adapter.alpha / static_cast<double>(r) * sum);
    }
  return out;
}

TEST_F(Apply, AddsTheProductToTheMatrix) {
  const auto adapter = test::random_lora(config_, 3, 5);
  const auto file = write("a.safetensors", adapter);
  const auto plain = base();
  for (const double scale : {1.0, 0.5, -2.0, 0.0}) {
    const auto adapted =
        with({scale == 1 ? file : file + ":" + nlohmann::json(scale).dump()}).source;
    EXPECT_EQ(adapted.file.tensors().size(), plain.file.tensors().size());
    for (const auto* name : {"blocks.0.att.key.weight", "blocks.1.ffn.key.weight"}) {
      const auto wanted = merged_by_hand(values(plain.file, name), adapter, name, scale);
      EXPECT_EQ(values(adapted.file, name), wanted) << scale << " " << name;
    }
    EXPECT_EQ(values(adapted.file, "blocks.0.ln1.weight"),
              values(plain.file, "blocks.0.ln1.weight"));
  }
}

TEST_F(Apply, GivesTheSameWithAnyNumberOfThreads) {
  const auto file = write("a.safetensors", test::random_lora(config_, 3, 5));
  set_team_threads(1);
  const auto one = with({file}).source;
  set_team_threads(3);
  const auto three = with({file}).source;
  set_team_threads(0);
  for (const auto& tensor : one.file.tensors())
    EXPECT_EQ(to_float32(tensor), values(three.file, tensor.name)) << tensor.name;
}

TEST_F(Apply, SeveralAreAppliedInOrder) {
  const auto first = test::random_lora(config_, 3, 5),
             second = test::random_lora(config_, 2, 4, {"key"}, 77);
  const auto a = write("a.safetensors", first), b = write("b.safetensors", second);
  const std::string name = "blocks.0.att.key.weight";
  const auto both = with({a, b}).source;
  EXPECT_EQ(values(both.file, name),
            merged_by_hand(merged_by_hand(values(base().file, name), first, name), second, name));
  // One that was trained on what the first one makes of the base goes on top of it, and nowhere
  // else.
  const auto middle = with({a}).source.hash();
  base_of_ = middle;
  const auto on_top = write("c.safetensors", second);
  EXPECT_EQ(values(with({a, on_top}).source.file, name), values(both.file, name));
  EXPECT_THAT(refused([&] { with({on_top}); }), HasSubstr("was trained on the weights"));
}

TEST_F(Apply, OtherTensorsTakeTheBasesPlace) {
  auto adapter = test::random_lora(config_, 3, 5, {"att.key"});
  adapter.tensors.push_back(test::random_tensor("blocks.1.ln1.bias", {16}, 1, 9));
  const auto file = write("a.safetensors", adapter);
  EXPECT_EQ(values(with({file}).source.file, "blocks.1.ln1.bias"), adapter.tensors.back().values);
  const auto half = values(with({file + ":0.5"}).source.file, "blocks.1.ln1.bias");
  EXPECT_EQ(half[3], adapter.tensors.back().values[3] / 2);  // the base has zeros
}

TEST_F(Apply, ChangesTheHashOfTheModel) {
  const auto lora = write("a.safetensors", test::random_lora(config_, 3, 5)),
             state = write("s.safetensors", test::random_state(config_));
  const auto plain = base().hash();
  std::vector<std::string> hashes{plain};
  for (const auto& files : std::vector<std::vector<std::string>>{
           {lora}, {lora + ":0.5"}, {state}, {lora, state}, {lora, lora}}) {
    const auto hash = with(files).source.hash();
    EXPECT_THAT(hashes, testing::Not(testing::Contains(hash)));
    hashes.push_back(hash);
  }
  EXPECT_EQ(with({}).source.hash(), plain);
  // Not by what file holds it.
  write_peft(folder_ / "a.pth", read_adapter(lora));
  EXPECT_EQ(
      with_adapters(base(), {.files = {(folder_ / "a.pth").string()}, .alpha = 5}).source.hash(),
      hashes[1]);
}

TEST_F(Apply, AStateBeginsATextAndAShiftEnhances) {
  const auto adapter = test::random_state(config_);
  const auto file = write("s.safetensors", adapter);
  const auto adapted = with({file});
  ASSERT_TRUE(adapted.initial_state);
  const auto rows = describe_state(config_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::vector<float> wanted(static_cast<std::size_t>(rows[i].count()));
    rows[i].fill(wanted.data());
    for (const auto& one : adapter.tensors)
      if (one.name == rows[i].name) wanted = one.values;
    EXPECT_EQ(adapted.initial_state->values[i], wanted) << rows[i].name;
  }
  const auto shift = test::random_shift(config_);
  const auto enhanced = with({write("f.safetensors", shift), file});
  EXPECT_TRUE(enhanced.source.config.shift.enabled());
  EXPECT_EQ(values(enhanced.source.file, shift.tensors[0].name), shift.tensors[0].values);
  EXPECT_EQ(enhanced.initial_state->values.size(), describe_state(enhanced.source.config).size());
}

TEST_F(Apply, IsRefusedWhereItDoesNotFit) {
  const auto lora = write("a.safetensors", test::random_lora(config_, 3, 5)),
             state = write("s.safetensors", test::random_state(config_)),
             shift = write("f.safetensors", test::random_shift(config_));
  base_of_ = "0123456789abcdef0123456789abcdef";
  const auto foreign = write("b.safetensors", test::random_lora(config_, 3, 5));
  EXPECT_THAT(refused([&] { with({foreign}); }),
              HasSubstr("was trained on the weights 01234567..., but " + model().string() +
                        " has " + base().hash().substr(0, 8) + "..."));
  EXPECT_EQ(refused([&] { with({foreign}, /*any_base=*/true); }), "nothing");
  auto small = config_;
  small.n_embd = 8;
  const auto misfit = write("c.safetensors", test::random_lora(small, 3, 5));
  EXPECT_THAT(refused([&] { with({misfit}, true); }), HasSubstr("expected shape"));
  EXPECT_THAT(refused([&] { with({state, state}); }), HasSubstr("second initial state"));
  EXPECT_THAT(refused([&] { with({state + ":2"}); }), HasSubstr("has no scale"));
  EXPECT_THAT(refused([&] { with({state, shift}); }), HasSubstr("before an initial state"));
  EXPECT_THAT(refused([&] { with({lora + ":1e999"}); }), HasSubstr("expected a finite scale"));
  EXPECT_THAT(refused([&] { with({lora + ":1e40"}); }), HasSubstr("not finite"));
  EXPECT_THAT(refused([&] { with_adapters(base(), {.files = {lora}, .alpha = 3}); }),
              HasSubstr("--adapter-alpha: changes nothing"));
  EXPECT_THAT(refused([&] { merged_model(base(), {.files = {state}, .option = "--merge"}); }),
              HasSubstr("--merge: an initial state cannot be merged"));
  EXPECT_THAT(refused([&] { with({(folder_ / "none").string()}); }), HasSubstr("none"));
  EXPECT_THAT(refused([&] { with({model().string()}); }), HasSubstr("is not an adapter"));
}

TEST_F(Apply, AColonThatNoNumberFollowsIsOfTheName) {
  EXPECT_EQ(parse_adapter_use("a:0.5", "--adapter").scale, 0.5);
  EXPECT_EQ(parse_adapter_use("a:0.5", "--adapter").path, "a");
  EXPECT_EQ(parse_adapter_use("C:x", "--adapter").path, "C:x");
  EXPECT_EQ(parse_adapter_use("a:", "--adapter").path, "a:");
  write_file(folder_ / "b:2", "");
  EXPECT_EQ(parse_adapter_use((folder_ / "b:2").string(), "--adapter").scale, 1);
}

}  // namespace
}  // namespace rwkvx
