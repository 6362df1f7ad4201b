#include "cli/eval_model.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "cli/arguments.h"
#include "cli/model_flags.h"
#include "cli/settings.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/version.h"
#include "rwkvx/eval/continuation_loss.h"
#include "rwkvx/eval/predictions.h"
#include "rwkvx/eval/text_loss.h"

namespace rwkvx {

std::unique_ptr<Generator> open_generator(const EvalModelFlags& flags,
                                          const ScoringOptions& options) {
  GeneratorOptions generator;
  generator.threads = options.threads;
  generator.device = flags.device;
  generator.tokenizer = flags.tokenizer;
  generator.tokenizer_flag = "--model-tokenizer";
  generator.adapters = flags.adapters;
  return std::make_unique<Generator>(flags.model, generator);
}

std::string model_signature(const Generator& generator) {
  return "model:" + generator.weights_hash() + "|tokenizer:" + generator.tokenizer().hash() +
         "|precision:" + generator.precision() +
         (generator.device_kind() == "cpu" ? "" : "|device:cuda");
}

namespace {

nlohmann::ordered_json position_json(const PositionLoss& sums) {
  return {{"from", sums.from},
          {"to", sums.to},
          {"tokens", sums.tokens},
          {"loss", sums.loss()},
          {"standard_error", sums.standard_error()}};
}

}  // namespace

void add_eval_model_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags) {
  command.add_option("--model", flags->model, kModelHelp)->type_name("PATH");
  command
      .add_option("--model-tokenizer", flags->tokenizer,
                  "with --model: its tokenizer, as --tokenizer of generate")
      ->type_name("PATH");
  add_adapter_flags(command, flags->adapters);
  command
      .add_option("--text", flags->text,
                  "with --model: compute the loss on this .txt or .jsonl file")
      ->type_name("FILE");
  command.add_flag("--by-position", flags->by_position,
                   "with --text: also the loss after 0, 1, 2-3, 4-7, … tokens of a document");
  command
      .add_option(
          "--window", flags->window,
          "with --text: the loss by windows of N tokens, each from an empty state, in place "
          "of a state that is carried to the end of a document")
      ->type_name("N")
      ->check(between(2, 1e9));
  command
      .add_option("--stride", flags->stride,
                  "with --window: tokens from one window to the next [half of --window]")
      ->type_name("N")
      ->check(between(1, 1e9));
  command
      .add_option("--prompts", flags->prompts,
                  "with --model: JSON lines with prompts; their continuations are scored against "
                  "the references")
      ->type_name("FILE");
  command
      .add_option("--prompt-field", flags->prompt_field,
                  "with --prompts or --choices: name of the prompt field [prompt]")
      ->type_name("NAME");
  command
      .add_option("--save-predictions", flags->save_predictions,
                  "with --prompts: write the continuations as JSON lines for --pairs")
      ->type_name("FILE");
  command
      .add_option("--cache", flags->cache,
                  "with --prompts: directory that caches continuations, so that an interrupted "
                  "evaluation resumes where it stopped")
      ->type_name("DIR");
}

void add_eval_likelihood_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags) {
  command.add_flag("--reference-loss", flags->reference_loss,
                   "with --prompts: the loss of the references, each given its prompt, in place of "
                   "scores of continuations");
  command.add_flag(
      "--last-word", flags->last_word,
      "with --prompts: whether the last word of each text is what the model finds most "
      "likely, as LAMBADA asks; --prompt-field names the text [text]");
}

void add_eval_generation_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags) {
  add_setting_flags<GenerateConfig>(command, flags->generation);
}

