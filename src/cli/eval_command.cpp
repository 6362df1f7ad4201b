#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/eval_model.h"
#include "cli/output.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/eval/scoring.h"

namespace rwkvx {
namespace {

struct EvalFlags {
  std::string predictions, references, pairs;
  PairFields fields;
  std::string metrics = "rouge1,rouge2,rougeL,rougeLsum";
  std::string bleu_tokenizer = "13a";
  bool stemmer = false;
  ScoringOptions scoring;
  std::string per_sample;
};

std::unique_ptr<PairSource> open_pairs(const EvalFlags& flags) {
  if (!flags.pairs.empty()) {
    if (!flags.predictions.empty() || !flags.references.empty())
      throw ConfigError("--pairs", "cannot be given together with --predictions or --references");
    return pairs_from_json(flags.pairs, flags.fields);
  }
  if (flags.predictions.empty() != flags.references.empty())
    throw ConfigError(flags.predictions.empty() ? "--references" : "--predictions",
                      std::string("wanted ") +
                          (flags.predictions.empty() ? "--predictions" : "--references") +
                          " with it, found none");
  if (flags.predictions.empty())
    throw ConfigError(
        "eval",
        "wanted --predictions FILE and --references FILE, or --pairs FILE, or --model "
        "DIR with --text FILE or --prompts FILE");
  return pairs_from_texts(flags.predictions, flags.references);
}

nlohmann::ordered_json scores_json(const MetricSet& metrics, const ScoreSummary& summary) {
  auto scores = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < metrics.rouge.size(); ++i) {
    const auto& score = summary.rouge[i];
    scores[rouge_name(metrics.rouge[i])] = {
        {"precision", score.precision}, {"recall", score.recall}, {"f1", score.f1}};
  }
  if (summary.bleu)
    scores["bleu"] = {{"score", summary.bleu->score},
                      {"precisions", summary.bleu->precisions},
                      {"brevity_penalty", summary.bleu->brevity_penalty},
                      {"prediction_tokens", summary.bleu_counts.predicted_length},
                      {"reference_tokens", summary.bleu_counts.reference_length}};
  if (summary.chrf) scores["chrf"] = {{"score", *summary.chrf}};
  if (summary.chrf_words) scores["chrf++"] = {{"score", *summary.chrf_words}};
  return scores;
}

MetricSet read_metrics(const EvalFlags& flags) {
  auto metrics = parse_metrics(flags.metrics, flags.stemmer, "--metrics");
  const auto tokenizer = bleu_tokenizer(flags.bleu_tokenizer);
  if (!tokenizer)
    throw ConfigError("--bleu-tokenizer",
                      "wanted 13a, intl, char or none, found \"" + flags.bleu_tokenizer + "\"");
  metrics.bleu_tokenizer = *tokenizer;
  return metrics;
}

// For the eyes, beside the JSON: on a percent scale.
void print_table(const MetricSet& metrics, const ScoreSummary& summary) {
  std::fprintf(stderr, "%s pairs, %%\n", count_text(static_cast<std::int64_t>(summary.n)).c_str());
  if (!metrics.rouge.empty())
    std::fprintf(stderr, "%-10s %9s %9s %9s\n", "", "precision", "recall", "f1");
  for (std::size_t i = 0; i < metrics.rouge.size(); ++i) {
    const auto& score = summary.rouge[i];
    std::fprintf(stderr, "%-10s %9.2f %9.2f %9.2f\n", rouge_name(metrics.rouge[i]).c_str(),
                 100 * score.precision, 100 * score.recall, 100 * score.f1);
  }
  const auto print_score = [](const char* name, double score) {
    std::fprintf(stderr, "%-10s %29.2f\n", name, score);
  };
  if (summary.bleu) print_score("bleu", summary.bleu->score);
  if (summary.chrf) print_score("chrf", *summary.chrf);
  if (summary.chrf_words) print_score("chrf++", *summary.chrf_words);
}

// Throws ConfigError for flags that do not go together.
void check_model_flags(const EvalFlags& flags, const EvalModelFlags& model) {
  const bool texts =
      !flags.pairs.empty() || !flags.predictions.empty() || !flags.references.empty();
  if (model.model.empty()) {
    for (const auto& [name, value] :
         {std::pair{"--text", model.text}, std::pair{"--prompts", model.prompts},
          std::pair{"--save-predictions", model.save_predictions},
          std::pair{"--device", model.device == "auto" ? "" : model.device}})
      if (!value.empty()) throw ConfigError(name, "wanted --model DIR with it, found none");
    return;
  }
  if (texts)
    throw ConfigError("--model",
                      "cannot be given together with --pairs, --predictions or "
                      "--references");
  if (model.text.empty() == model.prompts.empty())
    throw ConfigError("--model", "wanted one of --text FILE and --prompts FILE with it");
}

void run_eval(const EvalFlags& flags, const EvalModelFlags& model) {
  check_model_flags(flags, model);
  auto options = flags.scoring;
  options.per_sample = flags.per_sample;
  if (!model.text.empty()) {
    print(eval_model_text(model, options).dump() + "\n");
    finish_output();
    return;
  }
  const auto metrics = read_metrics(flags);
  ScoreSummary summary;
  if (model.model.empty()) {
    const auto source = open_pairs(flags);
    options.quiet = options.quiet || ::isatty(STDERR_FILENO) == 0;
    summary = score_pairs(*source, metrics, options);
  } else {
    summary = eval_model_prompts(model, flags.fields.reference, metrics, options);
  }
  nlohmann::ordered_json result = {{"signature", summary.signature}, {"n", summary.n}};
  if (options.skip_bad) result["skipped"] = summary.skipped;
  result["scores"] = scores_json(metrics, summary);
  if (::isatty(STDOUT_FILENO) != 0) print_table(metrics, summary);
  print(result.dump() + "\n");
  finish_output();
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Score predictions against references, or a model");
  auto flags = std::make_shared<EvalFlags>();
  command->add_option("--predictions", flags->predictions, "text file, one prediction a line")
      ->type_name("FILE");
  command->add_option("--references", flags->references, "text file, one reference a line")
      ->type_name("FILE");
  command->add_option("--pairs", flags->pairs, "JSON lines with predictions and references")
      ->type_name("FILE");
  command
      ->add_option("--prediction-field", flags->fields.prediction,
                   "name of the prediction in --pairs [prediction]")
      ->type_name("NAME");
  command
      ->add_option("--reference-field", flags->fields.reference,
                   "name of the reference, a text or a list of texts [reference]")
      ->type_name("NAME");
  command
      ->add_option(
          "--metrics", flags->metrics,
          "of rouge1 to rouge9, rougeL, rougeLsum, bleu, chrf, chrf++ [" + flags->metrics + "]")
      ->type_name("LIST");
  command->add_flag("--stemmer", flags->stemmer, "ROUGE of the words' Porter stems");
  command->add_option("--bleu-tokenizer", flags->bleu_tokenizer, "13a, intl, char or none [13a]")
      ->type_name("NAME");
  command
      ->add_option("--per-sample", flags->per_sample,
                   "also write the scores of every pair, a JSON object a line")
      ->type_name("FILE");
  command->add_flag("--skip-bad", flags->scoring.skip_bad,
                    "count lines of --pairs that cannot be read, and go on");
  command->add_option("--threads", flags->scoring.threads, "processor threads; 0: one per core [0]")
      ->type_name("N")
      ->check(CLI::Range(0, 1024));
  // --quiet for the bar; the result itself is always printed.
  flags->scoring.quiet = false;
  command->add_flag("--quiet", flags->scoring.quiet, "no progress bar");
  auto model = std::make_shared<EvalModelFlags>();
  add_eval_model_flags(*command, model);
  command->callback([flags, model] { run_eval(*flags, *model); });
}

}  // namespace rwkvx
