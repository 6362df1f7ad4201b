// The models of the golden folder: values, gradients and states that other programs computed.
#include <ATen/ops/cross_entropy_loss.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <filesystem>

#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/rwkv.h"
#include "support/golden.h"
#include "support/golden_tensors.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::at_scale_of;
using test::expect_close;
using test::kGradAbsolute;
using test::kGradRelative;
using test::kValueAbsolute;
using test::kValueRelative;
namespace fs = std::filesystem;

// The settings that a case's JSON names in its own short way; see the golden folder's README.
ModelConfig config_of_case(const nlohmann::json& json) {
  ModelConfig config;
  config.vocab_size = json["V"];
  config.n_embd = json["C"];
  config.n_layer = json["L"];
  if (json.contains("A")) config.dim_att = json["A"];
  if (json.contains("F")) config.dim_ffn = json["F"];
  if (json.contains("N")) {
    config.core = "rwkv7";
    config.head_size = json["N"];
    const auto& ranks = json["ranks"];
    config.decay_rank = ranks["decay"], config.iclr_rank = ranks["iclr"];
    config.value_rank = ranks["value"], config.gate_rank = ranks["gate"];
  }
  if (!json.contains("gs")) {
    config.shift.kind = ShiftKind::kNone;
    return config;
  }
  const auto& gs = json["gs"];
  config.shift.kind = ShiftKind::kGatedPositional;
  config.shift.sites = read_enum<ShiftSites>(json.value("where", "af"), "where");
  config.shift.kernel = gs.value("K", 4);
  config.shift.pos = read_enum<Position>(gs.value("pos", "none"), "pos");
  const auto gate = gs.value("gate", "diag");
  if (gate == "one")
    config.shift.ablation = Ablation::kConvOnly;
  else
    config.shift.gate = read_enum<Gate>(gate, "gate");
  config.shift.gate_groups = gs.value("groups", config.shift.gate_groups);
  config.shift.gate_rank = gs.value("rank", config.shift.gate_rank);
  if (gs.value("fixed", false)) config.shift.ablation = Ablation::kGateOnly;
  return config;
}

at::Tensor read(const TensorFile& file, const std::string& name) {
  return tensor_of(file.at(name));
}

Rwkv model_of_case(const ModelConfig& config, const fs::path& weights) {
  Rwkv model(config);
  load_weights(*model, open_tensors(weights));
  return model;
}

// The fixtures call a ring "h".
std::string fixture_name(const StateRow& row) {
  return row.ring ? row.name.substr(0, row.name.find('.')) + ".h" : row.name;
}

void expect_state(const TensorFile& io, const std::string& prefix, const ModelConfig& config,
                  const ModelState& state) {
  const auto rows = core_of(config).state(config);
  for (std::size_t layer = 0; layer < state.layers.size(); ++layer)
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto key = prefix + "." + std::to_string(layer) + "." + fixture_name(rows[i]);
      const auto& actual = state.layers[layer][i];
      if (config.core == "rwkv4" && rows[i].name == "att.wkv") {
        const auto wanted = read(io, key);
        expect_close(at_scale_of(actual, wanted), wanted.slice(1, 0, 2), kValueRelative,
                     kValueAbsolute, key);
      } else if (io.find(key) != nullptr) {
        const auto wanted = read(io, key);
        expect_close(actual.reshape(wanted.sizes()), wanted, kValueRelative, kValueAbsolute, key);
      }
    }
}

