#include "rwkvx/eval/comparison_report.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "rwkvx/base/error.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/eval/side_by_side.h"
#include "rwkvx/report/html.h"
#include "rwkvx/report/plot.h"

namespace rwkvx {
namespace {

// One sample has no spread to show.
std::string range_of(std::size_t samples, double low, double high) {
  if (samples < 2) return "–";
  return "[" + fixed_text(low, 2) + ", " + fixed_text(high, 2) + "]";
}

std::string bucket_name(const LengthBucket& bucket) {
  return bucket.from == bucket.to ? std::to_string(bucket.from)
                                  : std::to_string(bucket.from) + "–" + std::to_string(bucket.to);
}

std::string length_section(const Comparison& comparison, std::size_t metric) {
  const auto& [name, times, of_set] = comparison.columns[metric];
  std::vector<PlotLine> lines;
  ResultTable table;
  table.columns = {"words", "samples"};
  for (const auto& bucket : comparison.buckets)
    table.rows.push_back(
        {bucket_name(bucket), count_text(static_cast<std::int64_t>(bucket.samples))});
  for (std::size_t k = 0; k < comparison.systems.size(); ++k) {
    auto& line = lines.emplace_back();
    line.name = comparison.systems[k].name;
    table.columns.push_back(line.name);
    for (std::size_t b = 0; b < comparison.buckets.size(); ++b) {
      const auto& bucket = comparison.buckets[b];
      const auto& mean = bucket.means[k][metric];
      line.points.push_back({static_cast<double>(std::max<std::uint64_t>(bucket.from, 1)),
                             times * mean.mean, times * mean.low, times * mean.high});
      table.rows[b].push_back(fixed_text(times * mean.mean, 2) + " " +
                              range_of(bucket.samples, times * mean.low, times * mean.high));
    }
  }
  const std::string what =
      comparison.options.buckets == LengthOf::kPrompt ? "prompt" : "first reference";
  return svg_lines({name + " by length", "words of the " + what + " (from)", name, true}, lines) +
         html_table(table.columns, table.rows);
}

// The samples worth a look: the ends of the order by gain (or by score), and some from everywhere.
std::set<std::size_t> chosen(const Comparison& comparison, std::size_t count) {
  const auto& systems = comparison.systems;
  const auto& first = systems.front().values.front();
  std::vector<double> gain(first.size());
  for (std::size_t i = 0; i < gain.size(); ++i)
    gain[i] = systems.size() > 1 ? systems[1].values.front()[i] - first[i] : first[i];
  std::vector<std::size_t> order(gain.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return gain[a] > gain[b]; });
  std::set<std::size_t> picked;
  const auto third = std::min(order.size(), count / 3 + 1);
  for (std::size_t i = 0; i < third && picked.size() < count; ++i) {
    picked.insert(order[i]);
    picked.insert(order[order.size() - 1 - i]);
    picked.insert(i * (order.size() - 1) / std::max<std::size_t>(third - 1, 1));
  }
  return picked;
}

struct SampleTexts {
  std::string reference;
  std::vector<std::string> predictions;  // per system
};

void read_texts(const std::string& file, const PairFields& fields,
                const std::map<std::uint64_t, std::size_t>& by_line,
                std::map<std::size_t, SampleTexts>& texts) {
  const auto source = pairs_from_json(file, fields);
  PairBatch batch;
  PairSource::Scratch scratch;
  TextPair pair;
  std::size_t found = 0;
  while (found < by_line.size() && source->next(batch))
    for (const auto& item : batch.items) {
      const auto at = by_line.find(item.line);
      if (at == by_line.end()) continue;
      source->parse(batch, item, scratch, pair);
      auto& sample = texts[at->second];
      sample.reference = pair.references.front();
      sample.predictions.emplace_back(pair.prediction);
      ++found;
    }
  if (found < by_line.size())
    throw DataError(
        file,
        "has become shorter since it was scored; --report reads it twice, so keep it unchanged");
}

std::string samples_section(const Comparison& comparison, const PairFields& fields,
                            std::size_t count) {
  const auto picked = chosen(comparison, count);
  std::map<std::size_t, SampleTexts> texts;
  for (const auto& system : comparison.systems) {
    std::map<std::uint64_t, std::size_t> by_line;
    for (const auto sample : picked) by_line[system.lines[sample]] = sample;
    read_texts(system.name, fields, by_line, texts);
  }
  std::string html = "<p>Words of the longest common subsequence are marked.</p>\n";
  const auto& metric = comparison.columns.front();
  for (const auto& [sample, text] : texts)
    for (std::size_t k = 0; k < comparison.systems.size(); ++k) {
      const auto& system = comparison.systems[k];
      html += html_side_by_side("reference, line " + std::to_string(system.lines[sample]),
                                text.reference,
                                system.name + ", " + metric.name + " " +
                                    fixed_text(metric.percent * system.values[0][sample], 2),
                                text.predictions[k]);
    }
  return html;
}

}  // namespace

