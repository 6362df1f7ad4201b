#include "engine/engine_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "rwkvx/base/threads.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/engine/weights_check.h"
#include "rwkvx/kernels/team.h"
#include "rwkvx/kernels/weight_panels.h"

namespace rwkvx {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// Lets the system forget a file's bytes, which are in the process's memory now.
void forget(const std::byte* from, std::int64_t bytes) {
  const auto first = rounded_up(reinterpret_cast<std::uintptr_t>(from), kPage);
  const auto last =
      (reinterpret_cast<std::uintptr_t>(from) + static_cast<std::size_t>(bytes)) / kPage * kPage;
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

// Brings the matrices that every token reads whole into panels, in one piece of memory and in the
// order in which they are read.
void EngineWeights::pack(const std::vector<WeightMatrix*>& all) {
  const auto bytes_of = [](const WeightMatrix& one) {
    return panel_count(one.rows) * panel_bytes(one.type, one.columns);
  };
  std::int64_t total = 0;
  for (const auto* one : all) total += bytes_of(*one);
  packed_ = std::make_unique<HugeMemory>(static_cast<std::size_t>(total));
  run_team(team_threads(), [&](const Worker& worker) {
    std::byte* to = packed_->data();
    for (const auto* one : all) {
      worker.share(panel_count(one->rows), 1, [&](std::int64_t begin, std::int64_t end) {
        pack_panels(*one, begin, end, to + begin * panel_bytes(one->type, one->columns));
        const std::int64_t first = begin * kPanelRows, last = std::min(end * kPanelRows, one->rows);
        forget(one->values + first * one->row_bytes(), (last - first) * one->row_bytes());
      });
      to += bytes_of(*one);
    }
  });
  std::byte* at = packed_->data();
  for (auto* one : all) {
    one->values = at;
    one->scales = nullptr;
    one->panels = true;
    at += bytes_of(*one);
  }
}

}  // namespace rwkvx
