#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/torch/train_config_flags.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/plan/plan.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

struct PlanFlags {
  TrainConfigFlags config;
  std::string device = "h100";
  std::int64_t ranks = 1, tokens = 0;
  double link = 0;
  bool json = false;
};

// Tokens that the settings ask for; epochs are of a text that is not read here.
std::int64_t budget_of(const TrainConfig& config, const PlanFlags& flags) {
  const auto& t = config.train;
  if (flags.tokens > 0) return flags.tokens;
  if (t.max_tokens > 0) return t.max_tokens;
  return t.max_steps * t.grad_accum_steps * t.batch_size * t.ctx_len;
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string seconds(double value) {
  return value >= 1 ? number("%.2f s", value) : number("%.2f ms", 1e3 * value);
}

ordered_json json_of(const Plan& plan, const Accelerator* kind) {
  ordered_json result = {{"device", kind == nullptr ? "cpu" : kind->name},
                         {"ranks", plan.ranks},
                         {"parameters", plan.parameters},
                         {"tokens", plan.tokens},
                         {"step_tokens", plan.step_tokens},
                         {"memory_bytes", ordered_json::object()},
                         {"memory_total_bytes", plan.memory_total},
                         {"step_seconds", ordered_json::object()},
                         {"step_total_seconds", plan.step_seconds},
                         {"tokens_per_second", plan.tokens_per_second()},
                         {"wire_bytes_per_step", plan.wire_bytes},
                         {"efficiency", plan.efficiency},
                         {"seconds", plan.seconds()}};
  for (const auto& [name, bytes] : plan.memory) result["memory_bytes"][name] = bytes;
  for (const auto& [name, value] : plan.time) result["step_seconds"][name] = value;
  if (kind != nullptr)
    result["share_of_peak"] =
        plan.flops * plan.tokens_per_second() / (kind->flops * static_cast<double>(plan.ranks));
  return result;
}

// A row of a table below a heading.
void print_part(const std::string& name, const std::string& value) {
  print_row("  " + name, value, /*width=*/28);
}

void print_plan(const Plan& plan, const Accelerator* kind) {
  const auto ranks = static_cast<double>(plan.ranks);
  print_row("on", std::to_string(plan.ranks) + " x " +
                      (kind == nullptr ? "this machine's processors, shared" : kind->title));
  print_row("parameters", count_text(plan.parameters));
  print_row("tokens per step", count_text(plan.step_tokens));
  print("\nmemory per rank\n");
  for (const auto& [name, bytes] : plan.memory) print_part(name, bytes_text(bytes));
  print_part("in all", bytes_text(plan.memory_total) +
                           (kind == nullptr ? "" : " of " + bytes_text(kind->memory)));
  print("\ntime per step\n");
  for (const auto& [name, value] : plan.time)
    if (value > 0) print_part(name, seconds(value));
  print_part("in all", seconds(plan.step_seconds));
  print("\n");
  print_row("speed", count_text(static_cast<std::int64_t>(plan.tokens_per_second())) + " tokens/s");
  if (kind != nullptr)
    print_row("share of the peak", number("%.1f %%", 100 * plan.flops * plan.tokens_per_second() /
                                                         (kind->flops * ranks)));
  if (plan.ranks > 1) {
    print_row("wire", bytes_text(plan.wire_bytes) + " sent by a rank per step");
    print_row("efficiency", number("%.1f %%", 100 * plan.efficiency));
  }
  print_row(
      "time",
      duration_text(plan.seconds()) + " for " + count_text(plan.tokens) + " tokens" +
          (plan.seconds() >= 86400 ? ", " + number("%.1f", plan.seconds() / 86400) + " days" : ""));
}

void run_plan(const PlanFlags& flags) {
  auto config = read_train_config(flags.config);
  config.model.vocab_size = expected_vocab_size(config);
  const bool here = flags.device == "cpu";
  const auto* kind = here ? nullptr : &find_accelerator(flags.device, "--gpu");
  auto speeds =
      here ? measured_speeds(config, flags.ranks) : estimated_speeds(*kind, config, flags.ranks);
  if (flags.link > 0) speeds.wire = 1e9 * flags.link;
  const auto plan = make_plan(config, flags.ranks, budget_of(config, flags), speeds, !here);
  if (flags.json)
    print(json_of(plan, kind).dump() + "\n");
  else
    print_plan(plan, kind);
  finish_output();
  if (kind == nullptr) return;
  if (plan.memory_total > kind->memory)
    log_warning("the memory of " + kind->title +
                " is not enough; lower train.batch_size (train.grad_accum_steps makes up for it) "
                "or take more ranks");
  log_info("an estimate: no speed of a GPU was measured yet (docs/scale.md)");
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto* command = app.add_subcommand("plan", kPlanDescription);
  auto flags = std::make_shared<PlanFlags>();
  add_train_config_flags(*command, flags->config);
  command
      ->add_option("--gpus,--ranks", flags->ranks, "processes that train together, one per GPU [1]")
      ->type_name("N")
      ->check(between(1, 65536));
  command->add_option("--gpu", flags->device, accelerator_names() + " [h100]")->type_name("NAME");
  command->add_option("--tokens", flags->tokens, "to train on, instead of what the settings say")
      ->type_name("N")
      ->check(at_least(1));
  command->add_option("--link", flags->link, "GB/s each way of a rank's connection to the next one")
      ->type_name("X");
  command->add_flag("--json", flags->json, "print a JSON object");
  command->footer(
      "Example: rwkvx plan --config configs/169m-gpu.json --gpus 8 --gpu h100 --tokens 1e10");
  command->callback([flags] { run_plan(*flags); });
}

}  // namespace rwkvx
