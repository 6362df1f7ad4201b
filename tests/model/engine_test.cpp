// The engine against the modules that it stands for.
#include "rwkvx/engine/engine.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "rwkvx/base/threads.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/engine/quantize.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/rwkv.h"
#include "support/scratch.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_close;

ModelConfig small_config(const std::string& core = "rwkv4") {
  ModelConfig config;
  config.core = core;
  config.n_layer = 2;
  config.n_embd = 40;
  config.vocab_size = 67;
  if (core == "rwkv7") config.head_size = 8;
  return config;
}

// A model in which every parameter matters, and its file.
struct Built {
  explicit Built(const ModelConfig& config) : model(config) {
    const torch::NoGradGuard no_grad;
    torch::manual_seed(3);
    model->initialize(1, 0.1);
    for (auto& item : model->named_parameters()) {
      auto& tensor = item.value();
      if (tensor.dim() == 2 && item.key().find("shift") == std::string::npos)
        tensor.copy_(torch::randn(tensor.sizes()) / std::sqrt(static_cast<double>(tensor.size(1))));
      else
        tensor.add_(0.3 * torch::randn(tensor.sizes()));
    }
    save();
  }
  void save() {
    const auto weights = weight_views(*model);
    path = folder.path() / "model.safetensors";
    write_safetensors(path, weights.views);
  }
  // (T, V), fed as one sequence.
  at::Tensor logits(const std::vector<Engine::Token>& tokens) {
    const torch::NoGradGuard no_grad;
    auto state = model->start(1);
    const auto ids = torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()));
    return model->forward(ids.unsqueeze(0), state).squeeze(0);
  }
  ScratchDirectory folder;
  std::filesystem::path path;
  Rwkv model;
};

std::vector<Engine::Token> some_tokens(std::int64_t count, std::int64_t vocabulary) {
  std::vector<Engine::Token> tokens;
  for (std::int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<Engine::Token>((i * i * 31 + 7 * i + 5) % vocabulary));
  return tokens;
}

at::Tensor stepped(Engine& engine, const std::vector<Engine::Token>& tokens) {
  const auto V = engine.config().vocab_size;
  const auto T = static_cast<int64_t>(tokens.size());
  auto out = torch::empty({T, V});
  auto state = engine.start();
  EngineState* states[] = {&state};
  for (int64_t t = 0; t < T; ++t)
    engine.step({&tokens[static_cast<size_t>(t)], 1}, states, out[t].mutable_data_ptr<float>());
  return out;
}

at::Tensor prefilled(Engine& engine, const std::vector<Engine::Token>& tokens) {
  const auto V = engine.config().vocab_size;
  auto out = torch::empty({static_cast<int64_t>(tokens.size()), V});
  auto state = engine.start();
  engine.prefill_all(tokens, state, [&](std::int64_t first, std::span<const float> logits) {
    std::memcpy(out[first].mutable_data_ptr<float>(), logits.data(), logits.size_bytes());
  });
  return out;
}

void expect_equal_to_modules(const ModelConfig& config, const std::string& what) {
  Built built(config);
  Engine engine(open_tensors(built.path), config);
  const auto tokens = some_tokens(300, config.vocab_size);
  const auto wanted = built.logits(tokens);
  expect_close(stepped(engine, tokens), wanted, 0, 1e-4, what + ", stepped");
  expect_close(prefilled(engine, tokens), wanted, 0, 1e-4, what + ", prefilled");
}

TEST(Engine, EqualsTheModulesForEverySwitch) {
  for (const char* setting :
       {"", "kind=none", "sites=a", "sites=f", "kernel=1", "kernel=2", "kernel=11", "gate=one",
        "gate=scalar", "gate=group", "gate=lowrank", "pos=sin", "pos=none", "ablation=conv_only",
        "ablation=gate_only", "dilation=3", "activation=silu"}) {
    auto config = small_config();
    const std::string text = setting;
    nlohmann::json json = config_to_json(config);
    if (!text.empty()) set_by_path(json, "shift." + text);
    config = config_from_json<ModelConfig>(json, "model");
    expect_equal_to_modules(config, text.empty() ? "default" : text);
  }
}

