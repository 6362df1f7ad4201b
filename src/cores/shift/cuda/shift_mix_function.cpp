#include "cores/shift/cuda/shift_mix_function.h"

#include <torch/csrc/autograd/custom_function.h>

#include "cores/shift/cuda/shift_mix_emulate.h"
#include "cores/shift/gate_forms.h"
#include "cores/shift/modules/conv_shift.h"
#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/precision.h"

namespace rwkvx::cuda {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The tensors of a site, in the order of ShiftMix's arguments.
enum Argument { kA, kConv, kM, kGateX, kGateS, kGateB, kLogits, kRing, kPrev, kMix };

ShiftMixInputs<float> inputs_of(const variable_list& x) {
  const auto &a = x[kA], &m = x[kM], &logits = x[kLogits];
  const int64_t T = a.size(1);
  ShiftMixInputs<float> in{};
  in.B = a.size(0), in.T = T, in.C = a.size(2);
  in.taps = x[kConv].numel() > 0 ? static_cast<int>(x[kConv].size(0)) : 0;
  in.mixes = static_cast<int>(x[kMix].size(0));
  in.a = data<float>(a);
  in.m = data<float>(m);
  in.m_stride = m.numel() > 0 && m.size(0) > 1 ? T * in.taps : 0;
  in.conv = data<float>(x[kConv]);
  in.gate_x = data<float>(x[kGateX]);
  in.gate_s = data<float>(x[kGateS]);
  in.gate_b = data<float>(x[kGateB]);
  in.logits = data<float>(logits);
  in.gates = logits.numel() > 0 ? logits.size(2) : 0;
  in.ring = data<float>(x[kRing]);
  in.prev = data<float>(x[kPrev]);
  for (int i = 0; i < in.mixes; ++i) in.mix[i] = data<float>(x[kMix]) + i * in.C;
  return in;
}

class ShiftMix : public torch::autograd::Function<ShiftMix> {
 public:
  // mix (mixes, C). Returns the mixes and b of the last token.
  static variable_list forward(AutogradContext* context, at::Tensor a, at::Tensor conv,
                               at::Tensor m, at::Tensor gate_x, at::Tensor gate_s,
                               at::Tensor gate_b, at::Tensor logits, at::Tensor ring,
                               at::Tensor prev, at::Tensor mix, at::ScalarType type) {
    const variable_list x{a, conv, m, gate_x, gate_s, gate_b, logits, ring, prev, mix};
    const int mixes = static_cast<int>(mix.size(0));
    variable_list out;
    for (int i = 0; i < mixes; ++i) out.push_back(at::empty_like(a, a.options().dtype(type)));
    out.push_back(at::empty_like(prev));
    with_type(type, [&]<class Out>() {
      ShiftMixForwardCall<float, Out> call{inputs_of(x), {}, mutable_data<float>(out.back())};
      for (int i = 0; i < mixes; ++i) call.z[i] = mutable_data<Out>(out[static_cast<size_t>(i)]);
      run(call, a);
    });
    context->set_materialize_grads(false);
    context->saved_data["type"] = static_cast<int64_t>(type);
    context->save_for_backward(x);
    context->mark_non_differentiable({out.back()});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto x = context->get_saved_variables();
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    const auto& a = x[kA];
    const auto in = inputs_of(x);
    const int mixes = in.mixes;
    const int64_t B = in.B, T = in.T, C = in.C, K = in.taps, G = in.gates;
    const int64_t lanes = a.is_cpu() ? OneLane::kCount : kWarp;
    const auto like = at::empty({0}, a.options().dtype(type));
    variable_list dz;
    for (int i = 0; i < mixes; ++i) {
      const auto& given = grads[static_cast<size_t>(i)];
      dz.push_back(given.defined() ? given.to(type).contiguous() : like.new_zeros({B, T, C}));
    }
    auto da = at::empty_like(a);
    auto rows = at::empty({B, shift_mix_tiles(T), kShiftMixGradRows + K, C}, a.options());
    at::Tensor dlogits, dm;
    if (G > 0) dlogits = at::empty_like(a);
    if (in.m != nullptr) dm = at::empty({(C + lanes - 1) / lanes, B, T, K}, a.options());
    with_type(type, [&]<class Out>() {
      ShiftMixBackwardCall<float, Out> call{in,
                                            {},
                                            mutable_data<float>(da),
                                            mutable_data<float>(dlogits),
                                            mutable_data<float>(rows),
                                            mutable_data<float>(dm)};
      for (int i = 0; i < mixes; ++i) call.dz[i] = data<Out>(dz[static_cast<size_t>(i)]);
      run(call, a);
    });
    // The type is spelled out, as a plain list is ambiguous in LibTorch 2.6.
    const auto sums = rows.sum(at::IntArrayRef{0, 1});  // (kShiftMixGradRows + K, C)
    variable_list result(11);
    result[kA] = da;
    if (K > 0) result[kConv] = sums.slice(0, kShiftMixGradRows);
    if (dm.defined())
      result[kM] =  // as m
          x[kM].size(0) > 1 ? dm.sum(0) : dm.sum(at::IntArrayRef{0, 1}).unsqueeze(0);
    if (in.gate_b != nullptr)
      for (int i = 0; i < 3; ++i) result[static_cast<size_t>(kGateX + i)] = sums[i];
    if (G > 0) result[kLogits] = dlogits.view({B, T, G, C / G}).sum(3);
    result[kMix] = sums.slice(0, 3, 3 + mixes);
    return result;
  }
};

// What the shift adds to the kernel's arguments: taps, their factors, and a gate's inner value
// where the kernel does not make it itself.
struct Shift {
  at::Tensor conv, m, logits;
};

Shift shift_of(const at::Tensor& a, const ShiftParameters& learned, const at::Tensor& phi) {
  Shift shift{learned.conv, {}, {}};
  if (!learned.conv.defined()) {  // s_t = a_{t-1}
    shift.conv = a.new_zeros({2, a.size(2)});
    shift.conv[1].fill_(1);
  }
  if (learned.pos_u.defined()) shift.m = 1 + at::matmul(phi.to(a.dtype()), learned.pos_u.t());
  if (!learned.form->always_open() && !learned.form->elementwise)
    shift.logits = gate_logits(a, {}, learned);  // (B, T, G) or (B, T, C)
  return shift;
}

}  // namespace

