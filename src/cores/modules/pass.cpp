#include "rwkvx/modules/pass.h"

#include <ATen/ATen.h>
#include <torch/version.h>

#include <cstdlib>

#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"
#include "rwkvx/kernels/activation.h"
#include "rwkvx/ops/cuda/elementwise_call.h"

namespace rwkvx {

PassPlace PassPlace::of(c10::Device device, bool bfloat16) {
  if (!device.is_cpu()) return {device, bfloat16 ? at::kBFloat16 : at::kFloat, true};
  constexpr const char* kVariable = "RWKVX_KERNEL_BODIES";
  const char* given = std::getenv(kVariable);
  const std::string bodies = given == nullptr ? "" : given;
  if (bodies.empty()) return {};
  if (bodies != "f32" && bodies != "bf16")
    throw ConfigError(kVariable, "expected f32 or bf16, got \"" + bodies + "\"");
  return {device, bodies == "bf16" ? at::kBFloat16 : at::kFloat, true};
}

at::Tensor PassMemory::take(at::IntArrayRef shape, at::ScalarType type) {
  constexpr int64_t kAlign = 16;  // every tensor begins at a whole cache line of the buffer
  // The device is named twice, as LibTorch would ask the driver whose memory it is.
  const auto options = at::device(begin_ == nullptr ? at::kMeta : place_.device).dtype(type);
  auto tensor = begin_ == nullptr ? at::empty(shape, options)
                                  : at::for_blob(begin_ + floats_, shape)
                                        .options(options)
                                        .target_device(place_.device)
                                        .make_tensor();
  const auto bytes = tensor.numel() * static_cast<int64_t>(tensor.element_size());
  constexpr auto kUnit = kAlign * static_cast<int64_t>(sizeof(float));
  floats_ += (bytes + kUnit - 1) / kUnit * kAlign;
  return tensor;
}

int64_t most_sequences(const PassLimits& limits, int64_t segment) {
  const int64_t shortest = std::min(limits.longest, segment);
  return limits.sequences > 0 ? limits.sequences : limits.tokens / std::max<int64_t>(shortest, 1);
}

int64_t kept_states(const PassLimits& limits, int64_t segment) {
  return (limits.tokens + segment - 1) / segment + most_sequences(limits, segment) + 1;
}

PassTools::PassTools(const std::vector<std::string_view>& operators, const PassPlace& at)
    : place(at) {
  TORCH_CHECK(place.kernels || (place.device.is_cpu() && place.type == at::kFloat),
              "a fused training pass without a device's kernels computes on the CPU in float32");
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

std::vector<PassRun> PassTools::runs(std::int64_t first, std::int64_t count) const {
  std::vector<PassRun> all;
  for (std::int64_t b = first; b < first + count; ++b) {
    const auto& one = sequences[static_cast<size_t>(b)];
    if (all.empty() || all.back().tokens != one.tokens ||
        (all.back().position != one.position && !phi_by_sequence))
      all.push_back({b, 0, one.begin, one.tokens, one.position});
    ++all.back().count;
  }
  return all;
}

void PassTools::drop(const at::Tensor& rows, std::int64_t first, std::int64_t site) {
  if (dropout == 0) return;
  const auto key = splitmix64(dropout_key, static_cast<std::uint64_t>(site));
  first += dropout_first;
  float* values = data(rows);
  if (place.kernels)
    return cuda::for_each(cuda::Dropout::of(values, first, key, static_cast<float>(dropout)), rows);
  in_parallel(rows.numel(), kElements, [&](int64_t begin, int64_t end) {
    dropout_in_place(values + begin, first + begin, end - begin, key, static_cast<float>(dropout));
  });
}

const at::Tensor& PassTools::matrix(const at::Tensor& w) {
  if (w.scalar_type() == place.type) return w;
  auto& copy = copies_[w.unsafeGetTensorImpl()];
  if (!copy.to.defined()) {
    copy = {w.detach(), w.detach().to(place.type)};
    copy.kept = keep_copy && keep_copy(w, copy.to);
  }
  return copy.to;
}

void PassTools::read_matrices() {
  std::vector<at::Tensor> from, to;
  for (const auto& [w, copy] : copies_)
    if (!copy.kept) from.push_back(copy.from), to.push_back(copy.to);
  if (!to.empty()) at::_foreach_copy_(to, from);
}

namespace {

// LibTorch 2.8 has products of bfloat16 that are added up in float32.
#define RWKVX_WIDE_PRODUCTS (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 8)

// grad (M, N), float32, += factor dout (R, M)^T a (R, N).
void add_product(at::Tensor grad, const at::Tensor& dout, const at::Tensor& a, double factor = 1) {
  if (dout.scalar_type() == at::kFloat) {
    at::addmm_out(grad, grad, dout.t(), a, 1, factor);
    return;
  }
#if RWKVX_WIDE_PRODUCTS
  if (!dout.is_cpu()) {
    at::addmm_out(grad, grad, dout.t(), a, at::kFloat, 1, factor);
    return;
  }
#endif
  grad.addmm_(dout.t().to(at::kFloat), a.to(at::kFloat), 1, factor);
}

}  // namespace

void PassTools::linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
  const Timed timed(*this, 0);
  if (integers != nullptr)
    if (const auto found = integers->find(w.unsafeGetTensorImpl()); found != integers->end())
      return found->second.product_to(out, a);
  auto target = out;
  at::mm_out(target, a, matrix(w).t());
  if (const auto* adapter = adapter_of(w))
    target.addmm_(at::mm(a, operand(adapter->a).t()), operand(adapter->b).t(), 1, adapter->scale);
}

void PassTools::add_linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
  const Timed timed(*this, 0);
  auto target = out;
  at::addmm_out(target, target, a, matrix(w).t());
}

void PassTools::linear_transposed(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
  const Timed timed(*this, 0);
  auto target = out;
  at::mm_out(target, a, matrix(w));
  if (const auto* adapter = adapter_of(w))
    target.addmm_(at::mm(a, operand(adapter->b)), operand(adapter->a), 1, adapter->scale);
}

void PassTools::add_weight_gradient(const at::Tensor& w, const at::Tensor& dout,
                                    const at::Tensor& a) {
  const Timed timed(*this, 0);
  if (const auto grad = w.grad(); grad.defined()) add_product(grad, dout, a);
  if (const auto* adapter = adapter_of(w)) {
    add_product(adapter->b.grad(), dout, at::mm(a, operand(adapter->a).t()), adapter->scale);
    add_product(adapter->a.grad(), at::mm(dout, operand(adapter->b)), a, adapter->scale);
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

void PassTools::add_sums(const at::Tensor& sums,
                         const std::vector<std::pair<int64_t, at::Tensor>>& targets,
                         double factor) {
  std::vector<at::Tensor> grads, rows;
  for (const auto& [row, parameter] : targets) {
    if (!parameter.grad().defined()) continue;
    grads.push_back(parameter.grad());
    rows.push_back(sums[row].view(parameter.sizes()));
  }
  if (!grads.empty()) at::_foreach_add_(grads, rows, factor);
}

}  // namespace rwkvx
