// Files of weights, safetensors and .pth: an Error, or tensors whose every byte can be read and a
// verdict whether they are a whole model; never a crash, nor memory beyond the file's size.
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
#include "rwkvx/formats/safetensors.h"
#include "support/pth_builder.h"

using namespace rwkvx;

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
  return {whole, whole.substr(0, whole.size() / 2), pth.build(), "<!doctype html>", "PK\x03\x04",
          ""};
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