TEST(Engine, EqualsTheModulesOfRwkv7) {
  for (const char* setting : {"kind=none", "pos=sin", "gate=lowrank", "ablation=gate_only",
                              "dilation=2", "activation=silu"}) {
    auto config = small_config("rwkv7");
    config.n_embd = 48;
    config.head_size = 24;
    config.gate_rank = 20;
    nlohmann::json json = config_to_json(config);
    set_by_path(json, std::string("shift.") + setting);
    expect_equal_to_modules(config_from_json<ModelConfig>(json, "model"), setting);
  }
}

TEST(Engine, EqualsTheModulesForOtherWidths) {
  auto config = small_config();
  config.dim_att = 24;
  config.dim_ffn = 72;
  config.n_embd = 32;
  expect_equal_to_modules(config, "dim_att, dim_ffn");
}

void expect_the_same_bits_together(ModelConfig config) {
  config.n_embd = 160;
  Built built(config);
  for (const auto type :
       {WeightType::kF32, WeightType::kBF16, WeightType::kInt8, WeightType::kInt4}) {
    const auto path = built.folder.path() / std::string(weight_type_name(type));
    write_quantized(open_tensors(built.path), config, type, path);
    Engine engine(open_tensors(path), config);
    constexpr int kSequences = 7;
    const auto V = static_cast<size_t>(config.vocab_size);
    std::vector<std::vector<float>> alone;
    for (const int threads : {1, 2}) {
      set_team_threads(threads);
      std::vector<EngineState> states;
      std::vector<EngineState*> pointers;
      for (int i = 0; i < kSequences; ++i) {
        states.push_back(engine.start());
        std::vector<float> logits(V);
        engine.prefill(some_tokens(10 * i + 1, config.vocab_size), states.back(), logits.data());
        if (i == 3) {  // and token by token
          auto one_by_one = engine.start();
          EngineState* const state[] = {&one_by_one};
          std::vector<float> last(V);
          for (const auto token : some_tokens(10 * i + 1, config.vocab_size))
            engine.step({&token, 1}, state, last.data());
          EXPECT_EQ(last, logits) << weight_type_name(type);
          EXPECT_EQ(one_by_one.values, states.back().values) << weight_type_name(type);
        }
        EngineState copy = states.back();
        EngineState* one[] = {&copy};
        const Engine::Token token = i;
        engine.step({&token, 1}, one, logits.data());
        if (threads == 1)
          alone.push_back(logits);
        else
          EXPECT_EQ(logits, alone[static_cast<size_t>(i)]) << weight_type_name(type);
      }
      for (auto& state : states) pointers.push_back(&state);
      std::vector<Engine::Token> tokens;
      for (int i = 0; i < kSequences; ++i) tokens.push_back(i);
      std::vector<float> together(V * kSequences);
      engine.step(tokens, pointers, together.data());
      for (size_t i = 0; i < kSequences; ++i)
        EXPECT_EQ(std::vector<float>(together.begin() + static_cast<std::ptrdiff_t>(i * V),
                                     together.begin() + static_cast<std::ptrdiff_t>((i + 1) * V)),
                  alone[i])
            << weight_type_name(type) << ", sequence " << i;
    }
  }
}

TEST(Engine, ABatchAndTheNumberOfThreadsDoNotChangeABit) {
  expect_the_same_bits_together(small_config());
}

TEST(Engine, ABatchAndTheNumberOfThreadsDoNotChangeABitOfRwkv7) {
  expect_the_same_bits_together(small_config("rwkv7"));
}

