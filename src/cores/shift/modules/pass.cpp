#include "cores/shift/modules/pass.h"

#include <ATen/ATen.h>

#include "cores/shift/gate_forms.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx {

ShiftPass::ShiftPass(const ModelConfig& config, PassTools& tools, const SitePlaces& places,
                     const NormParameters& norm, const ShiftParameters& learned,
                     std::vector<at::Tensor> mix, MixShares shares)
    : C_(config.n_embd),
      tools_(tools),
      places_(places),
      op_(tools.operator_at("shift_mix")),
      norm_(norm),
      learned_(learned),
      mix_(std::move(mix)),
      shares_(shares),
      zero_state_(at::zeros({kShiftMixTaps, C_}, tools.place.device)) {
  if (learned_.form == nullptr || learned_.conv.defined()) return;
  fixed_conv_ = at::zeros({2, C_}, tools.place.device);
  fixed_conv_[1].fill_(1);
}

std::string ShiftPass::lacks(const ModelConfig& config) {
  if (!config.shift.enabled()) return "";
  const auto& form = gate_form(config);
  if (!form.always_open() && !form.elementwise) return "the gate " + enum_name(form.gate);
  if (config.shift.has_conv() && config.shift.kernel > kShiftMixTaps)
    return "a shift of " + std::to_string(config.shift.kernel) + " taps, more than " +
           std::to_string(kShiftMixTaps);
  if (config.shift.has_conv() && config.shift.dilation > 1) return "a shift with dilation";
  if (config.shift.has_silu()) return "a shift with activation silu";
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
    factors_ = (1 + at::mm(tools_.phi, learned_.pos_u.detach().t())).contiguous();  // (P, K)
}

ShiftMixSequence ShiftPass::sequence(const PassRows& rows, const at::Tensor& x, int64_t b) const {
  const auto& one = tools_.sequences[static_cast<size_t>(b)];
  const float* zeros = read(zero_state_);
  const float* ring = state_of(rows.before, places_.ring, b);
  const float* prev = state_of(rows.before, places_.prev, b);
  const float* factors = read(factors_);
  if (factors != nullptr) factors += (one.position - tools_.phi_start) * factors_.size(1);
  return {one.tokens, read(x) + one.begin * C_, factors, ring == nullptr ? zeros : ring,
          prev == nullptr ? zeros : prev};
}

ShiftMixStateGrads ShiftPass::state_grads(const PassRows& rows, int64_t b) const {
  return {state_of(rows.grad_after, places_.ring, b), state_of(rows.grad_after, places_.prev, b),
          state_of(rows.grad_before, places_.ring, b), state_of(rows.grad_before, places_.prev, b)};
}

std::vector<ShiftPass::Task> ShiftPass::tasks_of(const PassRows& rows) const {
  const int64_t length = shift_mix_segment(C_);
  std::vector<Task> tasks;
  for (int64_t b = rows.first; b < rows.first + rows.count; ++b) {
    const int64_t T = tools_.sequences[static_cast<size_t>(b)].tokens;
    for (int64_t begin = 0; begin < T; begin += length)
      tasks.push_back({b, begin, std::min(T, begin + length)});
  }
  return tasks;
}

void ShiftPass::forward(const PassRows& rows, const at::Tensor& x,
                        const std::vector<at::Tensor>& z) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels) return forward_on_device(rows, x, z);
  const auto site = view();
  const auto tasks = tasks_of(rows);
  PassTools::in_parallel(static_cast<int64_t>(tasks.size()), 1, [&](int64_t i, int64_t) {
    const auto [b, begin, end] = tasks[static_cast<size_t>(i)];
    const auto& one = tools_.sequences[static_cast<size_t>(b)];
    float* out[kShiftMixMixes] = {};
    for (size_t k = 0; k < z.size(); ++k) out[k] = data(z[k]) + (one.begin - rows.begin) * C_;
    const auto tokens = sequence(rows, x, b);
    shift_mix_forward(site, tokens, begin, end, out);
    if (end == one.tokens && rows.after != nullptr)
      shift_mix_state(site, tokens, state_of(rows.after, places_.ring, b),
                      state_of(rows.after, places_.prev, b));
  });
}

void ShiftPass::backward(const PassRows& rows, const at::Tensor& x,
                         const std::vector<at::Tensor>& dz, const at::Tensor& dx) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels) return backward_on_device(rows, x, dz, dx);
  const auto site = view();
  const auto tasks = tasks_of(rows);
  const auto count = static_cast<int64_t>(tasks.size());
  const int64_t lines = shift_mix_grad_rows(site), K = site.taps;
  auto& parts = tools_.parts;
  parts.resize(static_cast<size_t>(count * lines * C_));
  at::Tensor dm;
  if (factors_.defined() && learned_.pos_u.grad().defined()) dm = at::empty({rows.tokens, K});
  PassTools::in_parallel(count, 1, [&](int64_t i, int64_t) {
    const auto [b, begin, end] = tasks[static_cast<size_t>(i)];
    const auto& one = tools_.sequences[static_cast<size_t>(b)];
    const int64_t local = one.begin - rows.begin;
    const float* in[kShiftMixMixes] = {};
    for (size_t k = 0; k < dz.size(); ++k) in[k] = read(dz[k]) + local * C_;
    shift_mix_backward(site, sequence(rows, x, b), begin, end, in, data(dx) + one.begin * C_,
                       parts.data() + i * lines * C_, dm.defined() ? data(dm) + local * K : nullptr,
                       state_grads(rows, b));
  });
  std::vector<std::pair<int64_t, at::Tensor>> targets{{0, norm_.weight}, {1, norm_.bias}};
  for (size_t i = 0; i < learned_.gate.size(); ++i)
    targets.emplace_back(2 + static_cast<int64_t>(i), learned_.gate[i]);
  for (size_t i = 0; i < mix_.size(); ++i)
    targets.emplace_back(5 + static_cast<int64_t>(i), mix_[i]);
  if (learned_.conv.defined() && learned_.conv.grad().defined()) {
    // The taps' gradient is (K, C): K rows of sums.
    for (int64_t task = 0; task < count; ++task)
      add_to(data(learned_.conv.grad()), parts.data() + (task * lines + kShiftMixGradRows) * C_,
             K * C_);
  }
  tools_.add_partial_sums(count, lines, C_, targets);
  if (dm.defined()) add_factor_gradient(rows, dm);
}

// From dm (rows.tokens, K), the gradients of the taps' factors at each token.
void ShiftPass::add_factor_gradient(const PassRows& rows, const at::Tensor& dm) const {
  const int64_t K = dm.size(1);
  at::Tensor by_position;  // (P, K)
  if (tools_.equal) {
    by_position = dm.view({rows.count, -1, K}).sum(0);
  } else {
    by_position = at::zeros({tools_.phi.size(0), K});
    for (int64_t b = rows.first; b < rows.first + rows.count; ++b) {
      const auto& one = tools_.sequences[static_cast<size_t>(b)];
      add_to(data(by_position) + (one.position - tools_.phi_start) * K,
             read(dm) + (one.begin - rows.begin) * K, one.tokens * K);
    }
  }
  learned_.pos_u.grad().add_(at::mm(by_position.t(), tools_.phi));
}

}  // namespace rwkvx
