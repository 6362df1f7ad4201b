// The models of the golden folder: values, gradients and states that other programs computed.
#include <ATen/ops/cross_entropy_loss.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <filesystem>

#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/open_tensors.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/ops/wkv.h"
#include "support/golden.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_close;
namespace fs = std::filesystem;

// Tolerances of MODEL.md part 6, float32.
constexpr double kValueAbsolute = 2e-5, kValueRelative = 1e-4;
constexpr double kGradAbsolute = 5e-5, kGradRelative = 1e-3;

// The settings that a case's JSON names in its own short way; see the golden folder's README.
ModelConfig config_of_case(const nlohmann::json& json) {
  ModelConfig config;
  config.vocab_size = json["V"];
  config.n_embd = json["C"];
  config.n_layer = json["L"];
  if (json.contains("A")) config.dim_att = json["A"];
  if (json.contains("F")) config.dim_ffn = json["F"];
  if (!json.contains("gs")) {
    config.shift.kind = "none";
    return config;
  }
  const auto& gs = json["gs"];
  config.shift.kind = "gps";
  config.shift.sites = json.value("where", "af");
  config.shift.kernel = gs.value("K", 4);
  config.shift.pos = gs.value("pos", "none");
  const auto gate = gs.value("gate", "diag");
  if (gate == "one")
    config.shift.ablation = "conv_only";
  else
    config.shift.gate = gate;
  config.shift.gate_groups = gs.value("groups", config.shift.gate_groups);
  config.shift.gate_rank = gs.value("rank", config.shift.gate_rank);
  if (gs.value("fixed", false)) config.shift.ablation = "gate_only";
  return config;
}

at::Tensor read(const SafetensorsFile& file, const std::string& name) {
  return tensor_of(file.at(name));
}

Rwkv model_of_case(const ModelConfig& config, const fs::path& weights) {
  Rwkv model(config);
  load_weights(*model, open_tensors(weights));
  return model;
}

// Rows p, q, o of one state, brought to the scale of another's o.
at::Tensor at_scale_of(const at::Tensor& wkv, const at::Tensor& wanted) {
  const auto factor = torch::exp(wkv.select(1, 2) - wanted.select(1, 2)).unsqueeze(1);  // (B, 1, C)
  return wkv.slice(1, 0, 2) * factor;
}

void expect_state(const SafetensorsFile& io, const std::string& prefix, const ModelState& state) {
  for (std::size_t layer = 0; layer < state.layers.size(); ++layer) {
    const auto& one = state.layers[layer];
    const auto key = prefix + "." + std::to_string(layer) + ".";
    const auto check = [&](const std::string& name, const at::Tensor& actual) {
      if (io.find(key + name) == nullptr) return;
      const auto wanted = read(io, key + name);
      expect_close(actual.reshape(wanted.sizes()), wanted, kValueRelative, kValueAbsolute,
                   key + name);
    };
    check("att.x", one.att_x);
    check("ffn.x", one.ffn_x);
    if (one.att_ring.defined()) check("att.h", one.att_ring);
    if (one.ffn_ring.defined()) check("ffn.h", one.ffn_ring);
    const auto wanted = read(io, key + "att.wkv");
    expect_close(at_scale_of(one.wkv, wanted), wanted.slice(1, 0, 2), kValueRelative,
                 kValueAbsolute, key + "att.wkv");
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
    const SafetensorsFile io(stem.string() + ".io.safetensors");
    const SafetensorsFile grads(stem.string() + ".grads.safetensors");
    const auto idx = read(io, "idx"), targets = read(io, "targets");
    const int64_t B = idx.size(0), T = idx.size(1), split = json["split"];

    auto state = model->start(B);
    const auto logits = model->forward(idx, state);
    expect_close(logits, read(io, "logits"), kValueRelative, kValueAbsolute, "logits");
    expect_state(io, "state_end", state);
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
      if (t + 1 == split) expect_state(io, "state_mid", walking);
    }
    expect_close(torch::cat(steps, 1), read(io, "step_logits"), kValueRelative, kValueAbsolute,
                 "step by step");
    expect_state(io, "state_end", walking);
  }
  EXPECT_GT(cases, 0);
}