ResultTable scores_table(const Comparison& comparison) {
  ResultTable table;
  table.columns = {"system", "n"};
  for (const auto& column : comparison.columns) {
    table.columns.push_back(column.name);
    table.columns.push_back("95 %");
  }
  for (const auto& system : comparison.systems) {
    auto& row = table.rows.emplace_back();
    row = {system.name, std::to_string(system.summary.n)};
    for (std::size_t i = 0; i < comparison.columns.size(); ++i) {
      const auto& column = comparison.columns[i];
      const auto& mean = system.means[i];
      row.push_back(fixed_text(column.percent * system.summary.scores[i].value, 2));
      // An interval of the samples' mean is not one of a score of the whole set.
      row.push_back(column.of_set ? "–"
                                  : range_of(system.summary.n, column.percent * mean.low,
                                             column.percent * mean.high));
    }
  }
  table.note = comparison.signature;
  return table;
}

ResultTable differences_table(const Comparison& comparison) {
  ResultTable table;
  table.columns = {"system", "metric", "difference", "95 %", "d", "p boot", "p rand", "p Holm"};
  for (const auto& item : comparison.comparisons) {
    const auto& [name, times, of_set] = comparison.columns[item.column];
    const auto& paired = item.paired;
    table.rows.push_back(
        {comparison.systems[item.system].name, name, fixed_text(times * paired.difference, 2),
         range_of(comparison.systems.front().summary.n, times * paired.low, times * paired.high),
         fixed_text(paired.effect_size, 2), p_text(paired.p_bootstrap),
         p_text(paired.p_randomization), p_text(item.p_holm)});
  }
  return table;
}

ResultTable summary_table(const MetricSet& metrics, const ScoreSummary& summary) {
  ResultTable table;
  table.columns = {"metric", "precision", "recall", "score"};
  const auto columns = metric_columns(metrics);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto& score = summary.scores[i];
    const auto shown = [&](const double* value) {
      return value == nullptr ? "" : fixed_text(columns[i].percent * *value, 2);
    };
    table.rows.push_back({columns[i].name, shown(score.part("precision")),
                          shown(score.part("recall")), shown(&score.value)});
  }
  table.note = summary.signature;
  return table;
}

std::string comparison_page(const Comparison& comparison, const PairFields& fields,
                            std::size_t samples) {
  const auto& first = comparison.columns.front().name;
  const bool several = comparison.systems.size() > 1;
  const auto scores = scores_table(comparison);
  std::string body = "<p><code>" + escape_html(comparison.signature) + "</code></p>\n";
  body += html_section("Scores", html_table(scores.columns, scores.rows));
  std::string bars;
  for (std::size_t i = 0; i < comparison.columns.size(); ++i) {
    const auto& [name, times, of_set] = comparison.columns[i];
    std::vector<PlotBar> values;
    for (const auto& system : comparison.systems)
      values.push_back({system.name, times * system.means[i].mean, times * system.means[i].low,
                        times * system.means[i].high});
    bars += svg_bars({name, "mean of the samples and its 95 % interval", ""}, values);
  }
  body += html_section("Means of the samples", bars);
  if (several) {
    const auto differences = differences_table(comparison);
    body += html_section(
        "Differences from " + comparison.systems.front().name,
        "<p>Of the means of the samples. d: Cohen's d of the differences; p boot: paired "
        "bootstrap; p rand: approximate randomization; p Holm: the latter, adjusted for all rows."
        "</p>\n" +
            html_table(differences.columns, differences.rows));
  }
  if (comparison.of_choices) samples = 0;
  if (!comparison.buckets.empty())
    body += html_section(first + " by length", length_section(comparison, 0));
  if (samples > 0)
    body += html_section(several ? "Samples: largest gains, largest losses, some between"
                                 : "Samples: best, worst, some between",
                         samples_section(comparison, fields, samples));
  return html_page(several ? "Comparison" : "Evaluation", body);
}

}  // namespace rwkvx
