#include "rwkvx/study/report.h"

#include <algorithm>
#include <initializer_list>

#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "study/results.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Whether a study has data of one of these kinds.
bool has_any(const StudyFile& file, std::initializer_list<Learned> kinds) {
  return std::ranges::any_of(file.data, [&](const auto& one) {
    return std::ranges::find(kinds, one.second.learned()) != kinds.end();
  });
}

void add_setting(const StudyResults& results, Page& page) {
  const auto& file = results.file();
  const auto& train = file.base.train;
  page.heading(2, "What was run");
  const auto tokens = train.max_steps * train.batch_size * train.grad_accum_steps * train.ctx_len;
  page.text("Models of " + std::to_string(file.base.model.n_layer) + " layers and " +
            std::to_string(file.base.model.n_embd) + " channels, " +
            (has_any(file, {Learned::kText, Learned::kResponses, Learned::kChoices})
                 ? "tokens of kind \"" + enum_name(file.base.tokenizer.kind) + "\", "
                 : "") +
            count_text(train.max_steps) + " steps of " +
            count_text(train.batch_size * train.grad_accum_steps) + " sequences of " +
            count_text(train.ctx_len) + " tokens: " + count_text(tokens) +
            (file.patience > 0 ? " tokens at most" : " tokens") +
            " for every variant. Each variant was trained with " +
            std::to_string(file.seeds.size()) + (file.seeds.size() == 1 ? " seed" : " seeds") +
            "; under one seed all variants start from the same values where they have the same "
            "parameters, and see the same batches in the same order. " +
            (has_any(file, {Learned::kText, Learned::kResponses})
                 ? "Continuations: up to " + count_text(file.measure.generate.max_new_tokens) +
                       " tokens, temperature " + number_text(file.measure.generate.temperature, 3) +
                       ", "
                 : "Tests: ") +
            count_text(file.measure.prompts) + " prompts a model at most.");
  std::string builds, threads;
  for (const auto& build : results.builds) builds += (builds.empty() ? "" : "; ") + build;
  for (const auto count : results.threads)
    threads += (threads.empty() ? "" : ", ") + std::to_string(count);
  page.text(std::to_string(results.done) + " of " + std::to_string(results.cells) +
            " cells are done, " + duration_text(results.seconds) + " of work in all, each on " +
            threads + " processor thread(s). Program: " + builds + ".");
  ResultTable table;
  table.columns = {"data set", "training bytes", "test bytes", "lines in both",
                   "spans of 8 words in both"};
  for (const auto& [name, config] : file.data) {
    const auto about = results.about(name);
    if (!about) continue;
    const auto share = [&](std::int64_t count, std::int64_t total) {
      const double percent =
          total > 0 ? 100 * static_cast<double>(count) / static_cast<double>(total) : 0;
      return count_text(count) + " of " + count_text(total) + " (" + fixed_text(percent, 2) + " %)";
    };
    const auto& o = about->overlap;
    if (o.lines + o.spans == 0) continue;  // ids
    table.rows.push_back({name, count_text(about->train_bytes), count_text(about->test_bytes),
                          share(o.lines_in_training, o.lines),
                          share(o.spans_in_training, o.spans)});
  }
  if (table.rows.empty()) return;
  page.table(table);
  page.text(
      "Training and test text are different documents, or different parts of one. \"In both\" "
      "counts what of the test text stands in the training text word for word: lines of 40 "
      "bytes or more, and spans of eight words.");
}

void add_repetition(const StudyResults& results, const StudyConfig& study, Page& page,
                    std::vector<Claim>& claims) {
  const auto& variant = study.variants.back();
  const auto& data = study.data.front();
  const auto seed = results.file().seeds.front();
  const auto *one = results.training(variant, data, seed),
             *two = results.training(variant, data, seed, 1);
  if (one == nullptr || two == nullptr) return;
  const bool losses = one->at("log").at("losses") == two->at("log").at("losses");
  const bool weights = one->at("weights") == two->at("weights");
  page.heading(2, "The same again");
  const std::string what = "The training of \"" + variant + "\" on " + data + " with seed " +
                           std::to_string(seed) + " was run twice. ";
  const auto steps = std::to_string(one->at("log").at("losses").size());
  page.text(what +
            (losses ? "All " + steps + " logged losses are equal to the last digit"
                    : "The logged losses DIFFER") +
            (weights ? ", and so are the weights, byte for byte." : ", and the weights DIFFER."));
  claims.push_back({"The study can be repeated", steps + " logged losses and the final weights",
                    losses && weights ? "equal" : "not equal"});
}

