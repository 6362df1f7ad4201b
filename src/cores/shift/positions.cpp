#include "cores/shift/positions.h"

#include <cmath>
#include <numbers>

#include "cores/shift/layout.h"
#include "rwkvx/base/error.h"
#include "rwkvx/cores/shift.h"

namespace rwkvx {
namespace {

void append_exp(double t, std::vector<double>& to) {
  for (const double tau : {2., 8., 32., 128.}) to.push_back(std::exp(-t / tau));
}

void append_sin(double t, std::vector<double>& to) {
  for (const bool cosine : {false, true})
    for (const double period : {8., 32., 128., 512.}) {
      const double angle = t * (2 * std::numbers::pi) / period;
      to.push_back(cosine ? std::cos(angle) : std::sin(angle));
    }
}

constexpr PositionForm kForms[] = {
    {Position::kExp, 4, append_exp},
    {Position::kSin, 8, append_sin},
    {Position::kNone, 0, nullptr},
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

void append_positions(const ModelConfig& config, std::int64_t t, std::int64_t tokens,
                      std::vector<double>& to) {
  if (!config.shift.enabled() || shift_features(config.shift) == 0) return;
  const auto& form = position_form(config.shift.pos);
  for (std::int64_t i = 0; i < tokens; ++i) form.append(static_cast<double>(t + i), to);
}

}  // namespace rwkvx
