#include "model/pass_ends.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "rwkvx/kernels/activation.h"
#include "rwkvx/kernels/norm.h"
#include "rwkvx/model/rwkv.h"

namespace rwkvx {
namespace {

// Floats of the logits that exist at a time: every piece reads and writes the head's gradient.
constexpr int64_t kLogitFloats = 1 << 25;
constexpr int64_t kDeviceRows = 2048;

float* data(const at::Tensor& t) { return PassTools::data(t); }
const float* read(const at::Tensor& t) { return PassTools::read(t); }
using Timed = PassTools::Timed;

class Ends : public PassEnds {
 public:
  explicit Ends(const PassEndsSetup& setup)
      : model_(setup.model),
        tools_(setup.tools),
        l2wrap_(setup.options.l2wrap),
        C_(setup.model.config().n_embd),
        V_(setup.model.config().vocab_size),
        rows_(head_rows_of(setup.model.config(), setup.tokens, setup.tools.place)),
        loss_op_(setup.tools.operator_at("loss")),
        norm_op_(setup.tools.operator_at("norm_and_embedding")),
        embedded_(at::empty({setup.tokens, C_})),
        logits_(at::empty({rows_, V_})),
        normalized_(at::empty({rows_, C_})) {}

  void begin(const TrainingBatch& batch, int64_t tokens) override;
  void embed(const at::Tensor& x) override;
  void embed_backward(const at::Tensor& gradient) override;
  void head(double scale, const at::Tensor& x, const at::Tensor& gradient) override;
  at::Tensor features(const at::Tensor& x) override;
  at::Tensor logits(const at::Tensor& x) override;
  LossSum loss() const override { return loss_; }

 private:
  // Layer norm of `count` rows, in parallel.
  void norm_forward(const NormParameters& norm, const float* from, int64_t count, float* to);
  // to <- gradient of the norm's input rows; may be dy.
  void norm_backward(const NormParameters& norm, const float* from, const float* dy, int64_t count,
                     float* to);
  void cross_entropy(const at::Tensor& rows, int64_t begin, int64_t count, double scale,
                     double* losses);
  void pick();
  int64_t row_of(int64_t i) const { return all_rows_ ? i : picked_[static_cast<size_t>(i)]; }
  const float* gathered(const float* from, int64_t begin, int64_t count);

  RwkvImpl& model_;
  PassTools& tools_;
  double l2wrap_;
  int64_t C_, V_, rows_;
  std::size_t loss_op_, norm_op_;
  const TrainingBatch* batch_ = nullptr;
  int64_t used_ = 0;  // its tokens
  double loss_ = 0;
  std::vector<int64_t> picked_;
  bool all_rows_ = true;
  at::Tensor embedded_, logits_, normalized_, picked_x_;
};

void Ends::norm_forward(const NormParameters& norm, const float* from, int64_t count, float* to) {
  const Timed timed(tools_, norm_op_);
  PassTools::in_parallel(count, 64, [&](int64_t first, int64_t last) {
    layer_norm_forward(from, read(norm.weight), read(norm.bias), C_, first, last, to);
  });
}

void Ends::norm_backward(const NormParameters& norm, const float* from, const float* dy,
                         int64_t count, float* to) {
  const Timed timed(tools_, norm_op_);
  const int64_t tasks = (count + 63) / 64;
  tools_.parts.resize(static_cast<size_t>(tasks * 2 * C_));
  PassTools::in_parallel(count, 64, [&](int64_t first, int64_t last) {
    layer_norm_backward(from, read(norm.weight), dy, C_, first, last, to,
                        tools_.parts.data() + first / 64 * 2 * C_);
  });
  tools_.add_partial_sums(tasks, 2, C_, {{0, norm.weight}, {1, norm.bias}});
}

void Ends::begin(const TrainingBatch& batch, int64_t tokens) {
  batch_ = &batch;
  used_ = tokens;
}

void Ends::embed(const at::Tensor& x) {
  const float* table = read(model_.emb);
  PassTools::in_parallel(used_, 64, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      std::memcpy(data(embedded_) + i * C_, table + batch_->inputs[i] * C_,
                  static_cast<size_t>(C_) * sizeof(float));
  });
  tools_.drop(embedded_.narrow(0, 0, used_), 0, 0);
  norm_forward(model_.ln0, read(embedded_), used_, data(x));
}

void Ends::embed_backward(const at::Tensor& gradient) {
  norm_backward(model_.ln0, read(embedded_), read(gradient), used_, data(gradient));
  if (!model_.emb.grad().defined()) return;
  tools_.drop(gradient, 0, 0);
  const Timed timed(tools_, norm_op_);
  float* grad = data(model_.emb.grad());
  // By channels, so that tokens that occur twice never meet in two threads.
  PassTools::in_parallel(C_, 16, [&](int64_t first, int64_t last) {
    for (int64_t i = 0; i < used_; ++i)
      add_to(grad + batch_->inputs[i] * C_ + first, read(gradient) + i * C_ + first, last - first);
  });
}

// Losses of rows [begin, begin + count) of those that have one, times their weights; the rows of
// logits become their gradients times `scale`.
void Ends::cross_entropy(const at::Tensor& rows, int64_t begin, int64_t count, double scale,
                         double* losses) {
  const Timed timed(tools_, loss_op_);
  const auto& batch = *batch_;
  PassTools::in_parallel(count, 8, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t row = row_of(begin + i);
      const double weight = batch.weights == nullptr ? 1 : static_cast<double>(batch.weights[row]);
      losses[i] = weight * cross_entropy_row(data(rows) + i * V_, V_, batch.targets[row],
                                             static_cast<float>(scale * weight),
                                             static_cast<float>(l2wrap_));
    }
  });
}

