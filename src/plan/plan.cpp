#include "rwkvx/plan/plan.h"

#include <algorithm>

#include "plan/segment.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/cores/cost.h"
#include "rwkvx/model/training_pass.h"

namespace rwkvx {
namespace {

// Makers' data sheets: dense bfloat16 products, float32, memory, NVLink (one way; half of what is
// named for both) or PCI Express 4.0 x16; 400, 200 and 100 Gbit/s of network per device.
const Accelerator kAccelerators[] = {
    {"h100", "NVIDIA H100 SXM 80 GB", 989e12, 67e12, 3.35e12, 80e9, 450e9, 50e9, 8},
    {"a100", "NVIDIA A100 SXM 80 GB", 312e12, 19.5e12, 2.04e12, 80e9, 300e9, 25e9, 8},
    {"4090", "NVIDIA GeForce RTX 4090", 165e12, 82.6e12, 1.01e12, 24e9, 25e9, 12.5e9, 8},
};

// ---- an accelerator's speed, by what the fused pass does there ---------------------------------

// Share of the peak that matrix products reach: kProductShare * C / (C + kHalfWidth); and the
// head's.
constexpr double kProductShare = 0.81, kHalfWidth = 611, kHeadShare = 0.66;
// Bytes of memory traffic of everything else, forward and backward: per counted elementwise
// operation of the forward pass, per logit, per updated parameter.
constexpr double kBytesPerOperation = 15, kBytesPerLogit = 14, kBytesPerUpdate = 36;
// Share of the float32 operations per second that a recurrence in registers reaches.
constexpr double kStateShare = 0.25;
// Kernel launches of a layer, forward and backward, and seconds each where nothing else bounds
// them.
constexpr double kLaunchesPerLayer = 110, kLaunchSeconds = 4e-6;
// Bytes per token and channel of what a site allocates while it computes.
constexpr double kPassingBytes = 16;
// The runtime's and the libraries' own.
constexpr double kDeviceContextBytes = 1.5e9;
constexpr double kMessageSeconds = 10e-6;
// What the backward pass of a last batch hides: sums begin when the first block's gradient is
// there.
constexpr double kOverlap = 0.8;

const PassPlace kDevicePlace = PassPlace::of(c10::Device(c10::kCUDA), /*bfloat16=*/true);

struct Products {
  double blocks = 0, head = 0;  // operations per token of the forward pass
  double elementwise = 0;       // through memory
  double in_state = 0;          // in registers
};
Products products_of(const ModelConfig& model) {
  const auto cost = count_cost(model);
  Products all;
  for (const auto& module : cost.modules)
    (module.name == kHeadPart ? all.head : all.blocks) += module.matrix;
  all.elementwise = cost.elementwise() - cost.in_state;
  all.in_state = cost.in_state;
  return all;
}

double real(std::int64_t value) { return static_cast<double>(value); }

// Rows of a batch that the busiest rank has.
std::int64_t rows_per_rank(const TrainConfig& config, std::int64_t ranks) {
  return (config.train.batch_size + ranks - 1) / ranks;
}

std::vector<std::pair<std::string, double>> memory_of(const TrainConfig& config, std::int64_t ranks,
                                                      bool on_device) {
  const auto& model = config.model;
  const auto& t = config.train;
  const double P = real(parameter_count(model));
  const auto rows = rows_per_rank(config, ranks);
  const auto segment = segment_of(t);
  const double moment_bytes = t.moments == MomentType::kInt8 ? 2 : 8;
  std::vector<std::pair<std::string, double>> all = {
      {"weights", 4 * P},
      {"gradients", 4 * P},
      {"moments", moment_bytes * P / real(ranks)},
  };
  if (t.ema_decay > 0) all.emplace_back("averages", 4 * P);
  TrainingPassOptions options;
  options.checkpoint_blocks = t.grad_checkpoint == GradCheckpoint::kBlock;
  if (on_device) {
    all.emplace_back("bfloat16 weights", 2 * P);
    options.place = kDevicePlace;
    options.sequences = rows;
    all.emplace_back("activations",
                     TrainingPass::buffer_bytes(model, rows * segment, segment, options) +
                         kPassingBytes * real(rows * segment * model.n_embd));
    all.emplace_back("CUDA", kDeviceContextBytes);
  } else {
    all.emplace_back("activations",
                     TrainingPass::buffer_bytes(model, rows * segment, segment, options));
    all.emplace_back("program", resident_memory_bytes() + kProductsWorkspaceBytes);
  }
  return all;
}

}  // namespace

const Accelerator& find_accelerator(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const auto& one : kAccelerators) {
    if (one.name == name) return one;
    names.push_back(one.name);
  }
  names.emplace_back("cpu");
  throw ConfigError(where, "expected one of " + accelerator_names() + ", got \"" + name + "\"" +
                               did_you_mean(name, names));
}

