#include "rwkvx/modules/pass.h"

#include <ATen/ATen.h>

#include "rwkvx/base/splitmix64.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx {

at::Tensor PassMemory::take(at::IntArrayRef shape) {
  constexpr int64_t kAlign = 16;  // every tensor begins at a whole cache line of the buffer
  auto tensor = begin_ == nullptr ? at::empty(shape, at::device(at::kMeta).dtype(at::kFloat))
                                  : at::from_blob(begin_ + floats_, shape, at::kFloat);
  floats_ += (tensor.numel() + kAlign - 1) / kAlign * kAlign;
  return tensor;
}

int64_t kept_states(const PassLimits& limits, int64_t segment) {
  const int64_t tokens = limits.tokens, shortest = std::min(limits.longest, segment);
  const int64_t most =
      limits.sequences > 0 ? limits.sequences : tokens / std::max<int64_t>(shortest, 1);
  return (tokens + segment - 1) / segment + most + 1;
}

PassTools::PassTools(const std::vector<std::string_view>& operators) {
  seconds.emplace_back("matrix_products", 0);
  for (const auto name : operators) seconds.emplace_back(name, 0);
  for (const char* name : {"loss", "norm_and_embedding"}) seconds.emplace_back(name, 0);
}

std::size_t PassTools::operator_at(std::string_view name) const {
  for (std::size_t i = 0; i < seconds.size(); ++i)
    if (seconds[i].first == name) return i;
  TORCH_CHECK(false, "no operator of a fused training pass is called ", name);
}

std::vector<std::int64_t> PassTools::kept_before(std::int64_t segment) const {
  std::vector<std::int64_t> before{0};
  for (const auto& one : sequences)
    before.push_back(before.back() + (one.tokens + segment - 1) / segment);
  return before;
}

void PassTools::drop(float* values, std::int64_t first, std::int64_t count, std::int64_t place) {
  if (dropout == 0) return;
  const auto key = splitmix64(dropout_key, static_cast<std::uint64_t>(place));
  in_parallel(count, kElements, [&](int64_t begin, int64_t end) {
    dropout_in_place(values + begin, dropout_first + first + begin, end - begin, key,
                     static_cast<float>(dropout));
  });
}

void PassTools::linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
  const Timed timed(*this, 0);
  auto target = out;
  at::mm_out(target, a, w.t());
  if (const auto* adapter = adapter_of(w))
    target.addmm_(at::mm(a, adapter->a.t()), adapter->b.t(), 1, adapter->scale);
}

void PassTools::add_linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
  const Timed timed(*this, 0);
  auto target = out;
  at::addmm_out(target, target, a, w.t());
}

void PassTools::linear_transposed(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
  const Timed timed(*this, 0);
  auto target = out;
  at::mm_out(target, a, w);
  if (const auto* adapter = adapter_of(w))
    target.addmm_(at::mm(a, adapter->b), adapter->a, 1, adapter->scale);
}

void PassTools::add_weight_gradient(const at::Tensor& w, const at::Tensor& dout,
                                    const at::Tensor& a) {
  const Timed timed(*this, 0);
  if (auto grad = w.grad(); grad.defined()) at::addmm_out(grad, grad, dout.t(), a);
  if (const auto* adapter = adapter_of(w)) {
    adapter->b.grad().addmm_(dout.t(), at::mm(a, adapter->a.t()), 1, adapter->scale);
    adapter->a.grad().addmm_(at::mm(dout, adapter->b).t(), a, 1, adapter->scale);
  }
}

const PassAdapter* PassTools::adapter_of(const at::Tensor& w) const {
  if (adapters.empty()) return nullptr;
  const auto found = adapters.find(w.unsafeGetTensorImpl());
  return found == adapters.end() ? nullptr : &found->second;
}

void PassTools::add_partial_sums(int64_t tasks, int64_t rows, int64_t C,
                                 const std::vector<std::pair<int64_t, at::Tensor>>& targets) {
  in_parallel(static_cast<int64_t>(targets.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto& [row, parameter] = targets[static_cast<size_t>(i)];
      if (!parameter.grad().defined()) continue;
      float* grad = data(parameter.grad());
      for (int64_t task = 0; task < tasks; ++task)
        add_to(grad, parts.data() + (task * rows + row) * C, C);
    }
  });
}

}  // namespace rwkvx