nlohmann::ordered_json eval_model_text(const EvalModelFlags& flags, const ScoringOptions& options,
                                       const std::string& report) {
  const auto opened = open_generator(flags, options);
  auto& generator = *opened;
  DataConfig data;
  const auto& saved = generator.document();
  if (saved.contains("data"))
    data = config_from_json<DataConfig>(saved["data"], "data", OldNames::kSilent);
  const auto signature_of = [&](const std::string& state) {
    return "rwkvx:" + version() + "|task:loss|" + model_signature(generator) +
           "|text:" + hash_file(flags.text) + "|state:" + state;
  };
  if (flags.window > 0) {
    const auto stride = flags.stride > 0 ? flags.stride : (flags.window + 1) / 2;
    const auto loss = window_loss(generator, flags.text, data, flags.window, stride,
                                  options.threads, options.quiet);
    return {{"signature", signature_of("windows-" + std::to_string(flags.window) + "-stride-" +
                                       std::to_string(stride))},
            {"documents", loss.documents},
            {"windows", loss.windows},
            {"tokens", loss.tokens},
            {"bytes", loss.bytes},
            {"loss", loss.loss()},
            {"perplexity", std::exp(loss.loss())},
            {"bits_per_byte", loss.bits_per_byte()},
            {"perplexity_by_windows", std::exp(loss.loss_by_windows)}};
  }
  std::int64_t trained_length = 0;
  if (saved.contains("train"))
    trained_length =
        config_from_json<TrainingConfig>(saved["train"], "train", OldNames::kSilent).ctx_len;
  const auto loss =
      text_loss(generator, flags.text, data, options.threads, options.quiet, trained_length);
  const auto signature = signature_of("carried");
  if (!report.empty()) write_file(report, text_loss_page(loss, signature));
  nlohmann::ordered_json result = {{"signature", signature},
                                   {"documents", loss.documents},
                                   {"tokens", loss.tokens},
                                   {"bytes", loss.bytes},
                                   {"loss", loss.loss()},
                                   {"perplexity", loss.perplexity()},
                                   {"bits_per_byte", loss.bits_per_byte()},
                                   {"words", loss.words},
                                   {"bits_per_word", loss.bits_per_word()}};
  if (!flags.by_position) return result;
  result["by_position"] = nlohmann::ordered_json::array();
  for (const auto& bucket : loss.by_position)
    result["by_position"].push_back(position_json(bucket));
  if (trained_length > 0) {
    result["trained_length"] = trained_length;
    result["loss_trained"] = loss.trained.loss();
    result["loss_beyond"] =
        loss.beyond.tokens > 0 ? nlohmann::ordered_json(loss.beyond.loss()) : nullptr;
  }
  return result;
}

nlohmann::ordered_json eval_model_continuations(const EvalModelFlags& flags,
                                                const std::string& reference_field,
                                                ContinuationTokens tokens,
                                                const ScoringOptions& options) {
  const auto opened = open_generator(flags, options);
  auto& generator = *opened;
  const auto loss = flags.last_word ? last_word_loss(generator, flags.prompts, flags.prompt_field,
                                                     tokens, options.per_sample, options.quiet)
                                    : reference_loss(generator, flags.prompts,
                                                     {flags.prompt_field, reference_field}, tokens,
                                                     options.per_sample, options.quiet);
  const auto greedy = loss.greedy_share();
  nlohmann::ordered_json result = {
      {"signature", "rwkvx:" + version() +
                        "|task:" + (flags.last_word ? "last-word" : "reference-loss") + "|" +
                        model_signature(generator) + "|prompts:" + hash_file(flags.prompts) +
                        "|tokens:" + enum_name(tokens)},
      {"n", loss.items},
      {flags.last_word ? "acc" : "exact_match",
       {{"score", greedy.share}, {"low", greedy.low}, {"high", greedy.high}}}};
  if (flags.last_word) {
    result["word_perplexity"] = std::exp(loss.nats_per_continuation());
  } else {
    result["references"] = loss.continuations;
    result["nats_per_reference"] = loss.nats_per_continuation();
  }
  result["tokens"] = loss.tokens;
  result["bytes"] = loss.bytes;
  result["loss"] = loss.loss();
  result["perplexity"] = std::exp(loss.loss());
  result["bits_per_byte"] = loss.bits_per_byte();
  result["merged"] = loss.merged;
  return result;
}

ScoreSummary eval_model_prompts(const EvalModelFlags& flags, const std::string& reference_field,
                                const MetricSet& metrics, const ScoringOptions& options,
                                const std::optional<RougeTokens>& diversity) {
  const auto config = settings_from_flags<GenerateConfig>(flags.generation);
  refuse_idle_samplers(flags.generation, config);
  const auto opened = open_generator(flags, options);
  auto& generator = *opened;
  check_generation(generator, config);
  std::unique_ptr<TemporaryFolder> folder;
  std::filesystem::path predictions = flags.save_predictions;
  if (predictions.empty()) {
    folder = std::make_unique<TemporaryFolder>();
    predictions = folder->path() / "predictions.jsonl";
  }
  std::optional<ContinuationCache> cache;
  if (!flags.cache.empty())
    cache.emplace(flags.cache, model_signature(generator) + "|" + generation_signature(config));
  write_predictions(generator, flags.prompts, {flags.prompt_field, reference_field}, config,
                    predictions, options.quiet, cache ? &*cache : nullptr);
  const auto source = pairs_from_json(predictions);
  auto summary = score_pairs(*source, metrics, options);
  if (diversity)
    summary.diversity =
        prediction_diversity(*pairs_from_json(predictions), *diversity, options.skip_bad);
  summary.signature += "|" + model_signature(generator) + "|prompts:" + hash_file(flags.prompts) +
                       "|" + generation_signature(config);
  return summary;
}

}  // namespace rwkvx
