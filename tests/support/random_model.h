// A generator with random weights.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "rwkvx/generate/generator.h"
#include "support/random_weights.h"
#include "support/scratch.h"

namespace rwkvx {

struct RandomModel {
  using MakeTokenizer = std::function<std::unique_ptr<Tokenizer>(const ScratchDirectory&)>;
  explicit RandomModel(
      const MakeTokenizer& make = [](const auto&) { return make_byte_tokenizer(); },
      std::int64_t n_layer = 1) {
    const auto tokenizer = make(folder);
    std::filesystem::create_directory(folder / "tokenizer");
    tokenizer->save(folder / "tokenizer");
    config.n_layer = n_layer;
    config.n_embd = 16;
    config.vocab_size = tokenizer->vocab_size();
    test::write_random_weights(config, folder / "model.safetensors");
    generator = open(1);
  }
  std::unique_ptr<Generator> open(std::int64_t threads) const {
    GeneratorOptions options;
    options.threads = threads;
    options.device = "cpu";
    options.tokenizer = folder / "tokenizer";
    return std::make_unique<Generator>(folder / "model.safetensors", options);
  }
  ScratchDirectory folder;
  ModelConfig config;
  std::unique_ptr<Generator> generator;
};

}  // namespace rwkvx