void expect_the_same_bits_cut(const ModelConfig& config) {
  Built built(config);
  Engine engine(open_tensors(built.path), config);
  const auto tokens = some_tokens(2 * Engine::kChunk + 41, config.vocab_size);
  std::vector<float> whole(static_cast<size_t>(config.vocab_size)), cut = whole;
  auto state = engine.start(), other = engine.start();
  engine.prefill(tokens, state, whole.data());
  const std::span<const Engine::Token> all(tokens);
  engine.prefill(all.first(Engine::kChunk), other, nullptr);
  engine.prefill(all.subspan(Engine::kChunk), other, cut.data());
  EXPECT_EQ(whole, cut);
  EXPECT_EQ(state.values, other.values);
}

TEST(Engine, APromptCutAtChunksGivesTheSameBits) {
  for (const char* core : {"rwkv4", "rwkv7"}) expect_the_same_bits_cut(small_config(core));
}

TEST(Engine, QuantizedWeightsStayNearTheFloats) {
  auto config = small_config();
  config.n_embd = 128;
  Built built(config);
  const auto tokens = some_tokens(40, config.vocab_size);
  const auto wanted = built.logits(tokens);
  for (const auto& [type, allowed] :
       {std::pair{WeightType::kBF16, 0.02}, {WeightType::kInt8, 0.04}, {WeightType::kInt4, 0.5}}) {
    const auto path = built.folder.path() / std::string(weight_type_name(type));
    write_quantized(open_tensors(built.path), config, type, path);
    Engine engine(open_tensors(path), config);
    EXPECT_EQ(engine.weight_type(), type);
    test::expect_near_in_norm(stepped(engine, tokens), wanted, allowed,
                              std::string(weight_type_name(type)));
    EXPECT_TRUE(at::equal(prefilled(engine, tokens), stepped(engine, tokens)));
  }
}

// Outliers that leave the model's function alone: what a row or a norm's channel is divided by, the
// columns that meet it are multiplied with.
enum class Pair { kNone, kFfnKeyValue, kAttValueOutput, kNormAtt, kNormFfn, kNormHead, kAll };

void put_outliers(Rwkv& model, Pair pair, double k) {
  const torch::NoGradGuard no_grad;
  const auto at = [&](const std::string& name) { return model->named_parameters()[name]; };
  const auto is = [&](Pair one) { return pair == one || pair == Pair::kAll; };
  const auto norm = [&](const std::string& name, std::vector<std::string> matrices, int64_t c) {
    for (const char* part : {".weight", ".bias"}) at(name + part).select(0, c).mul_(k);
    for (const auto& matrix : matrices) at(matrix + ".weight").select(1, c).div_(k);
  };
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    const auto att = block + "att.", ffn = block + "ffn.";
    if (is(Pair::kFfnKeyValue))
      for (int64_t j = 0; j < at(ffn + "key.weight").size(0); j += 37) {
        at(ffn + "key.weight").select(0, j).div_(std::sqrt(k));
        at(ffn + "value.weight").select(1, j).mul_(k);
      }
    if (is(Pair::kAttValueOutput))
      for (int64_t j = 3; j < at(att + "value.weight").size(0); j += 29) {
        at(att + "value.weight").select(0, j).div_(k);
        at(att + "output.weight").select(1, j).mul_(k);
      }
    for (const int64_t c : {5, 70, 71}) {
      if (is(Pair::kNormAtt))
        norm(block + "ln1", {att + "key", att + "value", att + "receptance"}, c);
      if (is(Pair::kNormFfn)) norm(block + "ln2", {ffn + "key", ffn + "receptance"}, c);
    }
  }
  if (is(Pair::kNormHead)) norm("ln_out", {"head"}, 9), norm("ln_out", {"head"}, 100);
}

double error_of(const at::Tensor& got, const at::Tensor& wanted) {
  return ((got - wanted).norm() / wanted.norm()).item<double>();
}

