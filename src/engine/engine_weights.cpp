#include "engine/engine_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>

#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/engine/weights_check.h"

namespace rwkvx {
namespace {

constexpr std::size_t kPage = 4096, kLine = 64;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// Copies a file's bytes and lets the system forget the pages that they were read into.
void move_out(const std::byte* from, std::size_t bytes, std::byte* to) {
  std::memcpy(to, from, bytes);
  const auto first = rounded_up(reinterpret_cast<std::uintptr_t>(from), kPage);
  const auto last = (reinterpret_cast<std::uintptr_t>(from) + bytes) / kPage * kPage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace

void check_weights(const TensorFile& file, const ModelConfig& config) {
  EngineWeights(file, config, WeightReader::Use::kCheck);
}

void check_model(const std::filesystem::path& path) {
  const auto source = open_model(path, Verification::kSizes);
  check_weights(source.file, source.config);
}

EngineWeights::EngineWeights(const TensorFile& file, const ModelConfig& config,
                             WeightReader::Use use)
    : reader_(file, describe_parameters(config), use) {
  embedding = reader_.matrix("emb.weight");
  const auto& core = core_of(config);
  std::vector<WeightMatrix*> all;
  for (std::int64_t l = 0; l < config.n_layer; ++l) {
    const auto block = block_prefix(l);
    if (l == 0)
      ln0[0] = reader_.vector(block + "ln0.weight"), ln0[1] = reader_.vector(block + "ln0.bias");
    blocks.push_back(core.step({config, l, reader_}));
    for (auto* matrix : blocks.back()->matrices()) all.push_back(matrix);
  }
  ln_out[0] = reader_.vector("ln_out.weight");
  ln_out[1] = reader_.vector("ln_out.bias");
  std::map<WeightType, std::int64_t> weights;
  for (const auto* one : all) weights[one->type] += one->rows * one->columns;
  for (const auto& [of, count] : weights)
    if (count > weights[type]) type = of;
  head = reader_.matrix("head.weight");
  all.push_back(&head);
  for (const auto* one : all) matrix_bytes += one->bytes();
  if (use == WeightReader::Use::kCompute) pack(all);
  reader_.refuse_unread();
}

// Moves the matrices that every token reads whole into one piece of memory, in the order in which
// they are read.
void EngineWeights::pack(const std::vector<WeightMatrix*>& all) {
  const auto values_of = [](const WeightMatrix& one) {
    return static_cast<std::size_t>(one.rows * one.row_bytes());
  };
  const auto scales_of = [](const WeightMatrix& one) {
    return static_cast<std::size_t>(one.rows * one.row_scale_bytes());
  };
  std::size_t total = 0;
  for (const auto* one : all)
    total += rounded_up(values_of(*one), kLine) + rounded_up(scales_of(*one), kLine);
  packed_ = std::make_unique<HugeMemory>(total);
  std::byte* at = packed_->data();
  for (auto* one : all) {
    move_out(one->values, values_of(*one), at);
    one->values = at;
    at += rounded_up(values_of(*one), kLine);
    if (one->scales == nullptr) continue;
    move_out(one->scales, scales_of(*one), at);
    one->scales = at;
    at += rounded_up(scales_of(*one), kLine);
  }
}

}  // namespace rwkvx
