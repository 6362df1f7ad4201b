#include "cli/torch/train_config_flags.h"

#include <CLI/CLI.hpp>
#include <filesystem>

#include "rwkvx/base/error.h"
#include "rwkvx/cores/core.h"

namespace rwkvx {

void add_train_config_flags(CLI::App& command, TrainConfigFlags& flags) {
  command.add_option("--config", flags.file, "JSON file, see configs/")
      ->required()
      ->type_name("FILE");
  command.add_option("--set", flags.set, "override one setting; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
}

TrainConfig read_train_config(const TrainConfigFlags& flags,
                              const std::function<void(nlohmann::json&)>& change) {
  if (!std::filesystem::exists(flags.file))
    throw ConfigError("--config", "no such file: " + flags.file);
  auto json = read_json_file(flags.file);
  const auto where = flags.file + ": ";
  set_by_paths<TrainConfig>(json, flags.set, where);
  if (change) change(json);
  const auto config = config_from_json<TrainConfig>(json, where);
  if (config.train.init_from.empty()) check_model(config.model, where + "model");
  return config;
}

}  // namespace rwkvx
