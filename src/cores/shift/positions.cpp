#include "cores/shift/positions.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>

#include "cores/shift/layout.h"
#include "rwkvx/cores/shift.h"

namespace rwkvx {
namespace {

void append_exp(double t, std::vector<double>& to) {
  for (const double tau : {2., 8., 32., 128.}) to.push_back(std::exp(-t / tau));
}
at::Tensor exp_rows(const at::Tensor& positions) {
  return at::exp(-positions / at::tensor({2., 8., 32., 128.}, at::kDouble));
}

void append_sin(double t, std::vector<double>& to) {
  for (const bool cosine : {false, true})
    for (const double period : {8., 32., 128., 512.}) {
      const double angle = t * (2 * std::numbers::pi) / period;
      to.push_back(cosine ? std::cos(angle) : std::sin(angle));
    }
}
at::Tensor sin_rows(const at::Tensor& positions) {
  const auto angle =
      positions * (2 * std::numbers::pi) / at::tensor({8., 32., 128., 512.}, at::kDouble);
  return at::cat({at::sin(angle), at::cos(angle)}, /*dim=*/2);
}

constexpr PositionForm kForms[] = {
    {Position::kExp, 4, append_exp, exp_rows},
    {Position::kSin, 8, append_sin, sin_rows},
    {Position::kNone, 0, nullptr, nullptr},
};

}  // namespace

const PositionForm& position_form(Position position) {
  for (const auto& form : kForms)
    if (form.position == position) return form;
  throw Error("model.shift.pos", "has no row in the table of position forms");
}

Position position_of(std::int64_t features) {
  for (const auto& form : kForms)
    if (form.features == features) return form.position;
  return Position::kExp;  // whose number of features a message then names
}

at::Tensor position_features(Position position, const at::Tensor& t, std::int64_t T) {
  TORCH_CHECK(t.dim() == 1 && t.scalar_type() == at::kLong && t.device().is_cpu(),
              "position_features: t must be (B) int64 on the CPU, got ", t.sizes());
  const bool shared = t.size(0) > 0 && (t == t[0]).all().item<bool>();
  const auto first = shared ? t.slice(0, 0, 1) : t;
  const auto positions =
      (first.unsqueeze(1) + at::arange(T, at::kLong)).to(at::kDouble).unsqueeze(2);  // (B, T, 1)
  const auto& form = position_form(position);
  TORCH_CHECK(form.rows != nullptr, "position_features: that form has none");
  return form.rows(positions);
}

at::Tensor shift_positions(const ModelConfig& config, const at::Tensor& t, int64_t T,
                           const at::TensorOptions& options) {
  if (!config.shift.enabled() || shift_features(config.shift) == 0) return {};
  return position_features(config.shift.pos, t, T)
      .to(options.dtype().toScalarType())
      .to(options.device());
}

void append_positions(const ModelConfig& config, std::int64_t t, std::int64_t tokens,
                      std::vector<double>& to) {
  if (!config.shift.enabled() || shift_features(config.shift) == 0) return;
  const auto& form = position_form(config.shift.pos);
  for (std::int64_t i = 0; i < tokens; ++i) form.append(static_cast<double>(t + i), to);
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
