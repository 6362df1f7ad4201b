#include <CLI/CLI.hpp>
#include <iostream>

#include "cli/commands.h"
#include "cli/model_flags.h"
#include "rwkvx/adapters/adapter.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/engine/weights_check.h"

namespace rwkvx {

void add_info_command(CLI::App& app) {
  struct InfoFlags {
    std::string model;
    bool json = false;
  };
  auto* command = app.add_subcommand("info", "Describe a checkpoint, a weights file or an adapter");
  auto flags = std::make_shared<InfoFlags>();
  command->add_option("--model", flags->model, std::string(kModelHelp) + "; or an adapter")
      ->required()
      ->type_name("PATH");
  command->add_flag("--json", flags->json, "print a JSON object");
  command->callback([flags] {
    const bool adapter = looks_like_adapter(flags->model);
    const auto info = adapter ? describe_adapter(flags->model) : describe_checkpoint(flags->model);
    if (!adapter) check_model(flags->model);  // what generate would say of it
    if (flags->json) {
      std::cout << json_dump(info, 2) << "\n";
      return;
    }
    const auto show = [](const std::string& name, const std::string& value) {
      constexpr std::size_t kWidth = 28;
      std::cout << name << std::string(name.size() < kWidth ? kWidth - name.size() : 1, ' ')
                << value << "\n";
    };
    for (const auto& item : info.items()) {
      if (item.value().is_object()) {
        for (const auto& inner : item.value().items())
          show(item.key() + "." + inner.key(), inner.value().is_string()
                                                   ? inner.value().get<std::string>()
                                                   : json_dump(inner.value()));
      } else {
        show(item.key(), item.value().is_string()           ? item.value().get<std::string>()
                         : item.value().is_number_integer() ? count_text(item.value())
                                                            : json_dump(item.value()));
      }
    }
  });
}

}  // namespace rwkvx
