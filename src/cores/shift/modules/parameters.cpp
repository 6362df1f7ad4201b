#include "cores/shift/modules/parameters.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "cores/shift/gate_forms.h"
#include "cores/shift/layout.h"
#include "cores/shift/positions.h"

namespace rwkvx {

ShiftParameters shift_parameters(const ModelConfig& config, const std::string& site,
                                 const std::function<at::Tensor(const std::string&)>& of) {
  ShiftParameters learned;
  learned.form = &gate_form(config);
  learned.dilation = config.shift.dilation;
  learned.silu = config.shift.has_silu();
  if (config.shift.has_conv()) learned.conv = of(site + "conv");
  if (shift_features(config.shift) > 0) learned.pos_u = of(site + "pos_u");
  if (!learned.form->always_open())
    for (const auto& row : learned.form->rows(config)) learned.gate.push_back(of(site + row.name));
  return learned;
}

at::Tensor position_features(Position position, const at::Tensor& t, std::int64_t T) {
  TORCH_CHECK(t.dim() == 1 && t.scalar_type() == at::kLong && t.device().is_cpu(),
              "position_features: t must be (B) int64 on the CPU, got ", t.sizes());
  const auto& form = position_form(position);
  TORCH_CHECK(form.append != nullptr, "position_features: that form has none");
  const auto starts = t.contiguous();
  const auto* start = starts.const_data_ptr<int64_t>();
  const auto other = [&](int64_t one) { return one != *start; };
  const bool shared = t.size(0) > 0 && std::none_of(start, start + t.size(0), other);
  const int64_t B = shared ? 1 : t.size(0);
  std::vector<double> rows;
  rows.reserve(static_cast<size_t>(B * T * form.features));
  for (int64_t b = 0; b < B; ++b)
    for (int64_t i = 0; i < T; ++i) form.append(static_cast<double>(start[b] + i), rows);
  return at::tensor(rows, at::kDouble).view({B, T, form.features});
}

at::Tensor shift_positions(const ModelConfig& config, const at::Tensor& t, int64_t T,
                           const at::TensorOptions& options) {
  if (!config.shift.enabled() || shift_features(config.shift) == 0) return {};
  return position_features(config.shift.pos, t, T)
      .to(options.dtype().toScalarType())
      .to(options.device());
}

std::vector<std::vector<double>> taps_by_position(const ModelConfig& config,
                                                  const ShiftParameters& site,
                                                  const std::vector<std::int64_t>& positions) {
  std::vector<std::vector<double>> taps;
  if (!site.conv.defined()) return taps;
  const at::NoGradGuard no_grad;
  const auto size = site.conv.square().mean(1).sqrt();  // (K)
  for (const auto position : positions) {
    auto m = at::ones_like(size);
    if (site.pos_u.defined()) {
      const auto phi = position_features(config.shift.pos, at::full({1}, position, at::kLong), 1);
      m = m + at::matmul(site.pos_u, phi.flatten().to(at::kFloat));
    }
    const auto flat = (m * size).to(at::kDouble).contiguous();
    taps.emplace_back(flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel());
  }
  return taps;
}

}  // namespace rwkvx
