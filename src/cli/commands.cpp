#include "cli/commands.h"

namespace rwkvx {

void add_commands(CLI::App& app) {
  add_train_command(app);
  add_generate_command(app);
  add_embed_command(app);
  add_eval_command(app);
  add_quantize_command(app);
  add_info_command(app);
  add_inspect_command(app);
  add_tokenizer_command(app);
  add_data_command(app);
  add_bench_command(app);
  add_study_command(app);
}

}  // namespace rwkvx
