// What a training takes, before a machine is asked for it: memory, time, bytes on the wire.
//
// docs/scale.md has the equations and where their constants come from.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

// What a rank computes on, as its maker describes it.
struct Accelerator {
  std::string name;   // in commands: "h100"
  std::string title;  // in messages
  double flops;       // per second, of bfloat16 matrix products with float32 sums, dense
  double scalar;      // operations per second of everything else in float32
  double bandwidth;   // of its memory, bytes/s
  double memory;      // bytes
  double link;        // bytes/s each way to another one of the same machine
  double network;     // bytes/s each way to one of another machine
  int per_machine;
};
// Throws ConfigError at `where` for other names, with the nearest.
const Accelerator& find_accelerator(const std::string& name, const std::string& where);
// Their names and "cpu", with commas.
std::string accelerator_names();

// How fast one rank does what.
struct Speeds {
  double block = 0;      // seconds per token and layer, forward and backward
  double rest = 0;       // seconds per token: embedding, head, loss
  double launches = 0;   // seconds per batch at least, however few its tokens are
  double optimizer = 0;  // seconds per parameter that the rank updates
  double wire = 0;       // bytes/s of a rank, each way, with `ranks` of them at it
  double latency = 0;    // seconds per message
  double overlap = 0;    // share of the backward pass of a last batch that sums may hide behind
};

// Those of an accelerator by docs/scale.md's model: estimates. config.model.vocab_size is set.
Speeds estimated_speeds(const Accelerator& kind, const TrainConfig& config, std::int64_t ranks);
// Those of this machine's processors, `ranks` processes sharing them: a model of the same width
// with one layer and with many, as 20 seconds allow, takes a few steps here, and bytes go over the
// loopback device. May throw what training throws.
Speeds measured_speeds(const TrainConfig& config, std::int64_t ranks);

struct Plan {
  std::int64_t ranks = 1, parameters = 0, step_tokens = 0, tokens = 0;
  // Per rank, bytes at the peak; their sum.
  std::vector<std::pair<std::string, double>> memory;
  double memory_total = 0;
  // Per step, seconds; what of the sums is not hidden behind the backward pass is "waiting".
  std::vector<std::pair<std::string, double>> time;
  double step_seconds = 0;
  double wire_bytes = 0;  // sent by a rank per step
  double flops = 0;       // in matrix products per token, forward and backward
  double efficiency = 0;  // share of a step in which nothing waits for other ranks
  double tokens_per_second() const { return static_cast<double>(step_tokens) / step_seconds; }
  double seconds() const { return static_cast<double>(tokens) / tokens_per_second(); }
};

// `tokens`: to train on in all. A step's rows are dealt out to the ranks; config.train.batch_size
// sequences at least per rank, or ConfigError. `on_device`: the modules train there, else the fused
// pass. config.model.vocab_size is set.
Plan make_plan(const TrainConfig& config, std::int64_t ranks, std::int64_t tokens,
               const Speeds& speeds, bool on_device);

}  // namespace rwkvx
