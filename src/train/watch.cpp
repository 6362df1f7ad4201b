#include "train/watch.h"

#include <torch/types.h>

#include <algorithm>
#include <cstdio>

#include "rwkvx/base/progress.h"
#include "rwkvx/model/rwkv.h"

namespace rwkvx {
namespace {

// (1, T, C) -> T rows of C floats on the CPU.
at::Tensor rows_of(const at::Tensor& values) {
  return values.squeeze(0).to(torch::kCPU, torch::kFloat32).contiguous();
}

double norm_of(const float* row, int64_t C) {
  double sum = 0;
  for (int64_t i = 0; i < C; ++i) sum += static_cast<double>(row[i]) * row[i];
  return std::sqrt(sum);
}

nlohmann::ordered_json statistics_of(const SiteView& view) {
  const auto gate = rows_of(view.gate), added = rows_of(view.added), input = rows_of(view.input);
  const int64_t T = input.size(0), C = input.size(1);
  const float* g = gate.data_ptr<float>();
  double sum = 0, share = 0;
  int64_t open = 0;
  for (int64_t i = 0; i < gate.numel(); ++i) {
    sum += g[i];
    open += g[i] > 0.5f;
  }
  for (int64_t t = 0; t < T; ++t)
    share += norm_of(added.data_ptr<float>() + t * C, C) /
             std::max(norm_of(input.data_ptr<float>() + t * C, C), 1e-12);
  const auto [least, most] = std::minmax_element(g, g + gate.numel());
  return {{"mean", sum / static_cast<double>(gate.numel())},
          {"min", *least},
          {"max", *most},
          {"open", static_cast<double>(open) / static_cast<double>(gate.numel())},
          {"added", share / static_cast<double>(T)}};
}

}  // namespace

void EventLog::begin(const TrainConfig& config, std::int64_t step, bool resumed, bool overwrite) {
  const auto folder = std::filesystem::path(config.train.output) / kEventFolder;
  if (!resumed && overwrite) remove_event_files(folder);
  if (!config.train.tensorboard) return;
  file_.emplace(folder);
  last_ = step;
  // Of this step's own points TensorBoard keeps the ones that are there.
  if (resumed) file_->start(step + 1);
  file_->text("config", "```json\n" + config_to_json(config).dump(2) + "\n```", step);
  file_->flush();
}

void EventLog::log(const nlohmann::ordered_json& line) {
  if (!file_) return;
  const std::int64_t step = line.value("step", last_);
  if (step < last_) file_->start(step);  // the run went back to an earlier checkpoint
  last_ = step;
  const bool validation = line.contains("valid_loss");
  for (const auto& item : line.items()) {
    const auto& name = item.key();
    if (name == "step") continue;
    if (name == "gates")
      add(name, item.value(), step);
    else if (validation)
      add("valid/" + (name.starts_with("valid_") ? name.substr(6) : name), item.value(), step);
    else
      add("train/" + name, item.value(), step);
  }
  file_->flush();
}

void EventLog::add(const std::string& tag, const nlohmann::ordered_json& value, std::int64_t step) {
  if (value.is_number())
    file_->scalar(tag, value.get<double>(), step);
  else if (value.is_string())
    file_->text(tag, value.get<std::string>(), step);
  else if (value.is_object())
    for (const auto& item : value.items()) add(tag + "/" + item.key(), item.value(), step);
  else if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i)
      add(tag + "/" + std::to_string(i), value[i], step);
}

nlohmann::ordered_json gate_statistics(RwkvImpl& model, const at::Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  auto state = model.start(/*B=*/1);
  nlohmann::ordered_json sites = nlohmann::ordered_json::object();
  model.features(tokens, state,
                 [&](const SiteView& view) { sites[view.name] = statistics_of(view); });
  return sites;
}

std::string training_note(std::int64_t step, std::int64_t tokens, double loss, double valid_loss,
                          double tokens_per_second) {
  char text[64];
  std::snprintf(text, sizeof text, "step %lld  loss %.4f", static_cast<long long>(step), loss);
  std::string note = text;
  if (std::isfinite(valid_loss)) {
    std::snprintf(text, sizeof text, "  valid %.4f", valid_loss);
    note += text;
  }
  return note + "  " + count_text(tokens) + " tokens  " +
         count_text(static_cast<std::int64_t>(tokens_per_second)) + " tokens/s";
}

}  // namespace rwkvx
