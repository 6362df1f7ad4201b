// A site's fused training with a device's kernels: LibTorch's layer norm, then shift, gate and
// mixes in one kernel.
#include <ATen/ATen.h>

#include "cores/shift/cuda/shift_mix_emulate.h"
#include "cores/shift/modules/pass.h"

namespace rwkvx {
namespace {

// What a site keeps of a run's sequences in a state: (count, …), or undefined.
at::Tensor part_of(const LayerState* state, int place, const PassRun& run) {
  if (state == nullptr || place < 0) return {};
  return (*state)[static_cast<size_t>(place)].narrow(0, run.first, run.count);
}

}  // namespace

cuda::ShiftMixInputs<float> ShiftPass::inputs(const PassRows& rows, const PassRun& run) const {
  const auto site = view();
  cuda::ShiftMixInputs<float> in{};
  in.B = run.count, in.T = run.tokens, in.C = C_;
  in.taps = site.taps, in.mixes = site.mixes, in.mix_before = site.mix_before;
  in.a = read(normal_) + (run.begin - rows.begin) * C_;
  if (factors_.defined()) {
    const int64_t K = factors_.size(1);
    in.m =
        read(factors_) + (tools_.phi_by_sequence ? run.first : run.position - tools_.phi_start) * K;
    if (tools_.phi_by_sequence) in.m_stride = K;
  }
  in.conv = site.conv;
  in.gate_x = site.gate_x, in.gate_s = site.gate_s, in.gate_b = site.gate_b;
  in.ring = state_of(rows.before, places_.ring, run.first);
  in.prev = state_of(rows.before, places_.prev, run.first);
  for (int i = 0; i < site.mixes; ++i) in.mix[i] = site.mix[i];
  return in;
}

void ShiftPass::forward_on_device(const PassRows& rows, const at::Tensor& x,
                                  const std::vector<at::Tensor>& z) const {
  std::tie(normal_, mean_, scale_) = at::native_layer_norm(
      x.narrow(0, rows.begin, rows.tokens), {C_}, norm_.weight, norm_.bias, kLayerNormEpsilon);
  for (const auto& run : tools_.runs(rows.first, rows.count)) {
    const int64_t local = (run.begin - rows.begin) * C_;
    cuda::with_type(tools_.place.type, [&]<class Value>() {
      cuda::ShiftMixForwardCall<float, Value> call{inputs(rows, run), {}, nullptr};
      for (size_t i = 0; i < z.size(); ++i) call.z[i] = cuda::mutable_data<Value>(z[i]) + local;
      call.last = state_of(rows.after, places_.prev, run.first);
      cuda::run(call, normal_);
    });
    auto ring = part_of(rows.after, places_.ring, run);  // (count, K - 1, C)
    if (!ring.defined()) continue;
    const int64_t T = run.tokens, H = ring.size(1);
    const auto a =
        normal_.narrow(0, run.begin - rows.begin, run.count * T).view({run.count, T, C_});
    const int64_t fresh = std::min(T, H);
    const auto before = part_of(rows.before, places_.ring, run);
    auto older = ring.narrow(1, 0, H - fresh);
    before.defined() ? older.copy_(before.narrow(1, fresh, H - fresh)) : older.zero_();
    ring.narrow(1, H - fresh, fresh).copy_(a.narrow(1, T - fresh, fresh));
  }
}

void ShiftPass::backward_on_device(const PassRows& rows, const at::Tensor& x,
                                   const std::vector<at::Tensor>& dz, const at::Tensor& dx) const {
  const int64_t lanes = normal_.is_cpu() ? cuda::OneLane::kCount : cuda::kWarp;
  auto da = at::empty_like(normal_);
  std::vector<std::pair<int64_t, at::Tensor>> gates, mixes, taps;
  for (size_t i = 0; i < learned_.gate.size(); ++i)
    gates.emplace_back(static_cast<int64_t>(i), learned_.gate[i]);
  for (size_t i = 0; i < mix_.size(); ++i) mixes.emplace_back(3 + static_cast<int64_t>(i), mix_[i]);
  for (const auto& run : tools_.runs(rows.first, rows.count)) {
    const auto in = inputs(rows, run);
    const int64_t B = in.B, T = in.T, K = in.taps, local = (run.begin - rows.begin) * C_;
    auto parts =
        at::empty({B, cuda::shift_mix_tiles(T), cuda::kShiftMixGradRows + K, C_}, da.options());
    at::Tensor dm;
    if (in.m != nullptr && learned_.pos_u.grad().defined())
      dm = at::empty({(C_ + lanes - 1) / lanes, B, T, K}, da.options());
    cuda::with_type(tools_.place.type, [&]<class Value>() {
      cuda::ShiftMixBackwardCall<float, Value> call{};
      call.in = in;
      for (size_t i = 0; i < dz.size(); ++i) call.dz[i] = cuda::data<Value>(dz[i]) + local;
      call.da = data(da) + local;
      call.grads = data(parts);
      call.dm = cuda::mutable_data<float>(dm);
      cuda::run(call, normal_);
    });
    // The type is spelled out, as a plain list is ambiguous in LibTorch 2.6.
    const auto sums = parts.sum(at::IntArrayRef{0, 1});  // (kShiftMixGradRows + K, C)
    PassTools::add_sums(sums, gates);
    PassTools::add_sums(sums, mixes, in.mix_before ? -1 : 1);
    if (learned_.conv.defined() && learned_.conv.grad().defined())
      learned_.conv.grad().add_(sums.narrow(0, cuda::kShiftMixGradRows, K));
    if (dm.defined())
      learned_.pos_u.grad().add_(at::mm(dm.sum(at::IntArrayRef{0, 1}).t(),
                                        tools_.phi.narrow(0, run.position - tools_.phi_start, T)));
  }
  const auto [to_x, to_weight, to_bias] = at::native_layer_norm_backward(
      da, x.narrow(0, rows.begin, rows.tokens), {C_}, mean_, scale_, norm_.weight, norm_.bias,
      {true, norm_.weight.grad().defined(), norm_.bias.grad().defined()});
  dx.narrow(0, rows.begin, rows.tokens).add_(to_x);
  if (to_weight.defined()) norm_.weight.grad().add_(to_weight);
  if (to_bias.defined()) norm_.bias.grad().add_(to_bias);
}

}  // namespace rwkvx
