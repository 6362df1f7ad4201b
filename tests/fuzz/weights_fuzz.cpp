// Files of weights, safetensors, .pth and GGUF, with the names of several tools: an Error, or
// tensors whose every byte can be read and a verdict whether they are a whole model; never a crash,
// nor memory beyond the file's size.
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/engine/weights_check.h"
#include "rwkvx/formats/gguf.h"
#include "rwkvx/formats/pth.h"
#include "rwkvx/formats/safetensors.h"
#include "support/pth_builder.h"

using namespace rwkvx;

namespace {

// An RWKV-7 model in the layouts of other tools.
void add_rwkv7(const std::filesystem::path& folder, std::vector<std::string>& seeds) {
  ModelConfig config;
  config.core = "rwkv7";
  config.n_layer = 2;
  config.n_embd = config.head_size = 8;
  config.vocab_size = 8;
  config.shift.kind = ShiftKind::kNone;
  std::vector<std::vector<float>> kept;
  std::vector<TensorView> views;
  for (const auto& row : describe_parameters(config)) {
    auto& values = kept.emplace_back(static_cast<std::size_t>(row.count()), 0.5f);
    views.push_back({row.name, DType::kF32, row.shape, std::as_bytes(std::span(values))});
  }
  write_safetensors(folder / "b", views);
  const auto file = read_safetensors(folder / "b");
  for (const auto& naming : core_of(config).namings()) {
    if (naming.use == NamingUse::kReadOnly) continue;
    const auto tensors = in_layout_of(
        naming, config, file, [](const TensorView& one) { return one.dtype; },
        [](const std::string&) { return false; });
    if (naming.use == NamingUse::kHuggingFace) {
      write_pth(folder / "c", tensors);
    } else {
      std::vector<GgufTensor> all;
      for (const auto& tensor : tensors) all.push_back({tensor});
      write_gguf(folder / "c", all,
                 {{"rwkv7.wkv.head_size", std::uint32_t{8}},
                  {kGgufTokens, std::vector<std::string>{"<s>", "a"}}});
    }
    seeds.push_back(read_file(folder / "c"));
  }
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  const TemporaryFolder folder;
  ModelConfig config;
  config.n_layer = 2;
  config.n_embd = 4;
  config.vocab_size = 8;
  std::vector<std::vector<float>> kept;
  std::vector<TensorView> views;
  test::PthBuilder pth;
  for (const auto& row : describe_parameters(config)) {
    auto& values = kept.emplace_back(static_cast<std::size_t>(row.count()), 0.5f);
    views.push_back({row.name, DType::kF32, row.shape, std::as_bytes(std::span(values))});
    pth.add(row.name, row.shape);
  }
  write_safetensors(folder.path() / "a", views, {{"weights", "f32"}});
  const auto whole = read_file(folder.path() / "a");
  std::vector<std::string> seeds = {
      whole, whole.substr(0, whole.size() / 2), pth.build(), "<!doctype html>", "PK\x03\x04", ""};
  add_rwkv7(folder.path(), seeds);
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto path = folder.path() / "weights";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const auto file = open_tensors(path);
    volatile std::size_t sum = 0;
    for (const auto& tensor : file.tensors())
      for (const auto byte : tensor.bytes) sum = sum + static_cast<std::size_t>(byte);
    check_weights(file, infer_config(file));
  } catch (const Error&) {
  }
  return 0;
}
