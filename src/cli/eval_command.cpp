#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/eval_compare.h"
#include "cli/eval_model.h"
#include "cli/output.h"
#include "cli/outputs.h"
#include "cli/settings.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/input.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/eval/comparison_report.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/eval/scoring.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {
namespace {

struct EvalFlags {
  std::string predictions, references, pairs;
  PairFields fields;
  std::string metrics = "rouge1,rouge2,rougeL,rougeLsum";
  std::string bleu_tokenizer = "13a", tokenizer = "google", spm_model, several = "best";
  bool stemmer = false;
  ScoringOptions scoring;
  std::string per_sample;
  bool diversity = false;
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

void set_rouge_tokens(const EvalFlags& flags, MetricSet& metrics) {
  const auto kind = rouge_tokenization(flags.tokenizer);
  if (!kind)
    throw ConfigError("--tokenizer",
                      "wanted google, unicode, char or spm, found \"" + flags.tokenizer + "\"");
  metrics.tokens.kind = *kind;
  if ((*kind == RougeTokenization::kGiven) != !flags.spm_model.empty())
    throw ConfigError("--spm-model", "wanted together with --tokenizer spm, and only then");
  if (*kind == RougeTokenization::kGiven) {
    const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(flags.spm_model);
    metrics.given_name = tokenizer->hash();
    metrics.tokens.given = [tokenizer](std::string_view line, std::vector<std::int32_t>& ids) {
      ids = tokenizer->encode(line);
    };
  }
  if (flags.several != "best" && flags.several != "jackknife")
    throw ConfigError("--several", "wanted best or jackknife, found \"" + flags.several + "\"");
  if (flags.several == "jackknife") metrics.several = RougeReferences::kJackknife;
}

MetricSet read_metrics(const EvalFlags& flags) {
  auto metrics = parse_metrics(flags.metrics, flags.stemmer, "--metrics");
  const auto tokenizer = bleu_tokenizer(flags.bleu_tokenizer);
  if (!tokenizer)
    throw ConfigError("--bleu-tokenizer",
                      "wanted 13a, intl, char or none, found \"" + flags.bleu_tokenizer + "\"");
  metrics.bleu_tokenizer = *tokenizer;
  set_rouge_tokens(flags, metrics);
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

nlohmann::ordered_json diversity_json(const Diversity& diversity) {
  nlohmann::ordered_json out = {{"texts", diversity.texts}, {"tokens", diversity.tokens}};
  for (std::size_t n = 0; n < diversity.distinct.size(); ++n)
    out["distinct" + std::to_string(n + 1)] = diversity.distinct[n];
  out["repetition"] = diversity.repetition;
  out["self_bleu"] = diversity.self_bleu;
  return out;
}

// Throws ConfigError for flags that do not go together.
void check_model_flags(const EvalFlags& flags, const EvalModelFlags& model) {
  const bool texts =
      !flags.pairs.empty() || !flags.predictions.empty() || !flags.references.empty();
  if (model.model.empty()) {
    for (const auto& [name, value] :
         {std::pair{"--text", model.text}, std::pair{"--prompts", model.prompts},
          std::pair{"--save-predictions", model.save_predictions},
          std::pair{"--cache", model.cache},
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

void check_diversity(const EvalFlags& flags, const EvalModelFlags& model,
                     const EvalCompareFlags& compare) {
  if (flags.diversity && (!model.text.empty() || !compare.compare.empty() ||
                          !compare.report.empty() || compare.format != "json"))
    throw ConfigError("--diversity",
                      "goes with --pairs, --predictions or --prompts and --format json alone");
}

// Throws ConfigError for flags that were given and change nothing.
void refuse_idle_flags(const CLI::App& command, const EvalFlags& flags, const EvalModelFlags& model,
                       const EvalCompareFlags& compare) {
  if (model.prompts.empty()) {
    const std::string reason = "needs --prompts";
    refuse_idle(command, {"--prompt-field", "--save-predictions", "--cache"}, reason);
    for_each_field<GenerateConfig>(
        [&](const auto& field) { refuse_idle(command, {flag_name(field.name).c_str()}, reason); });
  }
  if (model.text.empty()) refuse_idle(command, {"--by-position"}, "needs --text");
  if (model.model.empty()) refuse_idle(command, {"--device"}, "needs --model");
  if (!model.text.empty())
    refuse_idle(
        command,
        {"--metrics", "--stemmer", "--tokenizer", "--spm-model", "--several", "--bleu-tokenizer",
         "--per-sample", "--skip-bad", "--format", "--prediction-field", "--reference-field"},
        "is of scores, not of --text");
  const bool lines = !flags.pairs.empty() || !compare.compare.empty();
  if (!lines) refuse_idle(command, {"--skip-bad", "--prediction-field"}, "needs --pairs");
  if (!lines && model.prompts.empty())
    refuse_idle(command, {"--reference-field"}, "needs --pairs or --prompts");
  if (compare.compare.empty() && (compare.report.empty() || flags.pairs.empty()))
    refuse_idle(command, {"--length-of", "--resamples", "--test-seed"},
                "needs --compare, or --pairs with --report");
}

void refuse_idle_metrics(const CLI::App& command, const MetricSet& metrics) {
  if (metrics.rouge.empty())
    refuse_idle(command, {"--stemmer", "--tokenizer", "--spm-model", "--several"},
                "is of ROUGE, which --metrics leaves out");
  if (!metrics.bleu)
    refuse_idle(command, {"--bleu-tokenizer"}, "is of BLEU, which --metrics leaves out");
}

// Outputs are checked before any work.
void check_outputs(const EvalFlags& flags, const EvalModelFlags& model,
                   const EvalCompareFlags& compare) {
  const std::vector<std::pair<std::string, std::filesystem::path>> outputs = {
      {"--per-sample", flags.per_sample},
      {"--report", compare.report},
      {"--save-predictions", model.save_predictions}};
  for (const auto& [option, path] : outputs) {
    if (path.empty()) continue;
    refuse_same_file(option, path,
                     {{"--predictions", flags.predictions},
                      {"--references", flags.references},
                      {"--pairs", flags.pairs},
                      {"--spm-model", flags.spm_model},
                      {"--text", model.text},
                      {"--prompts", model.prompts}});
    for (const auto& file : compare.compare) refuse_same_file(option, path, {{"--compare", file}});
    if (!model.model.empty()) refuse_model_file(option, path, model.model);
    check_writable(path);
  }
  refuse_same_outputs(outputs);
}

// The inputs as files that can be read any number of times: pipes and "-" are spooled, and their
// names become those of the copies, which live as long as the result.
std::vector<Input> take_inputs(EvalFlags& flags, EvalModelFlags& model, EvalCompareFlags& compare) {
  std::vector<Input> inputs;
  const auto take = [&](std::string& name) {
    if (name.empty()) return;
    inputs.emplace_back(name);
    name = inputs.back().path().string();
  };
  for (auto* name :
       {&flags.predictions, &flags.references, &flags.pairs, &model.text, &model.prompts})
    take(*name);
  for (auto& name : compare.compare) take(name);
  return inputs;
}

// Throws ConfigError where two inputs are standard input, which can be read once.
void check_inputs(const EvalFlags& flags, const EvalModelFlags& model,
                  const EvalCompareFlags& compare) {
  auto inputs = compare.compare;
  inputs.insert(inputs.end(),
                {flags.predictions, flags.references, flags.pairs, model.text, model.prompts});
  if (std::count(inputs.begin(), inputs.end(), "-") > 1)
    throw ConfigError("-", "standard input can be given once only");
}

// The files that are scored sample by sample: of --compare, or of --pairs with --report.
std::vector<std::string> files_to_compare(const EvalFlags& flags, const EvalModelFlags& model,
                                          const EvalCompareFlags& compare) {
  check_eval_compare_flags(compare);
  const bool others =
      !flags.predictions.empty() || !flags.references.empty() || !model.model.empty();
  if (!compare.compare.empty() && (others || !flags.pairs.empty() || !flags.per_sample.empty()))
    throw ConfigError("--compare",
                      "cannot be given together with --pairs, --predictions, --references, "
                      "--per-sample or --model");
  if (!compare.compare.empty() || compare.report.empty() || !model.text.empty())
    return compare.compare;
  if (others || flags.pairs.empty())
    throw ConfigError("--report",
                      "wanted --pairs, --compare or --text with it (a model's continuations: "
                      "--save-predictions writes such a file)");
  return {flags.pairs};
}

void run_eval(const CLI::App& command, EvalFlags& flags, EvalModelFlags& model,
              EvalCompareFlags& compare) {
  files_to_compare(flags, model, compare);
  check_model_flags(flags, model);
  refuse_idle_flags(command, flags, model, compare);
  check_inputs(flags, model, compare);
  check_outputs(flags, model, compare);
  const auto inputs = take_inputs(flags, model, compare);
  const auto compared = files_to_compare(flags, model, compare);
  check_diversity(flags, model, compare);
  auto options = flags.scoring;
  options.per_sample = flags.per_sample;
  if (!model.text.empty()) {
    auto loss = model;
    loss.report = compare.report;
    print(eval_model_text(loss, options).dump() + "\n");
    finish_output();
    return;
  }
  const auto metrics = read_metrics(flags);
  refuse_idle_metrics(command, metrics);
  if (!compared.empty()) {
    options.quiet = options.quiet || ::isatty(STDERR_FILENO) == 0;
    print(eval_compare(compare, compared, flags.fields, metrics, options));
    finish_output();
    return;
  }
  ScoreSummary summary;
  if (model.model.empty()) {
    const auto source = open_pairs(flags);
    options.quiet = options.quiet || ::isatty(STDERR_FILENO) == 0;
    summary = score_pairs(*source, metrics, options);
    if (flags.diversity)
      summary.diversity = prediction_diversity(*open_pairs(flags), metrics, options.skip_bad);
  } else {
    summary = eval_model_prompts(model, flags.fields.reference, metrics, options, flags.diversity);
  }
  if (compare.format != "json") {
    print(format_table(summary_table(metrics, summary), *table_format(compare.format)));
    finish_output();
    return;
  }
  nlohmann::ordered_json result = {{"signature", summary.signature}, {"n", summary.n}};
  if (options.skip_bad) result["skipped"] = summary.skipped;
  result["scores"] = scores_json(metrics, summary);
  if (summary.diversity) result["diversity"] = diversity_json(*summary.diversity);
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
      ->add_option("--metrics", flags->metrics,
                   "of rouge1, rouge2, …, rougeL, rougeLsum, rougeW, rougeS4, rougeSU4, bleu, "
                   "chrf, chrf++ [" +
                       flags->metrics + "]")
      ->type_name("LIST");
  command->add_flag("--stemmer", flags->stemmer, "ROUGE of the words' Porter stems");
  command
      ->add_option("--tokenizer", flags->tokenizer,
                   "of ROUGE: google (a-z and 0-9), unicode (words of every script), char or spm "
                   "[google]")
      ->type_name("NAME");
  command->add_option("--spm-model", flags->spm_model, "with --tokenizer spm: the model's file")
      ->type_name("FILE");
  command
      ->add_option("--several", flags->several,
                   "ROUGE of several references: best or jackknife [best]")
      ->type_name("NAME");
  command->add_option("--bleu-tokenizer", flags->bleu_tokenizer, "13a, intl, char or none [13a]")
      ->type_name("NAME");
  command
      ->add_option("--per-sample", flags->per_sample,
                   "also write the scores of every pair, a JSON object a line")
      ->type_name("FILE");
  command->add_flag("--diversity", flags->diversity,
                    "also how much the predictions repeat themselves: distinct n-grams, "
                    "repeated 4-grams, self-BLEU");
  command->add_flag("--skip-bad", flags->scoring.skip_bad,
                    "count lines of --pairs that cannot be read, and go on");
  command->add_option("--threads", flags->scoring.threads, "processor threads; 0: one per core [0]")
      ->type_name("N")
      ->check(between(0, 1024));
  // --quiet for the bar; the result itself is always printed.
  flags->scoring.quiet = false;
  command->add_flag("--quiet", flags->scoring.quiet, "no progress bar");
  auto model = std::make_shared<EvalModelFlags>();
  add_eval_model_flags(*command, model);
  auto compare = std::make_shared<EvalCompareFlags>();
  add_eval_compare_flags(*command, *compare);
  command->callback(
      [command, flags, model, compare] { run_eval(*command, *flags, *model, *compare); });
}

}  // namespace rwkvx