std::vector<at::Tensor> shift_mix(const at::Tensor& given, const ShiftParameters& learned,
                                  const at::Tensor& phi, const std::vector<at::Tensor>& mixes,
                                  at::Tensor& ring, at::Tensor& prev) {
  const auto type = linear_type(given.device(), given.scalar_type());
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto a = given.to(at::kFloat).contiguous();  // (B, T, C)
  const int64_t T = a.size(1), C = a.size(2);
  TORCH_CHECK(!mixes.empty() && mixes.size() <= kShiftMixMixes, "shift_mix: expected 1 to ",
              kShiftMixMixes, " mixes, got ", mixes.size());
  TORCH_CHECK(!learned.conv.defined() || learned.conv.size(0) <= kShiftMixMostTaps,
              "shift_mix: expected at most ", kShiftMixMostTaps, " taps, got ",
              learned.conv.defined() ? learned.conv.size(0) : 0);
  const bool shifted = ring.defined();
  const auto shift = shifted ? shift_of(a, learned, phi) : Shift{};
  const bool diag = shifted && learned.form->elementwise;
  const auto none = at::Tensor();
  std::vector<at::Tensor> rows;
  for (const auto& mix : mixes) rows.push_back(mix.to(at::kFloat).reshape({C}));
  auto out = ShiftMix::apply(
      a, present(shift.conv, a), present(shift.m, a), present(diag ? learned.gate[0] : none, a),
      present(diag ? learned.gate[1] : none, a), present(diag ? learned.gate[2] : none, a),
      present(shift.logits, a), present(ring, a), prev.contiguous(), at::stack(rows), type);
  if (shifted) {
    const int64_t H = ring.size(1);
    const auto recent = a.detach().slice(1, std::max<int64_t>(T - H, 0));
    ring = T >= H ? recent.clone(at::MemoryFormat::Contiguous)
                  : at::cat({ring.slice(1, T), recent}, 1);
  }
  prev = out.back().detach();
  out.pop_back();
  return out;
}

}  // namespace rwkvx::cuda
