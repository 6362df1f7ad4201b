#include "cores/shift/step.h"

#include <algorithm>
#include <cmath>

#include "rwkvx/cores/shift.h"
#include "rwkvx/kernels/product.h"

namespace rwkvx {

ShiftStep::ShiftStep(const StepSetup& setup, const std::string& norm, const std::string& shift,
                     const std::vector<std::string>& mixes, const SitePlaces& places,
                     MixShares shares)
    : layer_(setup.layer), places_(places) {
  const auto& config = setup.config;
  const std::int64_t C = config.n_embd;
  mix_.channels = C;
  mix_.norm_weight = setup.vector(norm + ".weight");
  mix_.norm_bias = setup.vector(norm + ".bias");
  mix_.mixes = static_cast<int>(mixes.size());
  mix_.mix_before = shares == MixShares::kBefore;
  for (std::size_t i = 0; i < mixes.size(); ++i) mix_.mix[i] = setup.vector(mixes[i]);
  if (shift.empty()) return;
  if (config.shift.has_conv()) {
    mix_.taps = config.shift.kernel;
    mix_.dilation = config.shift.dilation;
    mix_.silu = config.shift.has_silu();
    mix_.conv = setup.vector(shift + "conv");
  } else {  // a copy of the token before
    mix_.taps = 2;
    auto* taps = setup.weights.floats(2 * C);
    std::fill(taps + C, taps + 2 * C, 1.0f);
    mix_.conv = taps;
  }
  if (shift_features(config.shift) > 0) pos_u_ = setup.vector(shift + "pos_u");
  const auto& form = gate_form(config);
  if (form.always_open()) return;
  const auto rows = form.rows(config);
  const auto values = [&](std::size_t i) { return setup.vector(shift + rows[i].name); };
  if (form.elementwise) {
    mix_.gate_x = values(0), mix_.gate_s = values(1), mix_.gate_b = values(2);
    return;
  }
  for (std::size_t i = 0; i + 1 < rows.size(); ++i) {
    gate_matrices_.emplace_back(
        WeightMatrix{.type = WeightType::kF32,
                     .rows = rows[i].shape[0],
                     .columns = rows[i].shape[1],
                     .values = reinterpret_cast<const std::byte*>(values(i))});
  }
  gate_bias_ = values(rows.size() - 1);
}

void ShiftStep::prepare(StepRun& run, const Buffers& buffers) {
  const auto& shift = run.config().shift;
  const std::int64_t C = run.config().n_embd, K = shift.kernel, R = run.rows();
  buffers_ = buffers;
  for (const auto one : buffers_.z) run.reserve(one, C);
  run.reserve(buffers_.normal, C);
  run.reserve(buffers_.gate, C);
  gate_products_.resize(gate_matrices_.size());
  for (std::size_t i = 0; i < gate_matrices_.size(); ++i)
    gate_products_[i].reserve(R * gate_matrices_[i].view.rows);
  if (pos_u_ == nullptr) return;
  const std::int64_t F = shift_features(shift);
  const double* phi = run.phi();
  factors_.resize(static_cast<std::size_t>(R * K));
  float* to = factors_.data();
  for (std::int64_t i = 0; i < R; ++i)
    for (std::int64_t j = 0; j < K; ++j, ++to) {
      double m = 1;
      for (std::int64_t f = 0; f < F; ++f)
        m += static_cast<double>(pos_u_[j * F + f]) * phi[i * F + f];
      *to = static_cast<float>(m);
    }
}

void ShiftStep::find_gates(const StepRun& run, const Moments* moments, std::int64_t first,
                           std::int64_t last) const {
  const std::int64_t C = mix_.channels;
  float* normal = run.buffer(buffers_.normal);
  for (std::int64_t i = first; i < last; ++i)
    normalize(run.x() + i * C, moments[i], mix_.norm_weight, mix_.norm_bias, 0, C, normal + i * C);
  const float* in = normal;  // (R, columns of the next matrix)
  for (std::size_t i = 0; i < gate_matrices_.size(); ++i) {
    const auto& matrix = gate_matrices_[i].view;
    float* out = gate_products_[i].get();
    multiply_panels(matrix, 0, matrix.rows, {last - first, in + first * matrix.columns, nullptr},
                    out + first * matrix.rows, matrix.rows);
    in = out;
  }
  const std::int64_t G = gate_matrices_.back().view.rows, width = C / G;
  float* gates = run.buffer(buffers_.gate);
  for (std::int64_t i = first * G; i < last * G; ++i)
    std::fill_n(gates + i * width, width, 1 / (1 + std::exp(-in[i] - gate_bias_[i % G])));
}

void ShiftStep::run(const Worker& worker, StepRun& run) {
  const std::int64_t C = mix_.channels, R = run.rows();
  const bool by_rows =
      gate_bias_ == nullptr && std::ssize(run.pieces()) == R && R >= worker.threads;
  if (by_rows) {
    worker.share(R, 1, [&](std::int64_t first, std::int64_t last) {
      const auto* moments = run.find_moments(run.x(), first, last);
      const auto some = static_cast<std::size_t>(last - first);
      mix(run, moments, run.pieces().subspan(static_cast<std::size_t>(first), some), 0, C);
    });
  } else {
    const auto* moments = run.find_moments(worker, run.x());
    if (gate_bias_ != nullptr) {
      const auto [first, last] = worker.part(R, 1);
      if (first < last) find_gates(run, moments, first, last);
      worker.meet();
    }
    run.share(worker, R, C, [&](std::int64_t first, std::int64_t last) {
      mix(run, moments, run.pieces(), first, last);
    });
  }
  worker.meet();
}

void ShiftStep::mix(const StepRun& run, const Moments* moments, std::span<const StepPiece> pieces,
                    std::int64_t first, std::int64_t last) const {
  const std::int64_t C = mix_.channels, K = mix_.taps;
  for (const auto& piece : pieces) {
    ShiftMixRows rows;
    rows.tokens = piece.tokens;
    rows.x = run.x() + piece.first * C;
    rows.moments = moments + piece.first;
    if (pos_u_ != nullptr) rows.m = factors_.data() + piece.first * K;
    if (gate_bias_ != nullptr) rows.gate = run.buffer(buffers_.gate) + piece.first * C;
    rows.t = piece.t;
    if (places_.ring >= 0) rows.ring = run.state(piece, layer_, places_.ring);
    rows.prev = run.state(piece, layer_, places_.prev);
    for (std::size_t i = 0; i < buffers_.z.size(); ++i)
      rows.z[i] = run.buffer(buffers_.z[i]) + piece.first * C;
    shift_mix_rows(mix_, rows, first, last);
  }
}

}  // namespace rwkvx
