// A model's weights without training: initial values, and random numbers where those are random.
#pragma once

#include <cmath>
#include <filesystem>
#include <random>
#include <span>
#include <vector>

#include "rwkvx/cores/parameters.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx::test {

// Matrices that start as zeros get random numbers too, so that every part of the model counts.
inline void write_random_weights(const ModelConfig& config, const std::filesystem::path& path,
                                 unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<std::vector<float>> values;
  std::vector<TensorView> views;
  for (const auto& row : describe_parameters(config)) {
    auto& one = values.emplace_back(static_cast<std::size_t>(row.count()));
    const std::int64_t channels = row.shape.back();
    std::normal_distribution<float> normal(0, 0.5f / std::sqrt(static_cast<float>(channels)));
    const bool drawn = row.matrix || row.start.kind == Start::Kind::kNormal;
    for (std::int64_t i = 0; i < row.count(); ++i)
      one[static_cast<std::size_t>(i)] =
          drawn ? normal(random)
          : row.start.kind == Start::Kind::kByChannel
              ? static_cast<float>(row.start.channel(i % channels, channels))
              : static_cast<float>(row.start.number);
    views.push_back({row.name, DType::kF32, row.shape, std::as_bytes(std::span(one))});
  }
  write_safetensors(path, views);
}

}  // namespace rwkvx::test
