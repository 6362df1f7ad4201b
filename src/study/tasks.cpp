#include <algorithm>
#include <map>

#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/metrics/seed_test.h"
#include "rwkvx/report/plot.h"
#include "study/answers.h"
#include "study/results.h"

namespace rwkvx {
namespace {

using nlohmann::json;

// One way of scoring: where a result has a number per line, and how it is shown.
struct Scale {
  std::string title;
  std::vector<std::string> path;
  double factor;  // of what is shown
  bool higher_is_better;
};
std::vector<Scale> scales_of(Learned learned) {
  switch (learned) {
    case Learned::kChoices:
      return {{"accuracy, %", {"scores", "choices", "accuracy"}, 100, true}};
    case Learned::kRecall:
      return {{"accuracy, %", {"scores", "recall", "accuracy"}, 100, true}};
    default:
      return {{"ROUGE-L", {"scores", "greedy", "rougeL"}, 100, true},
              {"ROUGE-1", {"scores", "greedy", "rouge1"}, 100, true},
              {"ROUGE-2", {"scores", "greedy", "rouge2"}, 100, true},
              {"ROUGE-L, sampled", {"scores", "sampled", "rougeL"}, 100, true},
              {"loss of the reference", {"scores", "reference", "loss"}, 1, false}};
  }
}

SeedScores scores_by_seed(const StudyResults& results, const std::string& data,
                          const std::string& variant, const std::vector<std::int64_t>& seeds,
                          const Scale& scale) {
  SeedScores all;
  for (const auto seed : seeds) {
    all.push_back(values_at(*results.training(variant, data, seed), scale.path));
    for (auto& value : all.back()) value *= scale.factor;
  }
  return all;
}

std::vector<double> means(const SeedScores& scores) {
  std::vector<double> all;
  for (const auto& one : scores) all.push_back(compensated_mean(one));
  return all;
}

const TrainConfig& settings_of(const StudyFile& file, const std::string& variant) {
  for (const auto& [name, config] : file.variants)
    if (name == variant) return config;
  return file.base;
}

// The variant that another is compared with: the study's first one with the same core.
std::string plain_one(const StudyFile& file, const StudyConfig& study, const std::string& variant) {
  const auto& core = settings_of(file, variant).model.core;
  for (const auto& one : study.variants)
    if (settings_of(file, one).model.core == core) return one;
  return variant;
}

void add_scores(const StudyResults& results, const StudyConfig& study, const std::string& data,
                Page& page) {
  const auto& source = results.file().data.at(data);
  const auto scales = scales_of(source.learned());
  const bool texts = source.learned() == Learned::kResponses;
  ResultTable table;
  table.columns = {"model", "parameters", "seeds", "best step", "validation loss"};
  for (const auto& scale : scales) table.columns.push_back(scale.title);
  if (texts) table.columns.emplace_back("BLEU");
  for (const auto& variant : study.variants) {
    const auto seeds = results.seeds(data, {variant});
    if (seeds.empty()) continue;
    std::vector<double> steps, losses, bleu;
    for (const auto seed : seeds) {
      const auto& one = *results.training(variant, data, seed);
      steps.push_back(one.at("best_step"));
      losses.push_back(one.at("valid_loss"));
      if (texts) bleu.push_back(one.at("scores").at("greedy").at("corpus_bleu"));
    }
    std::vector<std::string> row = {
        variant, count_text(results.training(variant, data, seeds.front())->at("parameters")),
        std::to_string(seeds.size()), range_text(steps, 0), spread_text(losses, 4)};
    for (const auto& scale : scales)
      row.push_back(spread_text(means(scores_by_seed(results, data, variant, seeds, scale)),
                                scale.factor > 1 ? 2 : 4));
    if (texts) row.push_back(spread_text(bleu, 2));
    table.rows.push_back(row);
  }
  if (const auto about = results.about(data)) {
    const json without = answers_without_model(source, *about);
    for (const auto& [name, found] : without.items()) {
      std::vector<std::string> row = {name, "", "", "", ""};
      for (const auto& scale : scales) {
        const json* at = &found;  // without "scores", which only trainings have
        for (std::size_t i = 1; i < scale.path.size() && at != nullptr; ++i)
          at = at->contains(scale.path[i]) ? &at->at(scale.path[i]) : nullptr;
        row.push_back(
            at == nullptr
                ? ""
                : fixed_text(scale.factor * compensated_mean(at->get<std::vector<double>>()), 2));
      }
      if (texts) row.push_back(fixed_text(found.at("greedy").at("corpus_bleu"), 2));
      table.rows.push_back(row);
    }
  }
  page.table(table);
}

// A first score of a variant beside the plain model's.
struct Compared {
  std::string data, score, variant, plain;
  Difference difference;
  double percent = 0;  // of the plain model's score
};

void add_comparisons(const StudyResults& results, const StudyConfig& study, const std::string& data,
                     Page& page, std::vector<Compared>& all) {
  const auto scales = scales_of(results.file().data.at(data).learned());
  ResultTable table;
  table.columns = {"model",          "against",  "score",
                   "difference",     "95 %",     "p, bootstrap",
                   "p, permutation", "relative", "smallest difference to be seen",
                   "seeds needed"};
  for (const auto& variant : study.variants) {
    const auto plain = plain_one(results.file(), study, variant);
    const auto seeds = results.seeds(data, {plain, variant});
    if (plain == variant || seeds.size() < 2) continue;
    for (const auto& scale : scales) {
      const auto found = compare_over_seeds(scores_by_seed(results, data, plain, seeds, scale),
                                            scores_by_seed(results, data, variant, seeds, scale),
                                            results.resamples());
      const auto& over_seeds = *found.over_seeds;
      const int digits = scale.factor > 1 ? 2 : 4;
      const double percent = found.mean_a == 0 ? 0 : 100 / found.mean_a;
      table.rows.push_back(
          {variant, plain, scale.title, signed_text(found.difference, 3),
           interval_text(found.low, found.high, digits), p_text(found.p),
           p_text(over_seeds.p_permutation), signed_text(percent * found.difference, 3) + " %",
           fixed_text(detectable_difference(over_seeds, over_seeds.seeds_a), digits),
           count_or_dash(found.seeds_needed)});
      if (&scale == &scales.front())
        all.push_back({data, scale.title, variant, plain, found, percent});
    }
  }
  if (!table.rows.empty()) page.table(table);
}

void add_claims(const std::vector<Compared>& all, std::vector<Claim>& claims) {
  std::vector<double> ps;
  for (const auto& one : all) ps.push_back(one.difference.p);
  const auto adjusted = holm_adjusted(ps);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& [data, score, variant, plain, difference, percent] = all[i];
    const auto answer = verdict(difference, adjusted[i]);
    claims.push_back({data + ", " + score + ": " + variant + " is above " + plain,
                      signed_text(percent * difference.difference, 3) + " %, 95 % " +
                          interval_text(percent * difference.low, percent * difference.high, 1) +
                          " %, " + std::to_string(difference.by_seed.size()) + " seeds, p Holm " +
                          p_text(adjusted[i]),
                      answer == "higher"  ? "yes"
                      : answer == "lower" ? "no: it is lower"
                                          : answer,
                      difference_numbers(difference)});
    claims.back().numbers["percent_of_plain"] = percent * difference.difference;
    claims.back().numbers["p_holm"] = adjusted[i];
  }
}

// Accuracy of recall by a number that its counts are of, and the drawing.
struct RecallScale {
  const char *list, *name, *file, *axis, *title;
};
constexpr RecallScale kRecallScales[] = {
    {"by_pairs", "pairs", "recall-pairs-", "pairs of a sequence", "Recall by number of pairs, "},
    {"by_distance", "from", "recall-", "tokens between a key and its first place, from",
     "Recall by distance, "}};

void add_recall(const StudyResults& results, const StudyConfig& study, const std::string& data,
                Page& page) {
  for (const auto& scale : kRecallScales) {
    ResultTable table;
    table.columns = {scale.axis};
    std::vector<PlotLine> lines;
    std::map<double, std::vector<std::string>> rows;
    for (const auto& variant : study.variants) {
      std::map<double, std::vector<double>> shares;  // of each seed
      for (const auto seed : results.seeds(data, {variant}))
        for (const auto& one :
             results.training(variant, data, seed)->at("scores").at("recall").at(scale.list))
          shares[one.at(scale.name)].push_back(100 * one.at("right").get<double>() /
                                               one.at("asked").get<double>());
      if (shares.empty()) continue;
      table.columns.push_back(variant);
      PlotLine line;
      line.name = variant;
      for (const auto& [value, all] : shares) {
        line.points.push_back({value, compensated_mean(all)});
        rows[value].push_back(spread_text(all, 1));
      }
      lines.push_back(line);
    }
    if (rows.size() < 2) continue;  // nothing to see
    for (auto& [value, cells] : rows) {
      cells.insert(cells.begin(), count_text(static_cast<std::int64_t>(value)));
      table.rows.push_back(cells);
    }
    page.table(table);
    page.figure(scale.file + data + ".svg",
                svg_lines({scale.title + data, scale.axis, "% right", true}, lines),
                "Means over the seeds.");
  }
}

void report_tasks(const StudyResults& results, const StudyConfig& study, Page& page,
                  std::vector<Claim>& claims) {
  std::vector<Compared> compared;
  bool any = false;
  Page sections("");
  for (const auto& data : study.data) {
    if (std::ranges::all_of(study.variants, [&](const auto& variant) {
          return results.seeds(data, {variant}).empty();
        }))
      continue;
    any = true;
    sections.heading(3, data);
    add_scores(results, study, data, sections);
    add_comparisons(results, study, data, sections, compared);
    if (results.file().data.at(data).learned() == Learned::kRecall)
      add_recall(results, study, data, sections);
  }
  if (!any) return;
  add_claims(compared, claims);
  const auto& file = results.file();
  page.heading(2, "Tasks that are learned");
  page.text("Trained on prompts with the loss on their answers alone, for the steps above" +
            (file.patience == 0 ? std::string("; the checkpoint with the lowest validation loss "
                                              "is measured.")
                                : " at most: until " + std::to_string(file.patience) +
                                      " validations brought no lower loss. The checkpoint with "
                                      "the lowest is measured.") +
            (file.search.candidates.empty()
                 ? ""
                 : " Settings were chosen for each variant and data set by a search of equal "
                   "budget with a seed of its own."));
  page.text(
      "Scores: mean ± standard deviation over the seeds. Differences: the seeds and the prompts "
      "are both drawn again (hierarchical bootstrap, corrected for few seeds), and beside it seeds "
      "are dealt out at random (permutation); with few seeds the latter's p cannot be small. "
      "\"Smallest difference to be seen\": found with a chance of 80 % with as many seeds; \"seeds "
      "needed\": to find the difference that was measured, – where 10,000 are too few.");
  std::vector<PlotBar> bars;
  for (const auto& one : compared)
    bars.push_back({one.data + ", " + one.variant, one.percent * one.difference.difference,
                    one.percent * one.difference.low, one.percent * one.difference.high});
  if (bars.size() > 1)
    page.figure(
        "tasks.svg",
        svg_intervals({"First score over that of the plain model", "percent, 95 %", ""}, bars),
        "Gray intervals hold 0.");
  page.append(sections);
}

}  // namespace

extern const Study kTasks{
    .name = "tasks",
    .question = "does it help where a model has learned its task?",
    .measures =
        "ROUGE, BLEU and loss of responses, accuracy of choices and of recall, beside what needs "
        "no model; differences by seeds and prompts, and which could have been seen",
    .answers = true,
    .report = report_tasks};

}  // namespace rwkvx
