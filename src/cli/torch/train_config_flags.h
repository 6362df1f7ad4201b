// The settings of a training on a command line: a file, and changes to it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct TrainConfigFlags {
  std::string file;
  std::vector<std::string> set;
};

// --config, which is required, and --set.
void add_train_config_flags(CLI::App& command, TrainConfigFlags& flags);

// What they say, after `change`, where there is one, has changed it further. Throws ConfigError.
TrainConfig read_train_config(const TrainConfigFlags& flags,
                              const std::function<void(nlohmann::json&)>& change = {});

}  // namespace rwkvx
