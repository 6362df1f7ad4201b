// The tensors of a file as the engine reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/step_kernel.h"
#include "rwkvx/config/model_config.h"
#include "rwkvx/engine/weight_matrix.h"
#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

// One place where the shift and the token-shift mixes stand.
struct EngineSite {
  ShiftMixWeights mix;
  const float* pos_u = nullptr;  // (K, features), or null
  // Gates that look at all channels of a token: scalar and group (gate_w (G, C), gate_b (G)),
  // lowrank (gate_d (R, C), gate_u (C, R), gate_b (C)). The diag gate is in `mix`.
  std::int64_t gates = 0, rank = 0;
  const float* gate_w = nullptr;
  const float* gate_d = nullptr;
  const float* gate_u = nullptr;
  const float* gate_b = nullptr;
  bool has_wide_gate() const { return gate_w != nullptr || gate_d != nullptr; }
};

struct EngineLayer {
  EngineSite att, ffn;
  const float* w = nullptr;  // (A), -exp(time_decay)
  const float* u = nullptr;  // (A)
  WeightMatrix key, value, receptance, output;
  WeightMatrix ffn_key, ffn_receptance, ffn_value;
};

// Zeroed memory in the system's largest pages, where it has them. A page of 4 KiB is read in 100
// ns: finding its address takes a good part of that.
class HugeMemory {
 public:
  explicit HugeMemory(std::size_t bytes);
  ~HugeMemory();
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class EngineWeights {
 public:
  // kCheck: only what the constructor throws is of interest; large matrices are not converted.
  enum class Use { kCompute, kCheck };
  EngineWeights(const TensorFile& file, const ModelConfig& config, Use use = Use::kCompute);
  EngineWeights(const EngineWeights&) = delete;
  EngineWeights& operator=(const EngineWeights&) = delete;

  std::vector<EngineLayer> layers;
  WeightMatrix embedding, head;
  const float* ln0[2] = {};  // weight and bias, (C)
  const float* ln_out[2] = {};
  // Of the matrices that a token reads whole.
  std::int64_t matrix_bytes = 0;

 private:
  WeightMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t columns);
  void pack();
  WeightMatrix quantised(const TensorView& tensor, std::int64_t rows, std::int64_t columns);
  void read_wide(WeightMatrix& matrix, const std::string& name);
  const std::int32_t* indices(const std::string& name, std::int64_t count);
  const float* vector(const std::string& name, std::int64_t count);
  EngineSite site(const std::string& prefix, const char* norm, bool shifted, int mixes);
  [[noreturn]] void fail(const std::string& tensor, const std::string& reason) const;
  const TensorView& find(const std::string& name);

  TensorFile file_;  // keeps the mapping
  ModelConfig config_;
  Use use_;
  std::set<std::string> known_;
  std::deque<std::vector<float>> own_;  // what was converted
  std::deque<std::vector<std::int32_t>> own_indices_;
  std::unique_ptr<HugeMemory> packed_;
};

}  // namespace rwkvx
