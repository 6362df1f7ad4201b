#include <algorithm>
#include <map>
#include <numeric>

#include "rwkvx/base/statistics.h"
#include "rwkvx/report/plot.h"
#include "study/results.h"

namespace rwkvx {
namespace {

// Names in continuations of stories: whether those of the prompt come back.
void add_names(const StudyResults& results, const StudyConfig& study, Page& page,
               std::vector<Claim>& claims) {
  ResultTable table;
  table.columns = {"data set",
                   "variant",
                   "seeds",
                   "names per continuation",
                   "of the prompt's people, %",
                   "of another prompt's, %"};
  for (const auto& data : study.data) {
    if (!results.file().data.at(data).tells_stories()) continue;
    std::map<std::string, std::vector<double>> shares;  // by variant, of each seed
    std::vector<double> all_chances;
    for (const auto& variant : study.variants) {
      std::vector<double> counts, chances;
      for (const auto seed : results.seeds(data, {variant})) {
        const auto& scores = results.training(variant, data, seed)->at("scores");
        if (!scores.contains("names")) continue;  // of an older program
        const auto sum = [&](const char* name) {
          const auto values = values_at(scores.at("names"), {name});
          return std::accumulate(values.begin(), values.end(), 0.0);
        };
        const double known = sum("known"), all = known + sum("others");
        counts.push_back(all / static_cast<double>(scores.at("names").at("known").size()));
        if (all == 0) continue;
        shares[variant].push_back(100 * known / all);
        chances.push_back(100 * sum("chance") / all);
      }
      if (counts.empty()) continue;
      all_chances.insert(all_chances.end(), chances.begin(), chances.end());
      table.rows.push_back({data, variant, std::to_string(counts.size()), spread_text(counts, 2),
                            spread_text(shares[variant], 1), spread_text(chances, 1)});
    }
    const auto &plain = shares[kBaseline], &enhanced = shares[kEnhanced];
    if (plain.size() != enhanced.size() || plain.empty()) continue;
    std::vector<double> differences;
    for (std::size_t i = 0; i < plain.size(); ++i) differences.push_back(enhanced[i] - plain[i]);
    const auto [low, high] = std::ranges::minmax_element(differences);
    const double mean_plain = compensated_mean(plain), mean_enhanced = compensated_mean(enhanced),
                 chance = compensated_mean(all_chances);
    claims.push_back({"The right names come back (" + data + ")",
                      fixed_text(mean_plain, 1) + " % of names, enhanced " +
                          fixed_text(mean_enhanced, 1) + " %, by seed " +
                          range_text(differences, 1) + " points; by chance " +
                          fixed_text(chance, 1) + " %",
                      std::max(mean_plain, mean_enhanced) < 1.5 * chance
                          ? "cannot be told: neither model does better than chance"
                      : *low > 0  ? "more often, with every seed"
                      : *high < 0 ? "less often, with every seed"
                                  : "the seeds do not agree"});
  }
  if (table.rows.empty()) return;
  page.heading(3, "Names in stories");
  page.text(
      "Of the people whom continuations name, those whom their prompt named. Beside it the share "
      "that another story's prompt would have named, which is chance.");
  page.table(table);
}

void report_domains(const StudyResults& results, const StudyConfig& study, Page& page,
                    std::vector<Claim>& claims) {
  std::vector<std::string> names;
  std::vector<Difference> of_rouge, of_loss;
  std::vector<double> p_rouge, p_loss;
  for (const auto& data : study.data) {
    if (results.seeds(data, {kBaseline, kEnhanced}).empty()) continue;
    names.push_back(data);
    of_rouge.push_back(compare_variants(results, data, kBaseline, kEnhanced, {"scores", "rougeL"}));
    of_loss.push_back(compare_variants(results, data, kBaseline, kEnhanced, {"window_losses"}));
    p_rouge.push_back(of_rouge.back().p);
    p_loss.push_back(of_loss.back().p);
  }
  if (names.empty()) return;
  const auto holm_rouge = holm_adjusted(p_rouge), holm_loss = holm_adjusted(p_loss);
  ResultTable rouge, loss;
  rouge.columns = {
      "data set", "baseline", "enhanced",     "relative gain", "95 % over seeds and prompts",
      "by seed",  "p Holm",   "seeds needed", "answer"};
  loss.columns = {
      "data set", "baseline", "enhanced",     "difference", "95 % over seeds and windows",
      "by seed",  "p Holm",   "seeds needed", "answer"};
  std::vector<PlotBar> bars;
  std::size_t gains = 0, losses = 0, lower = 0;
  std::vector<double> relative;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto &r = of_rouge[i], &l = of_loss[i];
    const double base = r.mean_a > 0 ? 100 / r.mean_a : 0;  // to percent of the baseline
    auto seeds = of_rouge[i].by_seed;
    for (auto& value : seeds) value *= base;
    relative.push_back(base * r.difference);
    const auto answer = verdict(of_rouge[i], holm_rouge[i]);
    const auto loss_answer = verdict(of_loss[i], holm_loss[i]);
    gains += answer == "higher" ? 1 : 0;
    losses += answer == "lower" ? 1 : 0;
    lower += loss_answer == "lower" ? 1 : 0;
    rouge.rows.push_back({names[i], fixed_text(100 * r.mean_a, 2), fixed_text(100 * r.mean_b, 2),
                          signed_text(base * r.difference, 3) + " %",
                          interval_text(base * r.low, base * r.high, 1) + " %",
                          range_text(seeds, 1) + " %", p_text(holm_rouge[i]),
                          count_or_dash(r.seeds_needed), answer});
    loss.rows.push_back({names[i], fixed_text(l.mean_a, 4), fixed_text(l.mean_b, 4),
                         signed_text(l.difference, 3), interval_text(l.low, l.high, 4),
                         range_text(of_loss[i].by_seed, 4), p_text(holm_loss[i]),
                         count_or_dash(l.seeds_needed), loss_answer});
    bars.push_back({names[i], base * r.difference, base * r.low, base * r.high});
  }
  page.heading(2, "Domains");
  page.text(
      "ROUGE-L (F1, rouge-score's tokens, no stemming) of sampled continuations, means over "
      "the seeds. The gain is relative to the baseline's mean. Seeds needed: to find the gain "
      "with a chance of 80 %.");
  page.table(rouge);
  page.figure(
      "domains.svg",
      svg_intervals(
          {"ROUGE-L of enhanced over baseline", "percent, 95 % over seeds and prompts", ""}, bars),
      "Above 0 is better. Gray intervals hold 0.");
  page.heading(3, "Loss by domain");
  page.table(loss);
  const auto of = " of " + std::to_string(names.size()) + " data sets";
  claims.push_back({"ROUGE-L rises",
                    "from " + range_text(relative, 1) + " % by data set; higher on " +
                        std::to_string(gains) + of + ", lower on " + std::to_string(losses),
                    gains == names.size()       ? "yes"
                    : gains > 0                 ? "on " + std::to_string(gains) + of
                    : gains == 0 && losses == 0 ? "no difference found"
                                                : "no"});
  claims.push_back({"The loss falls in every domain", "lower on " + std::to_string(lower) + of,
                    lower == names.size() ? "yes"
                    : lower > 0           ? "on " + std::to_string(lower) + of
                                          : "no difference found"});
  add_names(results, study, page, claims);
}

}  // namespace

extern const Study kDomains{
    .name = "domains",
    .question = "does it help on every kind of text?",
    .measures =
        "ROUGE-L and loss by data set; what of the test text stands in the training text; of "
        "stories, whether a prompt's people come back",
    .report = report_domains};

}  // namespace rwkvx