void expect_cases(const fs::path& golden) {
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    const auto stem = entry.path().parent_path() / entry.path().stem();
    if (entry.path().extension() != ".json" || !fs::exists(stem.string() + ".weights.safetensors"))
      continue;
    SCOPED_TRACE(entry.path().filename().string());
    ++cases;
    const auto json = read_json_file(entry.path().string());
    const auto config = config_of_case(json["config"]);
    auto model = model_of_case(config, stem.string() + ".weights.safetensors");
    const auto io = read_safetensors(stem.string() + ".io.safetensors");
    const auto grads = read_safetensors(stem.string() + ".grads.safetensors");
    const auto idx = read(io, "idx"), targets = read(io, "targets");
    const int64_t B = idx.size(0), T = idx.size(1), split = json["split"];

    auto state = model->start(B);
    const auto logits = model->forward(idx, state);
    expect_close(logits, read(io, "logits"), kValueRelative, kValueAbsolute, "logits");
    expect_state(io, "state_end", config, state);
    const auto loss =
        at::cross_entropy_loss(logits.view({B * T, config.vocab_size}), targets.view({B * T}));
    EXPECT_NEAR(loss.item<double>(), json["loss"].get<double>(), 2e-5);
    loss.backward();
    for (const auto& item : model->named_parameters()) {
      ASSERT_TRUE(item.value().grad().defined()) << item.key();
      expect_close(item.value().grad(), read(grads, item.key()).view(item.value().sizes()),
                   kGradRelative, kGradAbsolute, item.key());
    }
    EXPECT_EQ(grads.tensors().size(), model->named_parameters().size());

    // One token at a time, the state looked at on the way.
    const torch::NoGradGuard no_grad;
    auto walking = model->start(B);
    std::vector<at::Tensor> steps;
    for (int64_t t = 0; t < T; ++t) {
      steps.push_back(model->forward(idx.slice(1, t, t + 1), walking));
      if (t + 1 == split) expect_state(io, "state_mid", config, walking);
    }
    expect_close(torch::cat(steps, 1), read(io, "step_logits"), kValueRelative, kValueAbsolute,
                 "step by step");
    expect_state(io, "state_end", config, walking);
  }
  EXPECT_GT(cases, 0);
}

TEST(GoldenModel, GivesTheLossLogitsGradientsAndStatesOfEveryCase) {
  RWKVX_FOR_EACH_GOLDEN("model") expect_cases(golden);
}

TEST(GoldenModel, GivesTheSameForRwkv7) { RWKVX_FOR_EACH_GOLDEN("rwkv7") expect_cases(golden); }

TEST(GoldenModel, AgreesWithAnotherImplementationOfRwkv4) {
  RWKVX_FOR_EACH_GOLDEN("model") {
    const auto io = read_safetensors(golden / "hf_rwkv4.io.safetensors");
    for (const char* weights : {"hf_rwkv4.safetensors", "hf_rwkv4.pth"}) {
      auto model = load_model(golden / weights);
      EXPECT_FALSE(model->config().shift.enabled());
      const auto idx = read(io, "idx");
      auto state = model->start(idx.size(0));
      expect_close(model->forward(idx, state), read(io, "logits"), kValueRelative, kValueAbsolute,
                   weights);
    }
  }
}

// Official .pth files of other projects' models, through the engine and the modules.
TEST(GoldenModel, GivesTheLogitsOfThirdPartyModels) {
  RWKVX_FOR_EACH_GOLDEN("third_party") {
    if (!fs::is_directory(golden)) continue;
    for (const auto& entry : fs::directory_iterator(golden)) {
      if (entry.path().extension() != ".pth") continue;
      SCOPED_TRACE(entry.path().filename().string());
      const auto json = read_json_file(fs::path(entry.path()).replace_extension(".json").string());
      const auto ids = json["token_ids"].get<std::vector<Engine::Token>>();
      const auto wanted = torch::tensor(json["last_logits"].get<std::vector<double>>());
      const auto file = open_tensors(entry.path());
      Engine engine(file, infer_config(file));
      auto state = engine.start();
      auto logits = torch::empty(wanted.sizes());
      engine.prefill(ids, state, logits.mutable_data_ptr<float>());
      expect_close(logits, wanted, 0, 1e-4, "engine");
      const torch::NoGradGuard no_grad;
      auto model = load_model(entry.path());
      auto carried = model->start(1);
      const auto tokens = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()));
      expect_close(model->forward(tokens.unsqueeze(0), carried).squeeze(0)[-1], wanted, 0, 1e-4,
                   "modules");
    }
  }
}

}  // namespace
}  // namespace rwkvx
