#include "rwkvx/cores/step.h"

#include <algorithm>

#include "rwkvx/cores/core.h"
#include "rwkvx/cores/shift.h"
#include "rwkvx/kernels/matvec.h"
#include "rwkvx/kernels/product.h"

namespace rwkvx {
namespace {

// Weight rows that are unpacked and multiplied at a time in a product of a chunk, at most.
constexpr std::int64_t kUnpackedRows = 128;

}  // namespace

StepRun::StepRun(const ModelConfig& config) : config_(config) {
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
  privates_.resize(std::max(privates_.size(), static_cast<std::size_t>(threads)));
  own_moments_.resize(privates_.size());
}

void StepRun::reserve(std::size_t buffer, std::int64_t width) {
  if (buffer >= buffers_.size()) buffers_.resize(buffer + 1);
  buffers_[buffer].reserve(rows_ * width);
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
  const std::int64_t M = matrix.rows, N = matrix.columns;
  const auto [first, last] = own_part(worker, M);
  auto& own = privates_[static_cast<std::size_t>(worker.id)];
  if (!chunk_) {
    Activations activations{count, in, nullptr, nullptr};
    if (matrix.type == WeightType::kInt8 || matrix.type == WeightType::kInt4) {
      const std::int64_t stride = activation_stride(N);
      own.q.reserve(count * stride);
      own.scale.resize(static_cast<std::size_t>(count));
      for (std::int64_t i = 0; i < count; ++i)
        quantize_activations(matrix, in + i * N, own.q.get() + i * stride,
                             &own.scale[static_cast<std::size_t>(i)]);
      activations.q = own.q.get();
      activations.scale = own.scale.data();
    }
    matvec_rows(matrix, first, last, activations, out, M);
    return;
  }
  if (matrix.type == WeightType::kF32) {
    const float* w = reinterpret_cast<const float*>(matrix.values) + first * N;
    return multiply_rows(in, count, w, last - first, N, out + first, M);
  }
  own.unpacked.reserve(kUnpackedRows * N);
  for (std::int64_t begin = first; begin < last; begin += kUnpackedRows) {
    const std::int64_t some = std::min(kUnpackedRows, last - begin);
    unpack_rows(matrix, begin, begin + some, own.unpacked.get());
    multiply_rows(in, count, own.unpacked.get(), some, N, out + begin, M);
  }
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
