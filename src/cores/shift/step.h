// A site in the engine: layer norm, shift and mixes.
#pragma once

#include <string>
#include <vector>

#include "cores/shift/gate_forms.h"
#include "cores/shift/layout.h"
#include "cores/shift/step_kernel.h"
#include "rwkvx/cores/step.h"
#include "rwkvx/kernels/weight_panels.h"

namespace rwkvx {

class ShiftStep {
 public:
  // The names of the layer norm, "ln1"; of the shift's prefix, "att.shift.", "" where there is
  // none; and of the mixes.
  ShiftStep(const StepSetup& setup, const std::string& norm, const std::string& shift,
            const std::vector<std::string>& mixes, const SitePlaces& places,
            MixShares shares = MixShares::kToken);

  // Numbers of the buffers that the site works with: one (R, C) for each mix, and two of its own.
  struct Buffers {
    std::vector<std::size_t> z;
    std::size_t normal, gate;
  };
  // Reserves them, and finds the taps' factors of all rows.
  void prepare(StepRun& run, const Buffers& buffers);
  // z <- layer norm, shift and mixes of x, all rows; the workers meet at the end.
  void run(const Worker& worker, StepRun& run);

 private:
  // The gates of rows first .. last where they look at all channels of a token, from the moments of
  // all rows.
  void find_gates(const StepRun& run, const Moments* moments, std::int64_t first,
                  std::int64_t last) const;
  // z of channels first .. last and the rows of these pieces.
  void mix(const StepRun& run, const Moments* moments, std::span<const StepPiece> pieces,
           std::int64_t first, std::int64_t last) const;
  std::int64_t layer_;
  SitePlaces places_;
  Buffers buffers_;
  ShiftMixWeights mix_;
  // Of a gate that looks at all channels of a token.
  std::vector<PanelMatrix> gate_matrices_;
  std::vector<StepBuffer> gate_products_;  // (R, rows of the matrix) each
  const float* gate_bias_ = nullptr;
  const float* pos_u_ = nullptr;  // (K, features), or null
  std::vector<float> factors_;    // (R, K)
};

}  // namespace rwkvx
