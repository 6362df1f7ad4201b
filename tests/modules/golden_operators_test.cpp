// The operators of the cores against numbers that other programs computed; tests/golden/README.md.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "cores/rwkv4/modules/wkv.h"
#include "cores/rwkv7/modules/wkv.h"
#include "cores/shift/gate_forms.h"
#include "cores/shift/modules/conv_shift.h"
#include "cores/shift/modules/parameters.h"
#include "rwkvx/base/field.h"
#include "rwkvx/formats/safetensors.h"
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

at::Tensor read(const TensorFile& file, const std::string& name) {
  const auto& view = file.at(name);
  const auto values = to_float32(view);
  return at::tensor(values).view(view.shape);
}

void expect_shift_operators(const fs::path& folder) {
  const auto json = read_json_file((folder / "shift_op.json").string());
  int cases = 0;
  for (const auto& [name, one] : json.items()) {
    if (one.value("base", "self") != "self") continue;  // an alternative that was not chosen
    SCOPED_TRACE(name);
    ++cases;
    const auto file = read_safetensors(folder / ("shift_op_" + name + ".safetensors"));
    const auto parameter = [&](const std::string& key) {
      return file.find("p." + key) == nullptr ? at::Tensor()
                                              : read(file, "p." + key).requires_grad_();
    };
    ModelConfig config;
    const bool has_gate = file.find("p.gate_b") != nullptr;
    config.shift.gate = file.find("p.gate_w") != nullptr   ? Gate::kGroup
                        : file.find("p.gate_d") != nullptr ? Gate::kLowrank
                        : has_gate                         ? Gate::kDiag
                                                           : Gate::kOne;
    ShiftParameters learned{parameter("conv"), parameter("pos_u"), &gate_form(config), {}};
    std::vector<std::pair<std::string, at::Tensor>> all{{"conv", learned.conv},
                                                        {"pos_u", learned.pos_u}};
    if (has_gate)
      for (const auto& row : learned.form->rows(config)) {
        learned.gate.push_back(parameter(row.name));
        all.emplace_back(row.name, learned.gate.back());
      }
    const auto a = read(file, "a").requires_grad_();
    auto ring = read(file, "hist_in");
    at::Tensor phi;
    if (one["pos"] != "none")
      phi =
          position_features(read_enum<Position>(one["pos"], "pos"),
                            at::full({a.size(0)}, one["t0"].get<int64_t>(), at::kLong), a.size(1));
    const auto out = conv_shift(a, learned, phi, ring);
    expect_close(out, read(file, "out"), kValueRelative, kValueAbsolute, "out");
    expect_close(ring, read(file, "hist_out"), kValueRelative, kValueAbsolute, "hist_out");
    out.backward(read(file, "grad_out"));
    expect_close(a.grad(), read(file, "grad_a"), kGradRelative, kGradAbsolute, "grad_a");
    for (const auto& [key, tensor] : all)
      if (tensor.defined())
        expect_close(tensor.grad(), read(file, "grad." + key), kGradRelative, kGradAbsolute, key);
  }
  EXPECT_GT(cases, 0);
}

TEST(GoldenOperators, ShiftGivesValuesAndGradients) {
  RWKVX_FOR_EACH_GOLDEN("model") expect_shift_operators(golden);
}

void expect_wkv_operator(const fs::path& path) {
  const auto file = read_safetensors(path);
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

TEST(GoldenOperators, WkvGivesValuesAndGradients) {
  RWKVX_FOR_EACH_GOLDEN("model") expect_wkv_operator(golden / "wkv_op.safetensors");
}

void expect_wkv7_operator(const fs::path& path) {
  const auto file = read_safetensors(path);
  for (const bool fast : {true, false}) {
    SCOPED_TRACE(fast ? "kernel" : "reference");
    std::map<std::string, at::Tensor> leaves;
    for (const char* name : {"r", "w", "k", "v", "z", "b", "state_in"})
      leaves[name] = read(file, name).requires_grad_();
    const auto d = at::exp(-0.60653065971263342 * at::sigmoid(leaves["w"]));
    const auto [y, end] = (fast ? wkv7 : wkv7_reference)(
        leaves["r"], d, leaves["k"], leaves["v"], leaves["z"], leaves["b"], leaves["state_in"]);
    // The sums of N products beside values of any size.
    expect_close(y, read(file, "y"), kValueRelative, 1e-4, "y");
    expect_close(end, read(file, "state_out"), kValueRelative, 1e-4, "state_out");
    const auto loss = (y * read(file, "grad_y")).sum() + (end * read(file, "grad_state_out")).sum();
    loss.backward();
    for (const auto& [name, leaf] : leaves)
      expect_close(leaf.grad(), read(file, "grad_" + name), kGradRelative, kGradAbsolute, name);
  }
}

TEST(GoldenOperators, Wkv7GivesValuesAndGradients) {
  RWKVX_FOR_EACH_GOLDEN("rwkv7")
  for (const auto& entry : fs::directory_iterator(golden))
    if (entry.path().filename().string().starts_with("wkv7_op")) {
      SCOPED_TRACE(entry.path());
      expect_wkv7_operator(entry.path());
    }
}

}  // namespace
}  // namespace rwkvx
