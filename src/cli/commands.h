// The subcommands. Each function adds one to the program and sets what runs when it is chosen.
#pragma once

namespace CLI {
class App;
}

namespace rwkvx {

struct TorchPart;

// `torch` as in run_program(); without it, commands that need it have a name and a description.
void add_commands(CLI::App& app, const TorchPart* torch);

void add_bench_command(CLI::App& app, const TorchPart* torch);
void add_data_command(CLI::App& app);
void add_embed_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_plot_command(CLI::App& app);
void add_quantize_command(CLI::App& app);
void add_study_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_train_command(CLI::App& app);

inline constexpr char kTrainDescription[] = "Train a model from a JSON config";
inline constexpr char kPlanDescription[] =
    "Say what a training will take on so many GPUs: memory, time, bytes between them";
inline constexpr char kInspectDescription[] =
    "Show a model's gates on a text, its kernels and how long it remembers";
inline constexpr char kStudyDescription[] =
    "Compare variants of the model over seeds and data sets, and report what holds";
inline constexpr char kBenchTrainDescription[] =
    "Training steps: baseline, enhanced and the matrix products alone, in turn";

}  // namespace rwkvx
