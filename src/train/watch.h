// What lets people watch a run: event files for TensorBoard, statistics of gates, the line that a
// terminal shows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "rwkvx/config/train_config.h"
#include "rwkvx/report/event_file.h"

namespace rwkvx {

class RwkvImpl;

// Where a run's event files lie, in its directory.
inline constexpr char kEventFolder[] = "tensorboard";

// Writes what log.jsonl gets to event files as well, where train.tensorboard says so.
class EventLog {
 public:
  // Begins a file. A run that replaces an earlier one removes the earlier one's files; a resumed
  // run has TensorBoard forget what lies after `step`. Throws FileError.
  void begin(const TrainConfig& config, std::int64_t step, bool resumed, bool overwrite);
  // Numbers of a line become scalars ("train/loss", "valid/loss", "gates/blocks.0.att/mean"),
  // strings become texts. Throws FileError.
  void log(const nlohmann::ordered_json& line);

 private:
  void add(const std::string& tag, const nlohmann::ordered_json& value, std::int64_t step);
  std::optional<EventFile> file_;
  std::int64_t last_ = 0;
};

// Of each site before which the shift stands, "blocks.0.att": mean, min and max of its gate, the
// share of its values above 0.5 ("open"), and how large what the shift adds is relative to its
// input ("added": Euclidean norms, the mean over tokens). tokens (1, T) int64, from an empty state.
// Summed in one order, whatever the number of threads.
nlohmann::ordered_json gate_statistics(RwkvImpl& model, const at::Tensor& tokens);

// "step 120  loss 2.3456  valid 2.4567  1,228,800 tokens  51,234 tokens/s": the most important
// first, as a narrow terminal shows the beginning. valid_loss NaN is left out.
std::string training_note(std::int64_t step, std::int64_t tokens, double loss, double valid_loss,
                          double tokens_per_second);

}  // namespace rwkvx