TEST(Engine, OutliersThatLeaveTheFunctionAloneCostNothing) {
  auto config = small_config();
  config.n_embd = 128;
  config.shift.kind = ShiftKind::kNone;  // so that a norm's channel meets the matrices alone
  const auto tokens = some_tokens(40, config.vocab_size);
  for (const auto type : {WeightType::kInt8, WeightType::kInt4}) {
    double usual[2] = {};
    for (const auto pair : {Pair::kNone, Pair::kFfnKeyValue, Pair::kAttValueOutput, Pair::kNormAtt,
                            Pair::kNormFfn, Pair::kNormHead, Pair::kAll})
      for (const double k : {1e-6, 1e-3, 30., 60., 100., 300., 1e3, 1e6}) {
        if (pair == Pair::kNone && k != 1e3) continue;
        Built built(config);
        const auto wanted = built.logits(tokens);
        put_outliers(built.model, pair, pair == Pair::kNone ? 1 : k);
        const auto changed = built.folder.path() / "changed", path = built.folder.path() / "small";
        write_safetensors(changed, weight_views(*built.model).views);
        const auto made = write_quantized(open_tensors(changed), config, type, path);
        EXPECT_EQ(made.kept_larger, 0);
        Engine engine(open_tensors(path), config);
        const double errors[] = {error_of(stepped(engine, tokens), wanted),
                                 error_of(prefilled(engine, tokens), wanted)};
        for (int i = 0; i < 2; ++i) {
          if (pair == Pair::kNone) usual[i] = errors[i];
          EXPECT_LE(errors[i], 1.1 * usual[i])
              << weight_type_name(type) << ", pair " << static_cast<int>(pair) << ", k " << k
              << (i == 0 ? ", stepped" : ", prefilled");
        }
      }
  }
}

TEST(Engine, SingleLargeWeightsStayWide) {
  auto config = small_config();
  config.n_embd = 128;
  const auto tokens = some_tokens(40, config.vocab_size);
  const char* const kMatrices[] = {"blocks.0.att.key.weight", "blocks.0.ffn.value.weight",
                                   "blocks.1.att.receptance.weight", "blocks.1.ffn.key.weight",
                                   "head.weight"};
  for (const auto& [type, allowed] : {std::pair{WeightType::kInt8, 0.04}, {WeightType::kInt4, 0.5}})
    for (const double size : {3., 30., 3000.}) {
      Built built(config);
      const torch::NoGradGuard no_grad;
      for (const char* name : kMatrices)
        for (int64_t i = 0; i < 8; ++i)
          built.model->named_parameters()[name][i * 7][i * 13 + 1] = i % 2 == 0 ? size : -size;
      const auto wanted = built.logits(tokens);
      const auto changed = built.folder.path() / "changed", path = built.folder.path() / "small";
      write_safetensors(changed, weight_views(*built.model).views);
      const auto made = write_quantized(open_tensors(changed), config, type, path);
      EXPECT_EQ(made.kept_larger, 0);
      for (const auto& one : made.matrices) {
        const bool has = std::ranges::find(kMatrices, one.name) != std::end(kMatrices);
        if (one.type == type) {
          EXPECT_EQ(one.wide, has ? 8 : 0) << one.name << ", " << size;
        }
        EXPECT_EQ(one.outlier_columns, 0) << one.name;
      }
      Engine engine(open_tensors(path), config);
      EXPECT_LE(error_of(stepped(engine, tokens), wanted), allowed) << size;
      EXPECT_EQ(error_of(prefilled(engine, tokens), stepped(engine, tokens)), 0) << size;
    }
}

