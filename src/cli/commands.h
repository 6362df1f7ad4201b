// The subcommands. Each function adds one to the program and sets what runs when it is chosen.
#pragma once

namespace CLI {
class App;
}

namespace rwkvx {

void add_commands(CLI::App& app);

void add_bench_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_embed_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_quantize_command(CLI::App& app);
void add_study_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_train_command(CLI::App& app);

}  // namespace rwkvx
