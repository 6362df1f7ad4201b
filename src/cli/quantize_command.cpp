#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/model_flags.h"
#include "cli/output.h"
#include "rwkvx/adapters/apply.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/engine/quantize.h"
#include "rwkvx/eval/text_loss.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

struct QuantizeFlags {
  std::string input, output, type = "int8", text, tokenizer;
  AdapterChoice adapters;
  std::int64_t threads = 0;
  bool json = false, quiet = false;
};

double perplexity(const fs::path& model, const QuantizeFlags& flags,
                  const AdapterChoice& adapters) {
  Generator generator(model, {.threads = flags.threads,
                              .device = "cpu",
                              .tokenizer = flags.tokenizer,
                              .adapters = adapters});
  DataConfig data;
  const auto& saved = generator.document();
  if (saved.contains("data"))
    data = config_from_json<DataConfig>(saved["data"], "data", OldNames::kSilent);
  return text_loss(generator, flags.text, data, flags.threads, flags.quiet).perplexity();
}

void run_quantize(const CLI::App& command, const QuantizeFlags& flags) {
  check_adapter_flags(command, flags.adapters);
  const auto type = find_weight_type("--type", flags.type);
  const auto source = merged_model(open_model(flags.input), flags.adapters);
  if (fs::exists(flags.output))
    throw FileError(flags.output, "already exists; choose a new directory");
  const auto tokenizer = open_tokenizer(source, flags.tokenizer);
  set_team_threads(flags.threads);
  CheckpointWriter writer(flags.output);
  const auto done =
      write_quantized(source.file, source.config, type, writer.path() / kWeightsFile, flags.quiet);
  auto document = checkpoint_document(source, *tokenizer);
  document["weights"] = {{"type", flags.type}, {"of", source.hash()}};
  write_file(writer.path() / kConfigFile, document.dump(2) + "\n");
  fs::create_directory(writer.path() / kTokenizerFolder);
  tokenizer->save(writer.path() / kTokenizerFolder);
  writer.commit();

  const auto before = static_cast<double>(source.file.stored_bytes());
  const auto after = static_cast<double>(fs::file_size(fs::path(flags.output) / kWeightsFile));
  nlohmann::ordered_json result = {{"type", flags.type},
                                   {"bytes_before", before},
                                   {"bytes_after", after},
                                   {"worst_error", done.worst_error},
                                   {"worst_tensor", done.worst_name}};
  if (type == WeightType::kInt4) result["kept_in_int8"] = done.kept_larger;
  for (const auto& one : done.matrices)
    result["matrices"].push_back({{"name", one.name},
                                  {"type", weight_type_name(one.type)},
                                  {"error", one.error},
                                  {"outlier_columns", one.outlier_columns},
                                  {"wide_weights", one.wide},
                                  {"bytes", one.bytes}});
  if (!flags.text.empty()) {
    result["perplexity_before"] = perplexity(flags.input, flags, flags.adapters);
    result["perplexity_after"] = perplexity(flags.output, flags, {});
  }
  char line[160];
  if (flags.json) {
    print(result.dump() + "\n");
  } else {
    std::snprintf(line, sizeof line, "%-32s %5s %8s %15s %12s %10s\n", "matrix", "type", "error",
                  "outlier columns", "wide weights", "bytes");
    print(line);
    for (const auto& one : done.matrices) {
      std::snprintf(line, sizeof line, "%-32s %5s %6.2f %% %15lld %12lld %10lld\n",
                    one.name.c_str(), weight_type_name(one.type).data(), 100 * one.error,
                    static_cast<long long>(one.outlier_columns), static_cast<long long>(one.wide),
                    static_cast<long long>(one.bytes));
      print(line);
    }
    print_row("weights", bytes_text(before) + " before, " + bytes_text(after) + " after");
    std::snprintf(line, sizeof line, "%.2f %% of a row, ", 100 * done.worst_error);
    if (!done.worst_name.empty()) print_row("largest error", line + done.worst_name);
    if (done.kept_larger > 0)
      print_row("kept in int8", std::to_string(done.kept_larger) + " matrices with outliers");
    if (!flags.text.empty()) {
      const double a = result["perplexity_before"], b = result["perplexity_after"];
      std::snprintf(line, sizeof line, "%.4f before, %.4f after (%+.2f %%)", a, b,
                    100 * (b / a - 1));
      print_row("perplexity", line);
    }
  }
  finish_output();
}

}  // namespace

void add_quantize_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "quantize", "Write a checkpoint with smaller weights, for generate and eval");
  auto flags = std::make_shared<QuantizeFlags>();
  command->add_option("input", flags->input, kModelHelp)->required()->type_name("IN");
  command->add_option("output", flags->output, "directory to create")->required()->type_name("OUT");
  command->add_option("--type", flags->type, std::string(kWeightTypes) + " [int8]")
      ->type_name("NAME");
  command->add_option("--tokenizer", flags->tokenizer, tokenizer_flag_help())->type_name("PATH");
  add_adapter_flags(*command, flags->adapters, "--merge");
  command->add_option("--text", flags->text, "print the perplexity on this text before and after")
      ->type_name("FILE");
  command->add_option("--threads", flags->threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(at_least(0));
  command->add_flag("--json", flags->json, "print a JSON object");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->callback([command, flags] { run_quantize(*command, *flags); });
}

}  // namespace rwkvx