TEST(Engine, ReadsQuantizedFilesWithoutColumnScalesAndRefusesDamagedTables) {
  auto config = small_config();
  config.n_embd = 128;
  Built built(config);
  {
    const torch::NoGradGuard no_grad;
    built.model->named_parameters()["head.weight"][3][4] = 30;
  }
  const auto changed = built.folder.path() / "changed", path = built.folder.path() / "small",
             other = built.folder.path() / "other";
  write_safetensors(changed, weight_views(*built.model).views);
  const auto tokens = some_tokens(10, config.vocab_size);
  for (const auto type : {WeightType::kInt8, WeightType::kInt4}) {
    write_quantized(open_tensors(changed), config, type, path);
    const auto file = open_tensors(path);
    std::vector<TensorView> old;
    for (const auto& tensor : file.tensors())
      if (tensor.name.find(".column_scale") == std::string::npos &&
          tensor.name.find(".wide_") == std::string::npos)
        old.push_back(tensor);
    ASSERT_LT(old.size(), file.tensors().size());
    write_safetensors(other, old);
    Engine engine(open_tensors(other), config);
    EXPECT_EQ(error_of(prefilled(engine, tokens), stepped(engine, tokens)), 0);
    for (const std::int32_t bad : {-1, 128, 1 << 30})
      for (const char* part : {"head.weight.wide_columns", "head.weight.wide_rows"}) {
        auto damaged = file.tensors();
        std::vector<std::byte> bytes;
        for (auto& tensor : damaged)
          if (tensor.name == part) {
            bytes.assign(tensor.bytes.begin(), tensor.bytes.end());
            std::memcpy(bytes.data(), &bad, sizeof bad);
            tensor.bytes = bytes;
          }
        ASSERT_FALSE(bytes.empty());
        write_safetensors(other, damaged);
        EXPECT_THROW(Engine(open_tensors(other), config), CheckpointError) << part << bad;
      }
  }
}

TEST(Engine, QuantizesRowsOfZerosAndOfAnySizeAndNoNaN) {
  auto config = small_config();
  config.n_embd = 128;
  const auto tokens = some_tokens(10, config.vocab_size);
  for (const auto type : {WeightType::kInt8, WeightType::kInt4}) {
    Built built(config);
    const torch::NoGradGuard no_grad;
    auto key = built.model->named_parameters()["blocks.0.ffn.key.weight"];
    key[0].zero_();
    key.select(1, 7).zero_();
    key[1].mul_(1e-42);
    built.model->named_parameters()["blocks.1.ffn.value.weight"].zero_();
    built.model->named_parameters()["head.weight"].mul_(1e30);
    const auto changed = built.folder.path() / "changed", path = built.folder.path() / "small";
    write_safetensors(changed, weight_views(*built.model).views);
    write_quantized(open_tensors(changed), config, type, path);
    Engine engine(open_tensors(path), config);
    EXPECT_LE(error_of(stepped(engine, tokens) * 1e-30, built.logits(tokens) * 1e-30),
              type == WeightType::kInt8 ? 0.04 : 0.5);
    for (const float odd : {NAN, INFINITY}) {
      key[3][4] = odd;
      write_safetensors(changed, weight_views(*built.model).views);
      EXPECT_THROW(write_quantized(open_tensors(changed), config, type, path), CheckpointError);
    }
  }
}