// What a training's scores say: a mean in place of a list of numbers, one of each prompt or
// question.
ordered_json mean_scores(const json& scores) {
  if (scores.is_object()) {
    ordered_json all = ordered_json::object();
    for (const auto& [name, value] : scores.items()) all[name] = mean_scores(value);
    return all;
  }
  const bool numbers = scores.is_array() && !scores.empty() &&
                       std::ranges::all_of(scores, [](const json& one) { return one.is_number(); });
  return numbers ? ordered_json(compensated_mean(scores.get<std::vector<double>>()))
                 : ordered_json(scores);
}

// The report for programs: every training and every claim.
void write_results(const StudyResults& results, const std::vector<Claim>& claims,
                   const std::filesystem::path& path) {
  const auto& file = results.file();
  auto trainings = ordered_json::array(), answers = ordered_json::array();
  for (const auto& [data, source] : file.data)
    for (const auto& [variant, config] : file.variants)
      for (const auto seed : results.seeds(data, {variant})) {
        const auto& found = *results.training(variant, data, seed);
        ordered_json one = {{"data", data}, {"variant", variant}, {"seed", seed}};
        for (const auto* name :
             {"parameters", "steps", "best_step", "tokens", "valid_loss", "changes"})
          if (found.contains(name) && !found[name].is_null()) one[name] = found[name];
        if (found.contains("window_losses")) one["test_loss"] = mean_scores(found["window_losses"]);
        one["scores"] = mean_scores(found.at("scores"));
        trainings.push_back(one);
      }
  for (const auto& one : claims) {
    answers.push_back({{"claim", one.claim}, {"found", one.found}, {"answer", one.answer}});
    if (!one.numbers.is_null()) answers.back()["numbers"] = one.numbers;
  }
  write_file(path, ordered_json{{"cells", results.cells},
                                {"done", results.done},
                                {"seconds", results.seconds},
                                {"builds", results.builds},
                                {"trainings", trainings},
                                {"claims", answers}}
                           .dump(2) +
                       "\n");
}

}  // namespace

void write_study_report(const std::filesystem::path& study, const std::filesystem::path& output,
                        const std::string& name) {
  const StudyResults results(study);
  std::vector<Claim> claims;
  Page sections("");
  add_setting(results, sections);
  for (const auto* one : studies())
    if (const auto* config = find_study(results.file(), one->name))
      one->report(results, *config, sections, claims);
  for (const auto* one : studies())
    if (const auto* config = find_study(results.file(), one->name); config && one->repeats)
      add_repetition(results, *config, sections, claims);

  Page page("The claims of arXiv 2502.15485, tried");
  page.text(
      "arXiv 2502.15485 (X. Pan) puts a position-aware convolutional shift and a neurally "
      "gated routing in front of RWKV and claims 96.5 % more ROUGE-L at 2.95 % more latency, "
      "with linear complexity kept and a gate that attends to syntactic borders. Its code, "
      "data and sizes are not public. What follows is a model inspired by it, not a "
      "reproduction: every number below was measured on the models that this report names. "
      "It was written by the command rwkvx study report from the result files.");
  if (!claims.empty()) {
    page.heading(2, "In short");
    ResultTable table;
    table.columns = {"question", "found here", "answer"};
    table.texts = true;
    for (const auto& one : claims) table.rows.push_back({one.claim, one.found, one.answer});
    page.table(table);
    page.text(
        "\"No difference found\" means that the test gives p ≥ 0.05 after Holm's "
        "adjustment, or that the seeds do not agree on the sign. It does not prove that there "
        "is none.");
  }
  page.append(sections);
  page.heading(2, "What could not be tested at this scale");
  page.text(
      std::string("The paper's own models, data and decoding are not known, so its 96.5 % and "
                  "2.95 % can be neither confirmed nor refuted. Models of this size and budget say "
                  "little about ones a thousand times larger. Few seeds show large differences "
                  "between trainings only; the tests are over seeds and over windows or prompts of "
                  "one test text, and speak for texts like it.") +
      (has_any(results.file(), {Learned::kText})
           ? " ROUGE-L of free continuations measures mostly chance overlap of words here. Borders "
             "of phrases and sentences are rules of thumb in natural text and exact in the "
             "synthetic stories; entities are the people of these stories alone."
           : ""));
  page.write(output, name);
  write_results(results, claims, output / name / "results.json");
}

}  // namespace rwkvx
