#include "cli/commands.h"

#include <CLI/CLI.hpp>

#include "cli/torch_part.h"

namespace rwkvx {

void add_commands(CLI::App& app, const TorchPart* torch) {
  const auto add = [&](const char* name, const char* description, auto member) {
    add_torch_command(app, name, description, torch == nullptr ? nullptr : torch->*member);
  };
  add("train", kTrainDescription, &TorchPart::add_train);
  add("plan", kPlanDescription, &TorchPart::add_plan);
  add_plot_command(app);
  add_generate_command(app);
  add_embed_command(app);
  add_eval_command(app);
  add_convert_command(app);
  add_quantize_command(app);
  add_info_command(app);
  add("inspect", kInspectDescription, &TorchPart::add_inspect);
  add_tokenizer_command(app);
  add_data_command(app);
  add_bench_command(app, torch);
  add("study", kStudyDescription, &TorchPart::add_study);
}

}  // namespace rwkvx
