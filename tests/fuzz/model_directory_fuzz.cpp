// Directories of the transformers library: config.json and the index of shards, a zero byte between
// them, beside weights that are whole. An Error or a model; never a crash.
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/formats/safetensors.h"

using namespace rwkvx;

std::vector<std::string> fuzz_seeds() {
  const std::string config =
      R"({"model_type": "rwkv", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1,)"
      R"( "layer_norm_epsilon": 1e-05, "attn": null, "tie_word_embeddings": true})";
  const std::string index = R"({"weight_map": {"emb.weight": "one.safetensors"}})";
  return {config + std::string(1, '\0') + index, config, std::string(1, '\0') + index,
          R"({"model_type": "rwkv7", "norm_eps": 1e-05})", ""};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const bool made = [] {
    ModelConfig config;
    config.n_layer = 1;
    config.n_embd = 4;
    config.vocab_size = 8;
    config.shift.kind = ShiftKind::kNone;
    std::vector<std::vector<float>> kept;
    std::vector<TensorView> views;
    for (const auto& row : describe_parameters(config)) {
      auto& values = kept.emplace_back(static_cast<std::size_t>(row.count()), 0.5f);
      if (row.name != "head.weight")
        views.push_back({row.name, DType::kF32, row.shape, std::as_bytes(std::span(values))});
    }
    write_safetensors(folder.path() / "one.safetensors", views);
    return true;
  }();
  if (!made) return 1;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto end = std::min(text.find('\0'), text.size());
  std::ofstream(folder.path() / "config.json", std::ios::binary) << text.substr(0, end);
  std::ofstream(folder.path() / "model.safetensors.index.json", std::ios::binary)
      << text.substr(std::min(end + 1, text.size()));
  try {
    const auto source = open_model(folder.path());
    if (source.file.tensors().empty()) return 1;
  } catch (const Error&) {
  }
  return 0;
}
