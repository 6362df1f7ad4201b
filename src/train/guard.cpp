#include "train/guard.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace rwkvx {
namespace {

// Deviations of `value` above the mean of the window.
double zscore(double value, const std::vector<double>& window) {
  const auto count = static_cast<double>(window.size());
  double mean = 0, squares = 0;
  for (const double one : window) mean += one / count;
  for (const double one : window) squares += (one - mean) * (one - mean) / count;
  const double deviation = std::max(std::sqrt(squares), 0.01 * std::fabs(mean));
  return deviation > 0 ? (value - mean) / deviation : 0;
}

std::string spike(const char* what, double value, const std::vector<double>& window,
                  const TrainingConfig& config) {
  if (window.size() < static_cast<std::size_t>(config.spike_window)) return "";
  const double score = zscore(value, window);
  if (score <= config.spike_zscore) return "";
  char text[160];
  std::snprintf(text, sizeof text,
                "the %s is %.4g, %.1f standard deviations above the mean of the last %lld steps",
                what, value, score, static_cast<long long>(config.spike_window));
  return text;
}

void remember(double value, std::int64_t most, std::vector<double>& window) {
  window.push_back(value);
  const auto count = static_cast<std::int64_t>(window.size());
  if (count > most) window.erase(window.begin(), window.begin() + (count - most));
}

}  // namespace

bool guarded(const TrainingConfig& config) {
  return config.on_spike != OnSpike::kStop || config.spike_zscore > 0;
}

std::string find_spike(const TrainingConfig& config, double loss, double norm, GuardState& state) {
  if (!std::isfinite(loss)) return "the loss is " + std::to_string(loss);
  if (!std::isfinite(norm)) return "the gradient's norm is not finite";
  if (config.spike_zscore == 0) return "";
  auto found = spike("loss", loss, state.losses, config);
  if (found.empty()) found = spike("gradient norm", norm, state.norms, config);
  if (!found.empty()) return found;
  remember(loss, config.spike_window, state.losses);
  remember(norm, config.spike_window, state.norms);
  return "";
}

nlohmann::ordered_json guard_to_json(const GuardState& state) {
  return {{"used", state.used},
          {"verified", state.verified},
          {"losses", state.losses},
          {"grad_norms", state.norms}};
}

GuardState guard_from_json(const nlohmann::json& json) {
  return {json.at("used").get<std::int64_t>(), json.at("verified").get<std::int64_t>(),
          json.at("losses").get<std::vector<double>>(),
          json.at("grad_norms").get<std::vector<double>>()};
}

}  // namespace rwkvx