TEST(GoldenModel, GivesTheLossLogitsGradientsAndStatesOfEveryCase) {
  RWKVX_FOR_EACH_GOLDEN("model") expect_cases(golden);
}

TEST(GoldenModel, AgreesWithAnotherImplementationOfRwkv4) {
  RWKVX_FOR_EACH_GOLDEN("model") {
    const SafetensorsFile io(golden / "hf_rwkv4.io.safetensors");
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

void expect_shift_operators(const fs::path& folder) {
  const auto json = read_json_file((folder / "shift_op.json").string());
  int cases = 0;
  for (const auto& [name, one] : json.items()) {
    if (one.value("base", "self") != "self") continue;  // an alternative that was not chosen
    SCOPED_TRACE(name);
    ++cases;
    const SafetensorsFile file(folder / ("shift_op_" + name + ".safetensors"));
    const auto parameter = [&](const std::string& key) {
      return file.find("p." + key) == nullptr ? at::Tensor()
                                              : read(file, "p." + key).requires_grad_();
    };
    const ConvShiftParameters learned{parameter("conv"),   parameter("pos_u"),  parameter("gate_x"),
                                      parameter("gate_s"), parameter("gate_w"), parameter("gate_d"),
                                      parameter("gate_u"), parameter("gate_b")};
    const auto a = read(file, "a").requires_grad_();
    auto ring = read(file, "hist_in");
    at::Tensor phi;
    if (one["pos"] != "none")
      phi = position_features(
          one["pos"], torch::full({a.size(0)}, one["t0"].get<int64_t>(), at::kLong), a.size(1));
    const auto out = conv_shift(a, learned, phi, ring);
    expect_close(out, read(file, "out"), kValueRelative, kValueAbsolute, "out");
    expect_close(ring, read(file, "hist_out"), kValueRelative, kValueAbsolute, "hist_out");
    out.backward(read(file, "grad_out"));
    expect_close(a.grad(), read(file, "grad_a"), kGradRelative, kGradAbsolute, "grad_a");
    const std::pair<const char*, at::Tensor> all[] = {
        {"conv", learned.conv},     {"pos_u", learned.pos_u},   {"gate_x", learned.gate_x},
        {"gate_s", learned.gate_s}, {"gate_w", learned.gate_w}, {"gate_d", learned.gate_d},
        {"gate_u", learned.gate_u}, {"gate_b", learned.gate_b}};
    for (const auto& [key, tensor] : all)
      if (tensor.defined())
        expect_close(tensor.grad(), read(file, std::string("grad.") + key), kGradRelative,
                     kGradAbsolute, key);
  }
  EXPECT_GT(cases, 0);
}

TEST(GoldenModel, ShiftOperatorGivesValuesAndGradients) {
  RWKVX_FOR_EACH_GOLDEN("model") expect_shift_operators(golden);
}

void expect_wkv_operator(const fs::path& path) {
  const SafetensorsFile file(path);
  for (const bool fast : {true, false}) {
    const auto leaf = [&](const char* name) { return read(file, name).requires_grad_(); };
    const auto w = leaf("w"), u = leaf("u"), k = leaf("k"), v = leaf("v");
    const auto state = read(file, "state_in");
    const auto [y, end] = fast ? wkv(w, u, k, v, state) : wkv_reference(w, u, k, v, state);
    expect_close(y, read(file, "y"), kValueRelative, kValueAbsolute, "y");
    const auto wanted = read(file, "state_out");
    expect_close(at_scale_of(end, wanted), wanted.slice(1, 0, 2), kValueRelative, kValueAbsolute,
                 "state_out");
    y.backward(read(file, "grad_y"));
    expect_close(k.grad(), read(file, "grad_k"), kGradRelative, kGradAbsolute, "k");
    expect_close(v.grad(), read(file, "grad_v"), kGradRelative, kGradAbsolute, "v");
    expect_close(u.grad(), read(file, "grad_u"), kGradRelative, kGradAbsolute, "u");
    expect_close(w.grad(), read(file, "grad_w"), kGradRelative, kGradAbsolute, "w");
  }
}

TEST(GoldenModel, WkvOperatorGivesValuesAndGradients) {
  RWKVX_FOR_EACH_GOLDEN("model") expect_wkv_operator(golden / "wkv_op.safetensors");
}

}  // namespace
}  // namespace rwkvx
