// A block in the engine, and the call that a few rows of activations go through all blocks with.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/weight_reader.h"
#include "rwkvx/kernels/aligned_buffer.h"
#include "rwkvx/kernels/norm.h"
#include "rwkvx/kernels/team.h"
#include "rwkvx/kernels/weight_panels.h"

namespace rwkvx {

// Channels and weight rows that one thread takes at least: a panel, whose floats are a cache line.
inline constexpr std::int64_t kStepLine = kPanelRows;
// Those of products of several rows, which workers take piece by piece: whole tiles, which are two
// or three panels, where there are many.
inline constexpr std::int64_t kTileUnit = 2 * kStepLine, kTilesUnit = 6 * kStepLine;

using StepBuffer = AlignedBuffer<float>;

// Rows that belong to one sequence.
struct StepPiece {
  std::int64_t first, tokens;  // rows first .. first + tokens
  std::int64_t t;              // position of the first
  float* state;                // of the whole sequence, layer after layer
};

// A call in progress: R rows of activations, each the next token of a sequence, or all of one.
// What a row gets does not depend on the others, nor on the number of threads.
class StepRun {
 public:
  explicit StepRun(const ModelConfig& config);

  const ModelConfig& config() const { return config_; }
  std::int64_t rows() const { return rows_; }
  std::span<const StepPiece> pieces() const { return pieces_; }
  // (R, F), the position features of all rows; null where the model's shift has none.
  const double* phi() const { return phi_.empty() ? nullptr : phi_.data(); }
  // (R, C), the residual stream.
  float* x() const { return x_.get(); }
  // Where a row of the core's table of state lies for a layer. Rings hold position t in part t mod
  // H.
  float* state(const StepPiece& piece, std::int64_t layer, int row) const {
    return piece.state + layer * layer_floats_ + offsets_[static_cast<std::size_t>(row)];
  }
  std::int64_t layer_floats() const { return layer_floats_; }

  // Memory that all layers share, by number; reserved in prepare(), (R, width).
  void reserve(std::size_t buffer, std::int64_t width);
  float* buffer(std::size_t number) const { return buffers_[number].get(); }

  // The moments of all rows of (R, C): a few by every worker for itself, many shared out.
  const Moments* find_moments(const Worker& worker, const float* rows);
  // Those of rows first .. last, for whoever needs no others.
  const Moments* find_moments(const float* rows, std::int64_t first, std::int64_t last);

  static constexpr int kMostInputs = 8;
  // What a product takes: rows (count, N), and the same as integers where the weights are integers.
  struct Input {
    const float* rows;
    std::int64_t count;
    const std::byte* quantized;
  };
  // Begins an input of products with this matrix. Between two meetings of the workers, all inputs
  // come first, at most kMostInputs, then meet_inputs(), then the products.
  Input input(const Worker& worker, const WeightMatrix& matrix, const float* rows,
              std::int64_t count);
  void meet_inputs(const Worker& worker);
  // out (count, M) <- rows W^T
  struct Product {
    const WeightMatrix& matrix;
    const Input& in;
    float* out;
  };
  // Columns first .. last of products with matrices of as many rows.
  void multiply(std::initializer_list<Product> products, std::int64_t first,
                std::int64_t last) const;
  // Calls run(first, last) with parts of the M columns of products of `count` rows until the
  // workers have done all.
  template <class Run>
  void share(const Worker& worker, std::int64_t count, std::int64_t M, const Run& run) const {
    if (count > 1)
      return worker.share(M, M >= worker.threads * 4 * kTilesUnit ? kTilesUnit : kTileUnit, run);
    // One row goes as fast as memory does, which is read ahead in long parts.
    const auto [first, last] = worker.part(M, kStepLine);
    if (first < last) run(first, last);
  }

  // x += rows W^T for rows (R, N); `product` (R, C) is for the way there. The workers meet at the
  // end.
  void add_product(const Worker& worker, const WeightMatrix& matrix, const float* rows,
                   float* product);

  // For the engine: begins a call.
  void begin(std::vector<StepPiece> pieces);
  void set_threads(int threads);

 private:
  ModelConfig config_;
  std::vector<std::int64_t> offsets_;
  std::int64_t layer_floats_ = 0, rows_ = 0;
  std::vector<StepPiece> pieces_;
  std::vector<double> phi_;
  StepBuffer x_;
  std::vector<StepBuffer> buffers_;
  std::vector<Moments> moments_, own_moments_;
  // Activations as integers, for each input between two meetings: of each worker, or shared by all.
  struct Own {
    AlignedBuffer<std::byte> quantized[kMostInputs];
    int inputs = 0;
    bool shared = false;
  };
  std::vector<Own> own_;
  AlignedBuffer<std::byte> shared_[kMostInputs];
  std::int64_t widest_ = 0;  // columns of what is multiplied, at most
};

struct StepSetup {
  const ModelConfig& config;
  std::int64_t layer;
  WeightReader& weights;
  // Of a row within the block: "att.key.weight".
  WeightMatrix matrix(const std::string& name) const;
  float* vector(const std::string& name) const;
};

class BlockStep {
 public:
  virtual ~BlockStep() = default;
  // The matrices that every token reads whole, in the order in which run() reads them. The engine
  // moves them together in memory.
  virtual std::vector<WeightMatrix*> matrices() = 0;
  // Before run(), by one thread: reserves buffers and finds what depends on positions alone.
  virtual void prepare(StepRun& run) = 0;
  // x <- the block's output, all rows, by all workers together; they have met at its end.
  virtual void run(const Worker& worker, StepRun& run) = 0;
};

}  // namespace rwkvx
