#include "cli/eval_model.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/settings.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/version.h"
#include "rwkvx/eval/predictions.h"
#include "rwkvx/eval/text_loss.h"
#include "rwkvx/model/checkpoint_config.h"

namespace rwkvx {
namespace {

std::string model_signature(const Generator& generator) {
  return "model:" + generator.weights_hash() + "|tokenizer:" + generator.tokenizer().hash() +
         "|precision:" + generator.precision() +
         (generator.device_kind() == "cpu" ? "" : "|device:cuda");
}

}  // namespace

void add_eval_model_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags) {
  command.add_option("--model", flags->model, "checkpoint or run folder to evaluate")
      ->type_name("DIR");
  command.add_option("--text", flags->text, "with --model: loss on this .txt or .jsonl file")
      ->type_name("FILE");
  command
      .add_option("--prompts", flags->prompts,
                  "with --model: JSON lines with prompts to continue and references")
      ->type_name("FILE");
  command
      .add_option("--prompt-field", flags->prompt_field, "name of the prompt in --prompts [prompt]")
      ->type_name("NAME");
  command
      .add_option("--save-predictions", flags->save_predictions,
                  "with --prompts: keep the continuations, JSON lines for --pairs")
      ->type_name("FILE");
  command.add_option("--device", flags->device, "with --model: auto, cpu or cuda:N [auto]")
      ->type_name("NAME");
  const auto given = std::shared_ptr<nlohmann::json>(flags, &flags->generation);
  add_setting_flags<GenerateConfig>(command, given);
}

nlohmann::ordered_json eval_model_text(const EvalModelFlags& flags, const ScoringOptions& options) {
  Generator generator(flags.model, options.threads, flags.device);
  DataConfig data;
  const auto saved = read_checkpoint_config(generator.path()).document;
  if (saved.contains("data")) data = config_from_json<DataConfig>(saved["data"], "data");
  const auto loss = text_loss(generator, flags.text, data, options.threads, options.quiet);
  return {{"signature", "rwkvx:" + version() + "|task:loss|" + model_signature(generator) +
                            "|text:" + hash_file(flags.text) + "|state:carried"},
          {"documents", loss.documents},
          {"tokens", loss.tokens},
          {"bytes", loss.bytes},
          {"loss", loss.loss()},
          {"perplexity", loss.perplexity()},
          {"bits_per_byte", loss.bits_per_byte()}};
}

ScoreSummary eval_model_prompts(const EvalModelFlags& flags, const std::string& reference_field,
                                const MetricSet& metrics, const ScoringOptions& options) {
  const auto config = settings_from_flags<GenerateConfig>(flags.generation);
  Generator generator(flags.model, options.threads, flags.device);
  std::unique_ptr<TemporaryFolder> folder;
  std::filesystem::path predictions = flags.save_predictions;
  if (predictions.empty()) {
    folder = std::make_unique<TemporaryFolder>();
    predictions = folder->path() / "predictions.jsonl";
  }
  write_predictions(generator, flags.prompts, {flags.prompt_field, reference_field}, config,
                    predictions, options.quiet);
  const auto source = pairs_from_json(predictions);
  auto summary = score_pairs(*source, metrics, options);
  summary.signature += "|" + model_signature(generator) + "|prompts:" + hash_file(flags.prompts) +
                       "|" + generation_signature(config);
  return summary;
}

}  // namespace rwkvx
