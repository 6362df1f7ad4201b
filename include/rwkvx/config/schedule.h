// The learning rate over the steps of a run. A new schedule is an enumerator, its name and a case.
#pragma once

#include <cmath>
#include <numbers>
#include <string_view>

namespace rwkvx {

enum class Schedule { kCosine, kLinear, kConstant };
constexpr std::string_view enum_names(Schedule) { return "cosine|linear|constant"; }

// The factor of the peak learning rate after the warm-up: `progress` goes from 0 to 1 over the
// steps that are left, `final_share` is the final learning rate as a share of the peak.
inline double schedule_factor(Schedule schedule, double progress, double final_share) {
  switch (schedule) {
    case Schedule::kCosine:
      return (0.5 + final_share / 2) +
             (0.5 - final_share / 2) * std::cos(std::numbers::pi * progress);
    case Schedule::kLinear:
      return 1 + (final_share - 1) * progress;
    case Schedule::kConstant:
      break;
  }
  return 1;
}

}  // namespace rwkvx
