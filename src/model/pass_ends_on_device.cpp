// With a device's kernels: LibTorch's embedding and layer norms, and the loss in one kernel, which
// turns logits into their gradients. Rows of logits lie a multiple of 64 numbers apart, so that
// matrix products find them aligned whatever the vocabulary.
#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "model/pass_ends.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/cuda/cross_entropy.h"
#include "rwkvx/ops/cuda/elementwise_call.h"
#include "rwkvx/ops/cuda/upload.h"

namespace rwkvx {
namespace cuda {

template <class Value>
void emulate(const CrossEntropyCall<Value>& call) {
  for_each_block(call.rows, [&](std::int64_t row) {
    const auto shared = std::make_unique<CrossEntropyShared>();
    cross_entropy_block(call, row, EmulatedBlock<kCrossEntropyThreads>(), *shared);
  });
}

}  // namespace cuda

namespace {

class DeviceEnds : public PassEnds {
 public:
  explicit DeviceEnds(const PassEndsSetup& setup)
      : model_(setup.model),
        tools_(setup.tools),
        l2wrap_(setup.options.l2wrap),
        C_(setup.model.config().n_embd),
        V_(setup.model.config().vocab_size),
        rows_(head_rows_of(setup.model.config(), setup.tokens, setup.tools.place)) {
    tokens_ = at::empty({4 * setup.tokens}, at::device(tools_.place.device).dtype(at::kLong));
  }

  // Where a batch's tokens lie depends on their number alone, so that a graph finds them.
  void begin(const TrainingBatch& batch, int64_t used) override {
    const auto tokens = tokens_.narrow(0, 0, 4 * used).view({4, used});
    cuda::upload_to(tokens, told(batch, used).data());
    inputs_ = tokens[0], targets_ = tokens[1], ids_ = tokens[2], order_ = tokens[3];
    weights_ = batch.weights == nullptr ? at::Tensor() : on_device(batch.weights, used, at::kFloat);
    pick(batch.weights, used);
  }

  void embed(const at::Tensor& x) override {
    embedded_ = at::index_select(model_.emb, 0, inputs_);
    tools_.drop(embedded_, 0, 0);
    const auto [y, mean, scale] = norm(embedded_, model_.ln0);
    x.copy_(y);
    mean_ = mean, scale_ = scale;
  }

  void embed_backward(const at::Tensor& gradient) override {
    const auto to = norm_backward(gradient, embedded_, mean_, scale_, model_.ln0);
    if (!model_.emb.grad().defined()) return;
    tools_.drop(to, 0, 0);
    cuda::for_each(cuda::EmbeddingGradient{ids_.const_data_ptr<int64_t>(),
                                           order_.const_data_ptr<int64_t>(), PassTools::read(to),
                                           PassTools::data(model_.emb.grad()), to.size(0), C_},
                   to);
  }

  void head(double scale, const at::Tensor& x, const at::Tensor& gradient) override {
    const int64_t wanted = picked_.defined() ? picked_.size(0) : x.size(0);
    const auto losses = at::empty({wanted}, x.options().dtype(at::kDouble));
    auto all = gradient;
    make_logits();
    if (picked_.defined() && scale != 0) all.zero_();
    for (int64_t begin = 0; begin < wanted; begin += rows_) {
      const int64_t count = std::min(rows_, wanted - begin);
      const auto which = picked_.defined() ? picked_.narrow(0, begin, count) : at::Tensor();
      const auto from = which.defined() ? x.index_select(0, which) : x.narrow(0, begin, count);
      const auto to = to_x_.narrow(0, 0, count);
      const auto out = logits_.narrow(0, 0, count).narrow(1, 0, V_);
      const auto [y, mean, rstd] = norm(from, model_.ln_out);
      const auto normal = tools_.operand(y);
      tools_.linear(out, normal, model_.head);
      cross_entropy(out, begin, scale, losses);
      if (scale == 0) continue;
      tools_.add_weight_gradient(model_.head, out, normal);
      tools_.linear_transposed(to, out, model_.head);
      const auto back = norm_backward(to.to(at::kFloat), from, mean, rstd, model_.ln_out);
      if (which.defined())
        all.index_copy_(0, which, back);
      else
        all.narrow(0, begin, count).copy_(back);
    }
    loss_ = losses.sum();
  }

  at::Tensor features(const at::Tensor& x) override { return std::get<0>(norm(x, model_.ln_out)); }