std::string accelerator_names() {
  std::string text;
  for (const auto& one : kAccelerators) text += one.name + ", ";
  return text + "cpu";
}

Speeds estimated_speeds(const Accelerator& kind, const TrainConfig& config, std::int64_t ranks) {
  const auto& model = config.model;
  if (const auto lacking = TrainingPass::lacks(model, kDevicePlace); !lacking.empty())
    throw ConfigError("--gpu " + kind.name,
                      "the fused operators, of which it knows, do not have " + lacking);
  const auto cost = products_of(model);
  const double C = real(model.n_embd), L = real(model.n_layer);
  const double share = kProductShare * C / (C + kHalfWidth);
  Speeds speeds;
  speeds.block = 3 * cost.blocks / L / (share * kind.flops) +
                 kBytesPerOperation * cost.elementwise / L / kind.bandwidth +
                 3 * cost.in_state / L / (kStateShare * kind.scalar);
  speeds.rest = 3 * cost.head / (kHeadShare * kind.flops) +
                kBytesPerLogit * real(model.vocab_size) / kind.bandwidth;
  speeds.launches = kLaunchesPerLayer * L * kLaunchSeconds;
  speeds.optimizer = kBytesPerUpdate / kind.bandwidth;
  speeds.wire = ranks > kind.per_machine ? kind.network : kind.link;
  speeds.latency = kMessageSeconds;
  speeds.overlap = kOverlap;
  return speeds;
}

Plan make_plan(const TrainConfig& config, std::int64_t ranks, std::int64_t tokens,
               const Speeds& speeds, bool on_device) {
  const auto& t = config.train;
  if (ranks > t.batch_size)
    throw ConfigError("train.batch_size",
                      std::to_string(t.batch_size) + " sequences cannot be dealt out to " +
                          std::to_string(ranks) + " ranks; at least one each is needed");
  Plan plan;
  plan.ranks = ranks;
  plan.parameters = parameter_count(config.model);
  plan.step_tokens = t.grad_accum_steps * t.batch_size * t.ctx_len;
  plan.tokens = tokens;
  plan.memory = memory_of(config, ranks, on_device);
  for (const auto& [name, bytes] : plan.memory) plan.memory_total += bytes;
  const auto cost = products_of(config.model);
  plan.flops = 3 * (cost.blocks + cost.head);

  const double P = real(plan.parameters), W = real(ranks);
  const double batch_tokens = real(rows_per_rank(config, ranks) * t.ctx_len);
  const double parts = real(t.grad_accum_steps);
  const double blocks = batch_tokens * speeds.block * real(config.model.n_layer),
               rest = batch_tokens * speeds.rest;
  const double batch = std::max(blocks + rest, speeds.launches);
  // Gradients are summed (a rank sends and gets (W - 1) / W of them twice over: first its share of
  // the sums, then the sums), and every rank's part of the new weights comes to all.
  const double sums = ranks > 1 ? 2 * (W - 1) / W * 4 * P : 0,
               weights = ranks > 1 ? (W - 1) / W * 4 * P : 0;
  plan.wire_bytes = sums + weights;
  const double hidden = 2.0 / 3.0 * batch * speeds.overlap;
  const double summing = ranks > 1 ? sums / speeds.wire + 2 * (W - 1) * speeds.latency : 0;
  const double sharing = ranks > 1 ? weights / speeds.wire + (W - 1) * speeds.latency : 0;
  const double waiting = std::max(0.0, summing - hidden) + sharing;
  plan.time = {{"blocks", parts * blocks},
               {"embedding, head and loss", parts * rest},
               {"launches", parts * (batch - blocks - rest)},
               {"optimizer", speeds.optimizer * P / W},
               {"waiting for sums", waiting}};
  for (const auto& [name, seconds] : plan.time) plan.step_seconds += seconds;
  plan.efficiency = 1 - waiting / plan.step_seconds;
  return plan;
}

}  // namespace rwkvx
