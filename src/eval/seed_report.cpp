#include "rwkvx/eval/seed_report.h"

#include <algorithm>

#include "eval/system_scores.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/report/html.h"
#include "rwkvx/report/plot.h"

namespace rwkvx {
SeedReport compare_seed_systems(const std::vector<SeedSystem>& systems, const PairFields& fields,
                                const MetricSet& metrics, const SeedOptions& options,
                                const ScoringOptions& scoring) {
  SeedReport result;
  result.systems = systems;
  const SampleScorer scorer(systems.front().files.front(), fields, metrics, scoring);
  result.columns = scorer.columns();
  std::vector<std::vector<SeedScores>> scores;  // by system and column
  std::optional<SystemScores> first;
  for (const auto& system : systems) {
    auto& of_system = scores.emplace_back(result.columns.size());
    for (const auto& file : system.files) {
      auto one = scorer.score(file);
      if (first) check_same_samples(*first, one);
      for (std::size_t i = 0; i < one.values.size(); ++i)
        of_system[i].push_back(first ? std::move(one.values[i]) : one.values[i]);
      if (!first) first = std::move(one);
    }
    auto& means = result.means.emplace_back();
    for (const auto& column : of_system) {
      auto& by_seed = means.emplace_back();
      for (const auto& values : column) by_seed.push_back(compensated_mean(values));
    }
  }
  result.samples = first->lines.size();
  std::vector<double> p_values;
  for (std::size_t k = 1; k < systems.size(); ++k)
    for (std::size_t i = 0; i < result.columns.size(); ++i) {
      auto& one = result.differences.emplace_back();
      one.column = i;
      one.system = k;
      one.seeds = compare_seeds(scores.front()[i], scores[k][i], options.paired,
                                options.compare.resamples, options.compare.seed);
      one.needed = seeds_needed(one.seeds, one.seeds.difference);
      if (options.detect)
        one.needed_to_detect = seeds_needed(one.seeds, *options.detect / result.columns[i].percent);
      one.detectable =
          detectable_difference(one.seeds, std::min(one.seeds.seeds_a, one.seeds.seeds_b));
      p_values.push_back(one.seeds.p_bootstrap);
    }
  const auto adjusted = holm_adjusted(p_values);
  for (std::size_t i = 0; i < adjusted.size(); ++i) result.differences[i].p_holm = adjusted[i];
  result.signature = first->summary.signature + "|interval:95,hierarchical-bootstrap-t|resamples:" +
                     std::to_string(options.compare.resamples) +
                     "|seed:" + std::to_string(options.compare.seed) +
                     "|tests:hierarchical-bootstrap-t,seed-permutation|seeds:" +
                     (options.paired ? "paired" : "independent") + "|power:80|adjust:holm";
  return result;
}

ResultTable seed_scores_table(const SeedReport& report) {
  ResultTable table;
  table.columns = {"system", "seeds", "n"};
  for (const auto& column : report.columns) {
    table.columns.push_back(column.name);
    table.columns.push_back("sd of seeds");
  }
  for (std::size_t k = 0; k < report.systems.size(); ++k) {
    auto& row = table.rows.emplace_back();
    row = {report.systems[k].name, std::to_string(report.systems[k].files.size()),
           std::to_string(report.samples)};
    for (std::size_t i = 0; i < report.columns.size(); ++i) {
      const double percent = report.columns[i].percent;
      row.push_back(fixed_text(percent * compensated_mean(report.means[k][i]), 2));
      row.push_back(fixed_text(percent * sample_deviation(report.means[k][i]), 2));
    }
  }
  table.note = report.signature;
  return table;
}

ResultTable seed_differences_table(const SeedReport& report) {
  ResultTable table;
  table.columns = {"system", "metric", "difference", "95 %",       "p boot",
                   "p perm", "p Holm", "df",         "detectable", "seeds needed"};
  const auto detects = [](const SeedDifference& one) { return one.needed_to_detect.has_value(); };
  const bool detect = std::any_of(report.differences.begin(), report.differences.end(), detects);
  if (detect) table.columns.emplace_back("seeds to detect");
  for (const auto& item : report.differences) {
    const auto& [name, percent, of_set] = report.columns[item.column];
    const auto& one = item.seeds;
    table.rows.push_back(
        {report.systems[item.system].name, name, fixed_text(percent * one.difference, 2),
         "[" + fixed_text(percent * one.low, 2) + ", " + fixed_text(percent * one.high, 2) + "]",
         p_text(one.p_bootstrap), p_text(one.p_permutation), p_text(item.p_holm),
         fixed_text(one.degrees_of_freedom, 1), fixed_text(percent * item.detectable, 2),
         count_or_dash(item.needed)});
    if (detect) table.rows.back().push_back(count_or_dash(item.needed_to_detect));
  }
  return table;
}

std::string seed_page(const SeedReport& report) {
  const auto scores = seed_scores_table(report), differences = seed_differences_table(report);
  std::string body = "<p><code>" + escape_html(report.signature) + "</code></p>\n";
  body += html_section("Scores", html_table(scores.columns, scores.rows));
  const auto& first = report.systems.front().name;
  body += html_section(
      "Differences from " + first,
      "<p>Of the means over seeds and samples. p boot: hierarchical bootstrap over both; p perm: "
      "permutation of seeds; p Holm: the former, adjusted for all rows; detectable: the difference "
      "that as many seeds find with a chance of 80 %; seeds needed: of each system, to find the "
      "observed difference so.</p>\n" +
          html_table(differences.columns, differences.rows));
  std::string bars;
  for (std::size_t i = 0; i < report.columns.size(); ++i) {
    std::vector<PlotBar> values;
    for (const auto& item : report.differences)
      if (item.column == i) {
        const double percent = report.columns[i].percent;
        values.push_back({report.systems[item.system].name, percent * item.seeds.difference,
                          percent * item.seeds.low, percent * item.seeds.high});
      }
    bars += svg_intervals(
        {report.columns[i].name + " minus that of " + first, "95 % over seeds and samples", ""},
        values);
  }
  body += html_section("Intervals", bars);
  ResultTable seeds;
  seeds.columns = {"system", "file"};
  for (const auto& column : report.columns) seeds.columns.push_back(column.name);
  for (std::size_t k = 0; k < report.systems.size(); ++k)
    for (std::size_t s = 0; s < report.systems[k].files.size(); ++s) {
      auto& row = seeds.rows.emplace_back();
      row = {report.systems[k].name, report.systems[k].files[s].string()};
      for (std::size_t i = 0; i < report.columns.size(); ++i)
        row.push_back(fixed_text(report.columns[i].percent * report.means[k][i][s], 2));
    }
  body += html_section("Single seeds", html_table(seeds.columns, seeds.rows));
  return html_page("Comparison over seeds", body);
}

}  // namespace rwkvx