// The rows that have a loss: all, or those whose weight is not 0.
void Ends::pick() {
  picked_.clear();
  all_rows_ = batch_->weights == nullptr;
  if (all_rows_) return;
  for (int64_t i = 0; i < used_; ++i)
    if (batch_->weights[i] != 0) picked_.push_back(i);
  if (!picked_x_.defined()) picked_x_ = at::empty({rows_, C_});
}

// Rows [begin, begin + count) of those that have a loss, in one place.
const float* Ends::gathered(const float* from, int64_t begin, int64_t count) {
  if (all_rows_) return from + begin * C_;
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(data(picked_x_) + i * C_, from + row_of(begin + i) * C_,
                static_cast<size_t>(C_) * sizeof(float));
  return read(picked_x_);
}

void Ends::head(double scale, const at::Tensor& x, const at::Tensor& gradient) {
  pick();
  const int64_t wanted = all_rows_ ? used_ : static_cast<int64_t>(picked_.size());
  std::vector<double> losses(static_cast<size_t>(wanted));
  if (!all_rows_ && scale != 0) gradient.zero_();
  for (int64_t begin = 0; begin < wanted; begin += rows_) {
    const int64_t count = std::min(rows_, wanted - begin);
    const auto normal = normalized_.narrow(0, 0, count), out = logits_.narrow(0, 0, count);
    const float* from = gathered(read(x), begin, count);
    norm_forward(model_.ln_out, from, count, data(normal));
    tools_.linear(out, normal, model_.head);
    cross_entropy(out, begin, count, scale, losses.data() + begin);
    if (scale == 0) continue;
    tools_.add_weight_gradient(model_.head, out, normal);
    // Where rows were gathered, their gradients take the place of what the head took.
    const auto to = all_rows_ ? gradient.narrow(0, begin, count) : normal;
    tools_.linear_transposed(to, out, model_.head);
    norm_backward(model_.ln_out, from, read(to), count, data(to));
    if (all_rows_) continue;
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(data(gradient) + row_of(begin + i) * C_, read(to) + i * C_,
                  static_cast<size_t>(C_) * sizeof(float));
  }
  loss_ = 0;
  for (const double one : losses) loss_ += one;
}

at::Tensor Ends::features(const at::Tensor& x) {
  auto normal = at::empty_like(x);
  norm_forward(model_.ln_out, read(x), used_, data(normal));
  return normal;
}

at::Tensor Ends::logits(const at::Tensor& x) {
  auto all = at::empty({used_, V_});
  tools_.linear(all, features(x), model_.head);
  return all;
}

}  // namespace

std::int64_t head_rows_of(const ModelConfig& config, std::int64_t tokens, const PassPlace& place) {
  if (place.kernels) return std::min(tokens, kDeviceRows);
  return std::clamp<int64_t>(kLogitFloats / config.vocab_size, std::min<int64_t>(tokens, 128),
                             tokens);
}

std::int64_t logits_width(const ModelConfig& config, const PassPlace& place) {
  constexpr int64_t kAligned = 64;
  return place.kernels ? (config.vocab_size + kAligned - 1) / kAligned * kAligned
                       : config.vocab_size;
}

double pass_ends_floats(const ModelConfig& config, std::int64_t tokens, const PassPlace& place) {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  const double C = real(config.n_embd), rows = real(head_rows_of(config, tokens, place)),
               share = real(static_cast<std::int64_t>(at::elementSize(place.type))) / sizeof(float);
  // On a device also the ids of inputs and targets, and those of inputs sorted, with their places.
  const double ids = place.kernels ? 4 * real(tokens) * sizeof(std::int64_t) / sizeof(float) : 0;
  return real(tokens) * C + rows * share * (real(logits_width(config, place)) + C) + ids;
}

std::unique_ptr<PassEnds> make_ends(const PassEndsSetup& setup) {
  return std::make_unique<Ends>(setup);
}

}  // namespace rwkvx