  at::Tensor logits(const at::Tensor& x) override {
    make_logits();
    const auto all = x.size(0) <= rows_ ? logits_.narrow(0, 0, x.size(0)).narrow(1, 0, V_)
                                        : at::empty({x.size(0), V_}, logits_.options());
    tools_.linear(all, tools_.operand(features(x)), model_.head);
    return all;
  }

  LossSum loss() const override { return LossSum(loss_); }

 private:
  // Once they are wanted: features need none.
  void make_logits() {
    if (logits_.defined()) return;
    const auto options = at::device(tools_.place.device).dtype(tools_.place.type);
    logits_ = at::empty({rows_, logits_width(model_.config(), tools_.place)}, options);
    to_x_ = at::empty({rows_, C_}, options);
  }
  // A batch's inputs; where it has targets, these, then its inputs sorted and the place of each.
  std::vector<int64_t> told(const TrainingBatch& batch, int64_t used) const {
    std::vector<int64_t> all(batch.inputs, batch.inputs + used);
    all.resize(static_cast<size_t>(4 * used));
    if (batch.targets == nullptr) return all;
    std::copy_n(batch.targets, used, all.begin() + used);
    std::vector<int64_t> places(static_cast<size_t>(V_) + 1);  // of the first token of each id
    for (int64_t i = 0; i < used; ++i) ++places[static_cast<size_t>(batch.inputs[i]) + 1];
    for (size_t id = 1; id < places.size(); ++id) places[id] += places[id - 1];
    for (int64_t i = 0; i < used; ++i) {
      const auto place = places[static_cast<size_t>(batch.inputs[i])]++;
      all[static_cast<size_t>(2 * used + place)] = batch.inputs[i];
      all[static_cast<size_t>(3 * used + place)] = i;
    }
    return all;
  }
  // The rows that have a loss, where not all have one.
  void pick(const float* weights, int64_t used) {
    picked_ = at::Tensor();
    if (weights == nullptr || std::find(weights, weights + used, 0.0f) == weights + used) return;
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < used; ++i)
      if (weights[i] != 0) rows.push_back(i);
    picked_ = on_device(rows.data(), static_cast<int64_t>(rows.size()), at::kLong);
    targets_ = targets_.index_select(0, picked_);
    weights_ = weights_.index_select(0, picked_);
  }
  at::Tensor on_device(const void* values, int64_t count, at::ScalarType type) const {
    return cuda::upload(values, {count}, type, tools_.place.device);
  }
  std::tuple<at::Tensor, at::Tensor, at::Tensor> norm(const at::Tensor& x,
                                                      const NormParameters& of) const {
    return at::native_layer_norm(x, {C_}, of.weight, of.bias, kLayerNormEpsilon);
  }
  // The gradient of the norm's input; adds those of its parameters to theirs.
  at::Tensor norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& mean,
                           const at::Tensor& rstd, const NormParameters& of) const {
    const bool weight = of.weight.grad().defined(), bias = of.bias.grad().defined();
    const auto [dx, to_weight, to_bias] = at::native_layer_norm_backward(
        dy, x, {C_}, mean, rstd, of.weight, of.bias, {true, weight, bias});
    if (weight) of.weight.grad().add_(to_weight);
    if (bias) of.bias.grad().add_(to_bias);
    return dx;
  }
  void cross_entropy(const at::Tensor& out, int64_t begin, double scale,
                     const at::Tensor& losses) const {
    cuda::with_type(tools_.place.type, [&]<class Value>() {
      cuda::CrossEntropyCall<Value> call{};
      call.rows = out.size(0), call.vocab = V_, call.stride = out.stride(0);
      call.logits = cuda::mutable_data<Value>(out);
      call.targets = targets_.const_data_ptr<int64_t>() + begin;
      if (weights_.defined()) call.weights = weights_.const_data_ptr<float>() + begin;
      call.scale = static_cast<float>(scale), call.l2wrap = static_cast<float>(l2wrap_);
      call.losses = losses.mutable_data_ptr<double>() + begin;
      cuda::run(call, out);
    });
  }

  RwkvImpl& model_;
  PassTools& tools_;
  double l2wrap_;
  int64_t C_, V_, rows_;
  at::Tensor tokens_;
  at::Tensor inputs_, ids_, order_;        // of the batch, (tokens); sorted, and from where
  at::Tensor targets_, weights_, picked_;  // of its rows that have a loss
  at::Tensor embedded_, mean_, scale_;
  at::Tensor logits_, to_x_, loss_;
};

}  // namespace

std::unique_ptr<PassEnds> make_ends_on_device(const PassEndsSetup& setup) {
  return std::make_unique<DeviceEnds>(setup);
}

}  // namespace rwkvx
