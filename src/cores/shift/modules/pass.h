// A site in the fused training of a block: layer norm, shift and mixes of groups of sequences, and
// their adjoint.
#pragma once

#include <string>
#include <vector>

#include "cores/shift/cuda/shift_mix_body.h"
#include "cores/shift/layout.h"
#include "cores/shift/mix_kernel.h"
#include "rwkvx/modules/pass.h"
#include "rwkvx/modules/shift.h"
#include "rwkvx/ops/layer_norm.h"

namespace rwkvx {

class ShiftPass {
 public:
  // `learned` without a form: no shift.
  ShiftPass(const ModelConfig& config, PassTools& tools, const SitePlaces& places,
            const NormParameters& norm, const ShiftParameters& learned, std::vector<at::Tensor> mix,
            MixShares shares = MixShares::kToken);

  // What of a model's shift the fused kernels lack, in words; "" for nothing.
  static std::string lacks(const ModelConfig& config);

  // Finds the taps' factors at the positions of a batch.
  void begin();
  // z[i] (rows.tokens, C) <- the mixes of the rows of x (N, C), which is the block's input or what
  // its second site takes; and the state behind them, where it is wanted.
  void forward(const PassRows& rows, const at::Tensor& x, const std::vector<at::Tensor>& z) const;
  // From dz[i]: adds the gradient of x to dx (N, C) and those of the parameters to theirs. Follows
  // forward() of the same rows.
  void backward(const PassRows& rows, const at::Tensor& x, const std::vector<at::Tensor>& dz,
                const at::Tensor& dx) const;

 private:
  static const float* read(const at::Tensor& t) { return PassTools::read(t); }
  static float* data(const at::Tensor& t) { return PassTools::data(t); }
  static float* state_of(const LayerState* state, int row, int64_t b) {
    return PassTools::state_of(state, row, b);
  }
  // Tokens [begin, end) of a sequence of the batch.
  struct Task {
    int64_t sequence, begin, end;
  };
  std::vector<Task> tasks_of(const PassRows& rows) const;
  ShiftMixSite view() const;
  ShiftMixSequence sequence(const PassRows& rows, const at::Tensor& x, int64_t b) const;
  ShiftMixStateGrads state_grads(const PassRows& rows, int64_t b) const;
  void add_factor_gradient(const PassRows& rows, const at::Tensor& dm) const;
  // With a device's kernels.
  cuda::ShiftMixInputs<float> inputs(const PassRows& rows, const PassRun& run) const;
  void forward_on_device(const PassRows& rows, const at::Tensor& x,
                         const std::vector<at::Tensor>& z) const;
  void backward_on_device(const PassRows& rows, const at::Tensor& x,
                          const std::vector<at::Tensor>& dz, const at::Tensor& dx) const;

  int64_t C_;
  PassTools& tools_;
  SitePlaces places_;
  std::size_t op_;
  NormParameters norm_;
  ShiftParameters learned_;
  std::vector<at::Tensor> mix_;
  MixShares shares_;
  at::Tensor fixed_conv_;  // gate_only: the previous token, as two taps that are not learned
  at::Tensor zero_state_, factors_;
  // Of the last rows that went forward on a device: normalized, (rows.tokens, C), mean and
  // 1 / standard deviation.
  mutable at::Tensor normal_, mean_, scale_;
};

}  // namespace rwkvx
