// The learning rate over a run. A new schedule is an enumerator, its name and its row.
#pragma once

#include <cmath>
#include <cstddef>
#include <iterator>
#include <numbers>
#include <string_view>

namespace rwkvx {

enum class Schedule { kCosine, kLinear, kConstant, kWsd };
constexpr std::string_view enum_names(Schedule) { return "cosine|linear|constant|wsd"; }

struct ScheduleShape {
  double final_share = 1;  // the final learning rate as a share of the peak
  double decay_share = 0;  // of wsd: the share in which the rate falls
};

// The factor of the peak learning rate after the warm-up: `progress` goes from 0 to 1 over what is
// left of the run.
struct ScheduleRow {
  Schedule schedule;
  double (*factor)(double progress, const ScheduleShape& shape);
};

inline constexpr ScheduleRow kSchedules[] = {
    {Schedule::kCosine,
     [](double progress, const ScheduleShape& shape) {
       return (0.5 + shape.final_share / 2) +
              (0.5 - shape.final_share / 2) * std::cos(std::numbers::pi * progress);
     }},
    {Schedule::kLinear,
     [](double progress, const ScheduleShape& shape) {
       return 1 + (shape.final_share - 1) * progress;
     }},
    {Schedule::kConstant, [](double, const ScheduleShape&) { return 1.0; }},
    // Warm-up, stable, decay: constant (arXiv 2404.06395), then down as 1 - sqrt(x), which arXiv
    // 2405.18392 (section 3.1, equation 2) found better than a line.
    {Schedule::kWsd,
     [](double progress, const ScheduleShape& shape) {
       const double begin = 1 - shape.decay_share;
       if (progress <= begin) return 1.0;
       const double fall = std::sqrt((progress - begin) / shape.decay_share);
       return 1 + (shape.final_share - 1) * fall;
     }},
};

inline double schedule_factor(Schedule schedule, double progress, const ScheduleShape& shape) {
  return kSchedules[static_cast<std::size_t>(schedule)].factor(progress, shape);
}

// The rows stand in the order of the enumerators, and each has a name.
static_assert([] {
  std::size_t names = 1;
  for (const char c : enum_names(Schedule{})) names += c == '|';
  for (std::size_t i = 0; i < std::size(kSchedules); ++i)
    if (static_cast<std::size_t>(kSchedules[i].schedule) != i) return false;
  return names == std::size(kSchedules);
}());

}  // namespace rwkvx
