// Prompts, and a token of each of many sequences at a time, on a device with the kernels of the
// fused training; tokens of sequences that go on together as one graph.
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
  // One sequence goes on with T tokens: (T, C) before the head, normalized. Replaces the tensors of
  // its state.
  at::Tensor features(std::span<const TokenId> tokens, ModelState& state);
  // Steps that graphs of the last number of sequences have done.
  std::int64_t graphs_started() const;

 private:
  // A stack to write to, and the graph that does.
  struct Slot;
  Slot& free_slot(const Stack& before);
  // A pass for so many sequences of so many tokens.
  std::unique_ptr<TrainingPass> pass_for(std::int64_t sequences, std::int64_t tokens);

  Rwkv model_;
  PassPlace place_;
  bool graphs_ = true;
  std::int64_t most_ = 0;  // sequences that pass_ takes
  std::unique_ptr<TrainingPass> pass_;
  std::int64_t longest_ = 0;  // tokens that prompts_ takes
  std::unique_ptr<TrainingPass> prompts_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace rwkvx
