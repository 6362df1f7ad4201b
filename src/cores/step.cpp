#include "rwkvx/cores/step.h"

#include <algorithm>

#include "rwkvx/cores/core.h"
#include "rwkvx/cores/shift.h"
#include "rwkvx/kernels/product.h"

namespace rwkvx {
namespace {

// Rows from which on their quantization is shared out.
constexpr std::int64_t kSharedRows = 4;

}  // namespace
StepRun::StepRun(const ModelConfig& config) : config_(config), widest_(config.n_embd) {
  for (const auto& row : core_of(config).state(config)) {
    offsets_.push_back(layer_floats_);
    layer_floats_ += row.count();
  }
}

void StepRun::begin(std::vector<StepPiece> pieces, bool chunk) {
  pieces_ = std::move(pieces);
  chunk_ = chunk;
  rows_ = 0;
  phi_.clear();
  for (const auto& piece : pieces_) {
    rows_ += piece.tokens;
    append_positions(config_, piece.t, piece.tokens, phi_);
  }
  x_.reserve(rows_ * config_.n_embd);
  moments_.resize(static_cast<std::size_t>(rows_));
}

void StepRun::set_threads(int threads) {
  own_.resize(std::max(own_.size(), static_cast<std::size_t>(threads)));
  own_moments_.resize(own_.size());
  for (auto& own : own_) own.turn = 0;
  if (chunk_ || rows_ < kSharedRows) return;
  for (auto& shared : shared_)
    shared.reserve(rows_ * QuantizedLayout(WeightType::kInt8, widest_).bytes);
}

void StepRun::reserve(std::size_t buffer, std::int64_t width) {
  if (buffer >= buffers_.size()) buffers_.resize(buffer + 1);
  buffers_[buffer].reserve(rows_ * width);
  widest_ = std::max(widest_, width);
}

const Moments* StepRun::find_moments(const Worker& worker, const float* rows) {
  const std::int64_t C = config_.n_embd;
  if (rows_ == 1) {
    auto& own = own_moments_[static_cast<std::size_t>(worker.id)];
    own = row_moments(rows, C);
    return &own;
  }
  const auto [first, last] = worker.part(rows_, 1);
  for (std::int64_t i = first; i < last; ++i)
    moments_[static_cast<std::size_t>(i)] = row_moments(rows + i * C, C);
  worker.meet();
  return moments_.data();
}

void StepRun::multiply(const Worker& worker, const WeightMatrix& matrix, const float* in,
                       std::int64_t count, float* out) {
  const std::int64_t M = matrix.rows;
  const auto [first, last] = own_part(worker, M);
  if (chunk_) return multiply_panels_as_floats(matrix, first, last, in, count, out, M);
  const bool integers = matrix.type == WeightType::kInt8 || matrix.type == WeightType::kInt4;
  const auto* quantized = integers ? quantize(worker, matrix, in, count) : nullptr;
  multiply_panels(matrix, first, last, {count, in, quantized}, out, M);
}

// A few rows are quantized by every worker for itself, more are shared out. A worker that begins on
// a shared buffer has met those that were done with it two products ago.
const std::byte* StepRun::quantize(const Worker& worker, const WeightMatrix& matrix,
                                   const float* in, std::int64_t count) {
  const std::int64_t N = matrix.columns, bytes = QuantizedLayout(matrix.type, N).bytes;
  auto& own = own_[static_cast<std::size_t>(worker.id)];
  const bool alone = count < kSharedRows;
  if (alone) own.quantized.reserve(count * bytes);
  std::byte* to = alone ? own.quantized.get() : shared_[own.turn ^= 1].get();
  const auto rows = alone ? Worker::Range{0, count} : worker.part(count, 1);
  for (std::int64_t i = rows.first; i < rows.last; ++i)
    quantize_activations(matrix, in + i * N, to + i * bytes);
  if (!alone) worker.meet();
  return to;
}

Worker::Range StepRun::own_part(const Worker& worker, std::int64_t M) {
  return worker.part(M, kStepLine);
}

WeightMatrix StepSetup::matrix(const std::string& name) const {
  return weights.matrix(block_prefix(layer) + name);
}
float* StepSetup::vector(const std::string& name) const {
  return weights.vector(block_prefix(layer) + name);
}

}  // namespace rwkvx
