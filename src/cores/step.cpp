#include "rwkvx/cores/step.h"

#include <algorithm>
#include <stdexcept>

#include "rwkvx/cores/core.h"
#include "rwkvx/cores/shift.h"
#include "rwkvx/kernels/activation.h"
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

void StepRun::begin(std::vector<StepPiece> pieces) {
  pieces_ = std::move(pieces);
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
  if (rows_ < kSharedRows) return;
  // Few columns take more of int4's layout, many of int8's.
  const std::int64_t bytes = std::max(QuantizedLayout(WeightType::kInt8, widest_).bytes,
                                      QuantizedLayout(WeightType::kInt4, widest_).bytes);
  for (auto& shared : shared_) shared.reserve(rows_ * bytes);
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
  worker.share(rows_, 1,
               [&](std::int64_t first, std::int64_t last) { find_moments(rows, first, last); });
  worker.meet();
  return moments_.data();
}

const Moments* StepRun::find_moments(const float* rows, std::int64_t first, std::int64_t last) {
  const std::int64_t C = config_.n_embd;
  for (std::int64_t i = first; i < last; ++i)
    moments_[static_cast<std::size_t>(i)] = row_moments(rows + i * C, C);
  return moments_.data();
}

// A few rows are quantized by every worker for itself, more are shared out.
StepRun::Input StepRun::input(const Worker& worker, const WeightMatrix& matrix, const float* rows,
                              std::int64_t count) {
  const bool integers = matrix.type == WeightType::kInt8 || matrix.type == WeightType::kInt4;
  if (!integers) return {rows, count, nullptr};
  const std::int64_t N = matrix.columns, bytes = QuantizedLayout(matrix.type, N).bytes;
  auto& own = own_[static_cast<std::size_t>(worker.id)];
  const int number = own.inputs++;
  if (number >= kMostInputs)
    throw std::logic_error("too many inputs of products between two meetings");
  const bool alone = count < kSharedRows;
  if (alone) own.quantized[number].reserve(count * bytes);
  std::byte* to = (alone ? own.quantized[number] : shared_[number]).get();
  const auto quantize = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      quantize_activations(matrix, rows + i * N, to + i * bytes);
  };
  if (alone)
    quantize(0, count);
  else
    worker.share(count, 1, quantize), own.shared = true;
  return {rows, count, to};
}

void StepRun::meet_inputs(const Worker& worker) {
  auto& own = own_[static_cast<std::size_t>(worker.id)];
  if (own.shared) worker.meet();
  own.inputs = 0, own.shared = false;
}

void StepRun::multiply(std::initializer_list<Product> products, std::int64_t first,
                       std::int64_t last) const {
  const auto weights = [](const WeightMatrix& matrix, std::int64_t row) {
    return matrix.values + row / kPanelRows * panel_bytes(matrix.type, matrix.columns);
  };
  for (const auto* one = products.begin(); one != products.end(); ++one) {
    const auto& [matrix, in, out] = *one;
    const std::int64_t M = matrix.rows;
    // After the last one, a worker mostly goes on where it ends.
    const auto* next = one + 1 == products.end() ? weights(products.begin()->matrix, last)
                                                 : weights(one[1].matrix, first);
    multiply_panels(matrix, first, last, {in.count, in.rows, in.quantized, next}, out, M);
  }
}

void StepRun::add_product(const Worker& worker, const WeightMatrix& matrix, const float* rows,
                          float* product) {
  const std::int64_t R = rows_, C = config_.n_embd;
  const auto in = input(worker, matrix, rows, R);
  meet_inputs(worker);
  share(worker, R, C, [&](std::int64_t first, std::int64_t last) {
    multiply({{matrix, in, product}}, first, last);
    for (std::int64_t at = first; at < R * C; at += C)
      add_to(x_.get() + at, product + at, last - first);
  });
  worker.meet();
}

WeightMatrix StepSetup::matrix(const std::string& name) const {
  return weights.matrix(block_prefix(layer) + name);
}
float* StepSetup::vector(const std::string& name) const {
  return weights.vector(block_prefix(layer) + name);
}

}  // namespace rwkvx