// A channel mix whose receptances are one constant, whatever the input: below about -20 it is
// closed, and what comes out is the same however far below.
TEST(Engine, AReceptanceFarBelowZeroIsAClosedGate) {
  auto config = small_config();
  config.shift.kind = ShiftKind::kNone;
  for (const bool trained : {false, true}) {
    std::vector<float> closed;
    for (const float low : {-50.0f, -88.0f, -104.0f, -177.0f, -178.0f, -200.0f, -300.0f, -1e30f}) {
      Built built(config);
      {
        const torch::NoGradGuard no_grad;
        auto& block = built.model->block(1);
        if (trained) {  // of the time mix instead
          block.parameter("ln1.weight").zero_(), block.parameter("ln1.bias").fill_(1);
          block.parameter("att.receptance.weight").zero_();
          block.parameter("att.receptance.weight").select(1, 0).fill_(low);
        } else {
          block.parameter("ln2.weight").zero_(), block.parameter("ln2.bias").fill_(1);
          block.parameter("ffn.time_mix_r").fill_(1);
          block.parameter("ffn.receptance.weight").zero_();
          block.parameter("ffn.receptance.weight").select(1, 0).fill_(low);
        }
        built.model->block(1).parameter("att.time_mix_r").fill_(1);
        built.save();
      }
      Engine engine(open_tensors(built.path), config);
      const auto tokens = some_tokens(9, config.vocab_size);
      const auto wanted = built.logits(tokens), found = stepped(engine, tokens);
      const std::string what = "receptance " + std::to_string(low);
      expect_close(found, wanted, 0, 1e-4, what);
      expect_close(prefilled(engine, tokens), wanted, 0, 1e-4, what + ", prefilled");
      built.model->to(torch::kFloat64);
      expect_close(found, built.logits(tokens), 0, 1e-4, what + ", float64");
      const auto row = found[8].contiguous();
      const std::vector<float> last(row.data_ptr<float>(), row.data_ptr<float>() + row.numel());
      if (closed.empty()) closed = last;
      for (size_t i = 0; i < last.size(); ++i) EXPECT_NEAR(last[i], closed[i], 1e-5) << what;
    }
  }
}

// Whatever the position, rings are exported oldest first, as the modules keep them.
void expect_the_modules_states(const std::string& core) {
  const torch::NoGradGuard no_grad;
  for (const int64_t kernel : {1, 2, 4, 7}) {
    auto config = small_config(core);
    config.shift.kernel = kernel;
    Built built(config);
    Engine engine(open_tensors(built.path), config);
    const auto rows = describe_state(config);
    const auto tokens = some_tokens(12, config.vocab_size);
    auto state = engine.start();
    auto modules = built.model->start(1);
    std::vector<float> logits(static_cast<size_t>(config.vocab_size)), again(logits);
    for (const auto token : tokens) {
      engine.prefill({&token, 1}, state, logits.data());
      const auto plain = engine.export_state(state);
      built.model->forward(torch::full({1, 1}, token, torch::kInt64), modules);
      EXPECT_EQ(plain.t, modules.t.item<int64_t>());
      ASSERT_EQ(plain.values.size(), rows.size());
      for (size_t i = 0; i < rows.size(); ++i) {
        const size_t per_layer = rows.size() / 2;
        const auto wanted = modules.layers[i / per_layer][i % per_layer].squeeze(0);
        auto found = torch::tensor(plain.values[i]).view(wanted.sizes());
        if (core == "rwkv4" &&
            rows[i].name.ends_with("wkv")) {  // the same sums at different scales
          const auto scale = torch::exp(found[2] - wanted[2]);
          expect_close(found[0] * scale, wanted[0], 1e-3, 1e-3, rows[i].name);
          expect_close(found[1] * scale, wanted[1], 1e-3, 1e-3, rows[i].name);
        } else {
          expect_close(found, wanted, 0, 1e-4, rows[i].name);
        }
      }
      EXPECT_EQ(engine.import_state(plain).values, state.values);
    }
  }
}

TEST(Engine, AStateInFilesIsTheModulesRowByRow) {
  for (const char* core : {"rwkv4", "rwkv7"}) expect_the_modules_states(core);
}

TEST(Engine, NamesAWrongTensorAndRefusesATokenOutsideTheVocabulary) {
  const auto config = small_config();
  Built built(config);
  auto other = config;
  other.n_embd = 48;
  EXPECT_THROW(Engine(open_tensors(built.path), other), CheckpointError);
  other = config;
  other.shift.kind = ShiftKind::kNone;
  EXPECT_THROW(Engine(open_tensors(built.path), other), CheckpointError);
  Engine engine(open_tensors(built.path), config);
  auto state = engine.start();
  std::vector<float> logits(static_cast<size_t>(config.vocab_size));
  for (const Engine::Token bad : {-1, 67})
    EXPECT_THROW(engine.prefill({&bad, 1}, state, logits.data()), DataError);
}

}  // namespace
}  // namespace rwkvx
