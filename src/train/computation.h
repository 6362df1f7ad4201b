// How a batch becomes a loss and gradients: by the fused pass, or by the modules.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/data/batches.h"
#include "rwkvx/model/loss_sum.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/modules/pass.h"

namespace rwkvx {

// The state that every sequence starts from, where it is learned: of each layer the tensor of the
// core's WKV row, without the dimension of the sequences, with a gradient.
struct LearnedState {
  std::size_t row = 0;  // among a block's
  std::vector<at::Tensor> layers;
  // What of a gradient counts, in the tensor's shape: RWKV-4's exponents and weights are fixed.
  at::Tensor mask;
};

// The start of every sequence as it would be without: zeros; of RWKV-4 sums of next to no weight,
// so that they can be learned.
LearnedState learned_state(const Rwkv& model);

// What is trained beside, or in place of, the model's parameters.
struct Additions {
  std::vector<std::pair<std::string, PassAdapter>> adapters;  // by the name of the matrix
  std::shared_ptr<LearnedState> state;
};

class Computation {
 public:
  virtual ~Computation() = default;
  // The sum of the weighted losses divided by `weight`; adds the gradient of `share` times that to
  // the trained tensors'. Where it goes backward block by block, it calls complete(layer) when
  // nothing is added any more to the parameters of this block and of all that is after it.
  using Complete = std::function<void(std::int64_t layer)>;
  virtual LossSum gradients(const TokenBatch& batch, double share, double weight,
                            const Complete& complete = {}) = 0;
  // The weighted mean alone, without dropout.
  virtual LossSum loss(const TokenBatch& batch) = 0;
  // Of the buffers, where they are made once; 0 where not.
  virtual double buffer_bytes() const { return 0; }
};

// `limits`: of the batches, and where the model is. `keep_copy`: see PassTools.
std::unique_ptr<Computation> fused_computation(Rwkv model, const TrainingConfig& config,
                                               const PassLimits& limits, const Additions& additions,
                                               const KeepCopy& keep_copy = {});
// `device`: that of the model.
std::unique_ptr<Computation> module_computation(Rwkv model, const TrainingConfig& config,
                                                const Additions& additions);

// A stretch of a sequence of a batch.
struct Piece {
  std::int64_t sequence, begin, tokens, position;  // begin: in the batch's tokens
};
// Cuts sequences into pieces of at most `segment` tokens (0: whole) and puts these into groups of
// at most `tokens` tokens (at least one piece) and `most` pieces (0: any): a sequence's pieces come
// in order, in different groups.
std::vector<std::vector<Piece>> cut_into_groups(const std::vector<std::int64_t>& lengths,
                                                std::int64_t segment, std::int64_t tokens,
                                                std::int64_t most);

}  // namespace rwkvx
