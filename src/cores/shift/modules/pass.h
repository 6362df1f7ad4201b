// A site in the fused training of a block: layer norm, shift and mixes of groups of sequences, and
// their adjoint.
#pragma once

#include <string>
#include <vector>

#include "cores/shift/layout.h"
#include "cores/shift/mix_kernel.h"
#include "rwkvx/modules/pass.h"
#include "rwkvx/modules/shift.h"
#include "rwkvx/ops/layer_norm.h"

namespace rwkvx {

class ShiftPass {
 public:
  // `learned` without a form: no shift.
  ShiftPass(const ModelConfig& config, PassTools& tools, const NormParameters& norm,
            const ShiftParameters& learned, std::vector<at::Tensor> mix,
            MixShares shares = MixShares::kToken);

  // What of a model's shift the fused kernels lack, in words; "" for nothing.
  static std::string lacks(const ModelConfig& config);

  // Finds the taps' factors, which are the same for all sequences of a batch.
  void begin();
  // z[i] (count T, C) <- the mixes of sequences first .. first + count of x (N, C).
  void forward(const at::Tensor& x, int64_t first, int64_t count,
               const std::vector<at::Tensor>& z) const;
  // From dz[i]: adds the gradient of x to dx (N, C) and those of the parameters to theirs.
  void backward(const at::Tensor& x, int64_t first, int64_t count,
                const std::vector<at::Tensor>& dz, const at::Tensor& dx) const;

 private:
  ShiftMixSite view() const;
  ShiftMixSequence sequence(const at::Tensor& x, int64_t b) const;
  template <class Run>
  void for_segments(int64_t count, const Run& run) const;

  int64_t C_;
  PassTools& tools_;
  std::size_t op_;
  NormParameters norm_;
  ShiftParameters learned_;
  std::vector<at::Tensor> mix_;
  MixShares shares_;
  at::Tensor fixed_conv_;  // gate_only: the previous token, as two taps that are not learned
  at::Tensor zero_state_, factors_;
};

}  // namespace rwkvx
