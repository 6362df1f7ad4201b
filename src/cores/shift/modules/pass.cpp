#include "cores/shift/modules/pass.h"

#include <ATen/ATen.h>

#include "cores/shift/gate_forms.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx {
namespace {

const float* read(const at::Tensor& t) { return PassTools::read(t); }
float* data(const at::Tensor& t) { return PassTools::data(t); }

}  // namespace

ShiftPass::ShiftPass(const ModelConfig& config, PassTools& tools, const NormParameters& norm,
                     const ShiftParameters& learned, std::vector<at::Tensor> mix, MixShares shares)
    : C_(config.n_embd),
      tools_(tools),
      op_(tools.operator_at("shift_mix")),
      norm_(norm),
      learned_(learned),
      mix_(std::move(mix)),
      shares_(shares),
      zero_state_(at::zeros({kShiftMixTaps, C_})) {
  if (learned_.form == nullptr || learned_.conv.defined()) return;
  fixed_conv_ = at::zeros({2, C_});
  fixed_conv_[1].fill_(1);
}

std::string ShiftPass::lacks(const ModelConfig& config) {
  if (!config.shift.enabled()) return "";
  const auto& form = gate_form(config);
  if (!form.always_open() && !form.elementwise) return "the gate " + enum_name(form.gate);
  if (config.shift.has_conv() && config.shift.kernel > kShiftMixTaps)
    return "a shift of " + std::to_string(config.shift.kernel) + " taps, more than " +
           std::to_string(kShiftMixTaps);
  return "";
}

ShiftMixSite ShiftPass::view() const {
  ShiftMixSite site;
  site.channels = C_;
  site.taps = learned_.conv.defined() ? static_cast<int>(learned_.conv.size(0))
                                      : (fixed_conv_.defined() ? 2 : 0);
  site.mixes = static_cast<int>(mix_.size());
  site.mix_before = shares_ == MixShares::kBefore;
  site.norm_weight = read(norm_.weight);
  site.norm_bias = read(norm_.bias);
  site.conv = read(learned_.conv.defined() ? learned_.conv : fixed_conv_);
  if (!learned_.gate.empty()) {
    site.gate_x = read(learned_.gate[0]), site.gate_s = read(learned_.gate[1]);
    site.gate_b = read(learned_.gate[2]);
  }
  for (size_t i = 0; i < mix_.size(); ++i) site.mix[i] = read(mix_[i]);
  return site;
}

void ShiftPass::begin() {
  if (learned_.pos_u.defined())
    factors_ = (1 + at::mm(tools_.phi, learned_.pos_u.detach().t())).contiguous();  // (T, K)
}

ShiftMixSequence ShiftPass::sequence(const at::Tensor& x, int64_t b) const {
  return {tools_.T, read(x) + b * tools_.T * C_, read(factors_), read(zero_state_),
          read(zero_state_)};
}

// Runs over the segments of `count` sequences: run(sequence in the group, first, last, task).
template <class Run>
void ShiftPass::for_segments(int64_t count, const Run& run) const {
  const int64_t T = tools_.T, length = shift_mix_segment(C_), pieces = (T + length - 1) / length;
  PassTools::in_parallel(count * pieces, 1, [&](int64_t first, int64_t) {
    const int64_t b = first / pieces, begin = first % pieces * length;
    run(b, begin, std::min(T, begin + length), first);
  });
}

void ShiftPass::forward(const at::Tensor& x, int64_t first, int64_t count,
                        const std::vector<at::Tensor>& z) const {
  const PassTools::Timed timed(tools_, op_);
  const auto site = view();
  const int64_t T = tools_.T;
  for_segments(count, [&](int64_t b, int64_t begin, int64_t end, int64_t) {
    float* out[kShiftMixMixes] = {};
    for (size_t i = 0; i < z.size(); ++i) out[i] = data(z[i]) + b * T * C_;
    shift_mix_forward(site, sequence(x, first + b), begin, end, out);
  });
}

void ShiftPass::backward(const at::Tensor& x, int64_t first, int64_t count,
                         const std::vector<at::Tensor>& dz, const at::Tensor& dx) const {
  const PassTools::Timed timed(tools_, op_);
  const auto site = view();
  const int64_t T = tools_.T, length = shift_mix_segment(C_),
                tasks = count * ((T + length - 1) / length), lines = shift_mix_grad_rows(site),
                K = site.taps;
  auto& parts = tools_.parts;
  parts.resize(static_cast<size_t>(tasks * lines * C_));
  at::Tensor dm;
  if (factors_.defined()) dm = at::empty({count, T, K});
  for_segments(count, [&](int64_t b, int64_t begin, int64_t end, int64_t task) {
    const float* in[kShiftMixMixes] = {};
    for (size_t i = 0; i < dz.size(); ++i) in[i] = read(dz[i]) + b * T * C_;
    shift_mix_backward(site, sequence(x, first + b), begin, end, in,
                       data(dx) + (first + b) * T * C_, parts.data() + task * lines * C_,
                       dm.defined() ? data(dm) + b * T * K : nullptr);
  });
  std::vector<std::pair<int64_t, at::Tensor>> targets{{0, norm_.weight}, {1, norm_.bias}};
  for (size_t i = 0; i < learned_.gate.size(); ++i)
    targets.emplace_back(2 + static_cast<int64_t>(i), learned_.gate[i]);
  for (size_t i = 0; i < mix_.size(); ++i)
    targets.emplace_back(5 + static_cast<int64_t>(i), mix_[i]);
  if (learned_.conv.defined()) {
    // The taps' gradient is (K, C): K rows of sums.
    for (int64_t task = 0; task < tasks; ++task)
      add_to(data(learned_.conv.grad()), parts.data() + (task * lines + kShiftMixGradRows) * C_,
             K * C_);
  }
  tools_.add_partial_sums(tasks, lines, C_, targets);
  if (dm.defined()) learned_.pos_u.grad().add_(at::mm(dm.sum(0).t(), tools_.phi));
}

}  // namespace rwkvx
