// A token of each of many sequences at a time on a device, with the kernels of the fused training
// and, where the same sequences go on, as one graph.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/batch_graph.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

class DecodingPass {
 public:
  // The states of sequences, one after the other.
  using Stack = std::shared_ptr<const ModelState>;
  // `place`: with kernels; the model's matrices of more than one type are copied to the place's.
  DecodingPass(Rwkv model, const PassPlace& place);
  ~DecodingPass();

  // Logits (R, V) behind one more token of each of R sequences, which the next step() writes over,
  // and in `after` their states. `before` is left as it is while anybody else holds it.
  at::Tensor step(std::span<const TokenId> tokens, const Stack& before, Stack& after);
  // Steps that graphs of the last number of sequences have done.
  std::int64_t graphs_started() const;

 private:
  // A stack to write to, and the graph that does.
  struct Slot;
  Slot& free_slot(const Stack& before);

  Rwkv model_;
  PassPlace place_;
  bool graphs_ = true;
  std::int64_t most_ = 0;  // sequences that pass_ takes
  std::unique_ptr<TrainingPass> pass_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace rwkvx
