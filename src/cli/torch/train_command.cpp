#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/torch/train_config_flags.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/launch.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/train/init_from.h"
#include "rwkvx/train/trainer.h"

namespace rwkvx {
namespace {

struct TrainFlags {
  TrainConfigFlags config;
  std::string output, device;
  TrainOptions options;
  bool dry_run = false, explain = false;
};

TrainConfig read_config(const TrainFlags& flags) {
  return read_train_config(flags.config, [&](nlohmann::json& json) {
    if (!flags.output.empty()) json["train"]["output"] = flags.output;
    if (!flags.device.empty()) json["train"]["device"] = flags.device;
  });
}

void print_estimate(const TrainEstimate& e) {
  const double steps = static_cast<double>(e.steps);
  char number[64];
  const auto formatted = [&](const char* format, double value) {
    std::snprintf(number, sizeof number, format, value);
    return std::string(number);
  };
  print_row("parameters", count_text(e.parameters));
  print_row("vocabulary", count_text(e.vocab_size));
  print_row("training text", count_text(e.train_tokens) + " tokens");
  print_row("validation text", count_text(e.valid_tokens) + " tokens");
  print_row("tokens per step", count_text(e.tokens_per_step));
  print_row("steps", count_text(e.steps) + " (" + formatted("%.2f", e.epochs) +
                         " passes over the training text)");
  print_row("memory", bytes_text(e.memory_bytes) + " at the peak");
  print_row(
      "speed",
      formatted("%.0f", static_cast<double>(e.tokens_per_step) / e.seconds_per_step) + " tokens/s");
  print_row("time", duration_text(steps * e.seconds_per_step) + " and validation");
}

void report(const TrainResult& result, const std::string& output) {
  char loss[64] = "";
  if (std::isfinite(result.valid_loss))
    std::snprintf(loss, sizeof loss, ", validation loss %.4f", result.valid_loss);
  log_info((result.signal != 0 ? "interrupted and saved at step "
            : result.finished  ? "finished at step "
                               : "stopped and saved at step ") +
           std::to_string(result.step) + loss + ": " + result.checkpoint.string());
  if (result.tokens > 0)
    log_info(
        count_text(result.tokens) + " tokens in " + duration_text(result.seconds) + ", " +
        count_text(static_cast<std::int64_t>(static_cast<double>(result.tokens) / result.seconds)) +
        " tokens/s with validation and saving");
  if (!result.best_checkpoint.empty() && std::isfinite(result.best_valid_loss)) {
    std::snprintf(loss, sizeof loss, "best validation loss %.4f at step ", result.best_valid_loss);
    log_info(loss + std::to_string(result.best_step) + ": " + result.best_checkpoint.string());
  }
  if (!result.finished)
    log_info("to resume, repeat the command with --resume");
  else
    log_info("next: rwkvx generate --model " + output + " --prompt TEXT; curves: rwkvx plot " +
             output);
}

void run_train(TrainFlags flags) {
  // Of several processes, the first speaks.
  flags.options.ranks = own_rank_place();
  const bool first = flags.options.ranks.rank == 0;
  if (!first && (flags.explain || flags.dry_run)) return;
  const auto config = read_config(flags);
  if (flags.explain) {
    print(explain_parameters(open_init_from(config).config));
    return finish_output();
  }
  if (flags.dry_run) {
    print_estimate(estimate_training(config, flags.options.quiet));
    return finish_output();
  }
  try {
    const auto result = train(config, flags.options);
    if (!flags.options.quiet && first) report(result, config.train.output);
  } catch (const ShownElsewhere& error) {
    end_if_interrupted();
    std::exit(error.exit_status());
  }
  end_if_interrupted();
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto* command = app.add_subcommand("train", kTrainDescription);
  auto flags = std::make_shared<TrainFlags>();  // lives as long as the callback
  add_train_config_flags(*command, flags->config);
  command->add_option("--output", flags->output, "directory for the run, instead of train.output")
      ->type_name("DIR");
  command->add_option("--device", flags->device, "auto, cpu or cuda:N, instead of train.device")
      ->type_name("NAME");
  command->add_flag("--resume", flags->options.resume, "resume from the newest intact checkpoint");
  command->add_flag("--overwrite", flags->options.overwrite,
                    "replace an earlier run; with --resume: where it cannot be resumed");
  command->add_option("--stop-after", flags->options.stop_after, "save and stop after N steps")
      ->type_name("N")
      ->check(at_least(0));
  command->add_flag("--dry-run", flags->dry_run,
                    "check everything and print size, memory and time");
  command->add_flag("--explain", flags->explain,
                    "print each parameter's shape, initial value, rate and decay");
  command->add_flag("--quiet", flags->options.quiet, "no progress and no messages");
  command->callback([flags] { run_train(*flags); });
}

}  // namespace rwkvx
