#include <algorithm>
#include <cmath>
#include <map>

#include "rwkvx/base/statistics.h"
#include "rwkvx/cores/shift.h"
#include "rwkvx/report/plot.h"
#include "study/results.h"

namespace rwkvx {

nlohmann::ordered_json measure_failures(const MeasureInput& input);  // failures_measure.cpp
namespace {

using nlohmann::json;

// A task's answers: values of each seed's models, prompt by prompt.
void add_tasks(const StudyResults& results, const StudyConfig& study, Page& page,
               std::vector<Claim>& claims) {
  struct Row {
    std::string task;
    std::vector<double> prompt, base_loss, more_loss, base_right, more_right;
    Difference loss;
  };
  std::vector<Row> rows;
  for (const auto& data : study.data) {
    Row row;
    SeedScores base, more;
    for (const auto seed : results.file().seeds) {
      const auto* found = results.measured("failures", data, seed);
      if (found == nullptr || found->at("task") == "") continue;
      row.task = found->at("task");
      const auto& a = found->at("models").at(kBaseline);
      const auto& b = found->at("models").at(kEnhanced);
      base.push_back(values_at(a, {"loss"}));
      more.push_back(values_at(b, {"loss"}));
      row.prompt.push_back(compensated_mean(values_at(a, {"prompt_loss"})));
      row.base_loss.push_back(compensated_mean(base.back()));
      row.more_loss.push_back(compensated_mean(more.back()));
      row.base_right.push_back(100 * compensated_mean(values_at(a, {"accuracy"})));
      row.more_right.push_back(100 * compensated_mean(values_at(b, {"accuracy"})));
    }
    if (row.task.empty()) continue;
    row.loss = compare_over_seeds(base, more, results.resamples());
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return;
  std::vector<double> ps;
  for (const auto& row : rows) ps.push_back(row.loss.p);
  const auto holm = holm_adjusted(ps);
  page.heading(3, "Recalling from the context");
  page.text(
      "Loss (nats per token) and share of right tokens of what the context gives away: the "
      "second copy of a line, the second word of a pair that was shown, the value of a key. "
      "\"New text\" is the loss of what comes before it: a model that recalls has a lower one "
      "behind it. Mean ± deviation over the seeds.");
  ResultTable table;
  table.columns = {"task",
                   "new text",
                   "baseline",
                   "enhanced",
                   "baseline right, %",
                   "enhanced right, %",
                   "difference",
                   "95 % over seeds and prompts",
                   "p Holm"};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    table.rows.push_back({row.task, spread_text(row.prompt, 3), spread_text(row.base_loss, 3),
                          spread_text(row.more_loss, 3), spread_text(row.base_right, 1),
                          spread_text(row.more_right, 1), signed_text(row.loss.difference, 3),
                          interval_text(row.loss.low, row.loss.high, 3), p_text(holm[i])});
    const auto answer = verdict(row.loss, holm[i]);
    // Where the context helps neither model, equal losses say nothing about memory.
    const double best = std::min(compensated_mean(row.base_loss), compensated_mean(row.more_loss));
    const bool learned = best < 0.9 * compensated_mean(row.prompt);
    claims.push_back({"Relying on near tokens harms long-range memory: " + row.task,
                      "loss of the answer " + signed_text(row.loss.difference, 3) +
                          " nats, seeds " + range_text(row.loss.by_seed, 3) + ", p Holm " +
                          p_text(holm[i]),
                      !learned             ? "cannot be told: neither model learned the task"
                      : answer == "higher" ? "yes: enhanced is worse"
                      : answer == "lower"  ? "no: enhanced is better"
                                           : answer});
  }
  page.table(table);
}

void add_lengths(const StudyResults& results, const StudyConfig& study, Page& page,
                 std::vector<Claim>& claims) {
  const auto ctx_len = results.file().base.train.ctx_len;
  for (const auto& data : study.data) {
    std::map<std::int64_t, std::map<std::string, std::vector<double>>> all, beyond;
    for (const auto seed : results.file().seeds) {
      const auto* found = results.measured("failures", data, seed);
      if (found == nullptr || found->at("task") != "") continue;
      for (const std::string model : {kBaseline, kEnhanced})
        for (const auto& row : found->at("models").at(model)) {
          const std::int64_t length = row.at("length");
          all[length][model].push_back(row.at("loss"));
          if (row.at("beyond").is_number()) beyond[length][model].push_back(row.at("beyond"));
        }
    }
    if (all.empty()) continue;
    page.heading(3, "Longer than in training, " + data);
    page.text(
        "The same test tokens in windows of T, each from an empty state that is carried to "
        "its end; trained at T = " +
        std::to_string(ctx_len) +
        ". \"Beyond\" is the loss of the tokens at positions that training never showed. "
        "Mean ± deviation over the seeds; the difference is enhanced minus baseline, range "
        "over the seeds.");
    ResultTable table;
    table.columns = {"T",
                     "baseline",
                     "enhanced",
                     "difference, by seed",
                     "baseline beyond",
                     "enhanced beyond",
                     "difference, by seed"};
    std::vector<PlotLine> lines(2);
    lines[0].name = kBaseline, lines[1].name = kEnhanced;
    std::vector<double> last_baseline, last_enhanced, growth;
    for (auto& [length, models] : all) {
      const auto& base = models[kBaseline];
      const auto& more = models[kEnhanced];
      std::vector<double> difference, difference_beyond;
      for (std::size_t i = 0; i < std::min(base.size(), more.size()); ++i)
        difference.push_back(more[i] - base[i]);
      const auto& far_base = beyond[length][kBaseline];
      const auto& far_more = beyond[length][kEnhanced];
      for (std::size_t i = 0; i < std::min(far_base.size(), far_more.size()); ++i)
        difference_beyond.push_back(far_more[i] - far_base[i]);
      const bool far = !far_base.empty();
      table.rows.push_back({std::to_string(length), spread_text(base, 4), spread_text(more, 4),
                            range_text(difference, 4), far ? spread_text(far_base, 4) : "–",
                            far ? spread_text(far_more, 4) : "–",
                            range_text(difference_beyond, 4)});
      for (int k = 0; k < 2; ++k) {
        const auto& values = k == 0 ? base : more;
        const auto [low, high] = std::minmax_element(values.begin(), values.end());
        lines[static_cast<std::size_t>(k)].points.push_back(
            {static_cast<double>(length), compensated_mean(values), *low, *high});
      }
      if (length > ctx_len) last_baseline = base, last_enhanced = more;
    }
    page.table(table);
    page.figure(
        "lengths-" + data + ".svg",
        svg_lines({"Loss by length of the windows, " + data, "T", "nats per token", true}, lines),
        "Means; the band is the range over the seeds.");
    if (last_enhanced.empty()) continue;
    const auto& trained = all.begin()->second[kEnhanced];
    for (std::size_t i = 0; i < std::min(trained.size(), last_enhanced.size()); ++i)
      growth.push_back(last_enhanced[i] - trained[i]);
    const bool worse =
        std::all_of(growth.begin(), growth.end(), [](double change) { return change > 0; });
    claims.push_back({"The positions harm longer texts than in training (" + data + ")",
                      "enhanced at T = " + std::to_string(all.rbegin()->first) +
                          " against T = " + std::to_string(all.begin()->first) + ": " +
                          range_text(growth, 4) + " nats by seed",
                      worse ? "yes" : "no"});
  }
}

void add_gates(const StudyResults& results, const StudyConfig& study, Page& page,
               std::vector<Claim>& claims) {
  const auto& data = study.data.front();
  const auto seeds = results.seeds(data, {kEnhanced});
  if (seeds.empty()) return;
  ResultTable table;
  table.columns = {"step",          "site",          "gate",        "deviation in it",
                   "below 0.05, %", "above 0.95, %", "added, share"};
  ResultTable norms;
  norms.columns = {"step", "convolution", "position", "gate"};
  std::map<std::int64_t, std::map<std::string, std::vector<json>>> sites;
  std::map<std::int64_t, std::map<std::string, std::vector<double>>> gradients;
  for (const auto seed : seeds)
    for (const auto& snapshot : results.training(kEnhanced, data, seed)->at("gates")) {
      const std::int64_t step = snapshot.at("step");
      for (const auto& site : snapshot.at("sites")) sites[step][site.at("site")].push_back(site);
      std::map<std::string, double> squares;
      for (const auto& item : snapshot.at("gradient_norms").items()) {
        const double norm = item.value();
        squares[std::string(shift_part(item.key()))] += norm * norm;
      }
      for (const auto& [part, square] : squares) gradients[step][part].push_back(std::sqrt(square));
    }
  double most = 0;
  for (const auto& [step, by_site] : sites)
    for (const auto& [name, found] : by_site) {
      const auto of = [&](const char* key, double times) {
        std::vector<double> values;
        for (const auto& one : found) values.push_back(times * one.at(key).get<double>());
        return values;
      };
      table.rows.push_back({std::to_string(step), name, spread_text(of("mean", 1), 3),
                            spread_text(of("deviation", 1), 3),
                            spread_text(of("below_0.05", 100), 1),
                            spread_text(of("above_0.95", 100), 1), spread_text(of("share", 1), 3)});
      if (step == sites.rbegin()->first)
        most = std::max({most, compensated_mean(of("below_0.05", 100)),
                         compensated_mean(of("above_0.95", 100))});
    }
  for (auto& [step, parts] : gradients)
    norms.rows.push_back({std::to_string(step), spread_text(parts["convolution"], 4),
                          spread_text(parts["position"], 4), spread_text(parts["gate"], 4)});
  if (table.rows.empty()) return;
  page.heading(3, "Is the gate a bottleneck?");
  page.text("Gates of \"enhanced\" on the first tokens of " + data +
            "'s test text, by site and step; \"added\" is how large what the shift adds is beside "
            "its input. Mean ± deviation over the seeds.");
  page.table(table);
  page.text("Norms of the gradient of the loss there, all sites together.");
  page.table(norms);
  std::vector<PlotLine> lines;
  for (const auto& [name, found] : sites.rbegin()->second) {
    PlotLine line;
    line.name = name;
    const auto bins = found.front().at("histogram").size();
    for (std::size_t i = 0; i < bins; ++i) {
      double sum = 0;
      for (const auto& one : found) sum += one.at("histogram")[i].get<double>();
      line.points.push_back({(static_cast<double>(i) + 0.5) / static_cast<double>(bins),
                             100 * sum / static_cast<double>(found.size())});
    }
    lines.push_back(std::move(line));
  }
  page.figure(
      "gate-histogram.svg",
      svg_lines({"Gate values at the end of training", "gate", "percent of values", false}, lines),
      "Means over the seeds, in twenty steps.");
  claims.push_back({"The gate saturates",
                    "at most " + fixed_text(most, 1) +
                        " % of a site's values are below 0.05 or above 0.95 at the end",
                    most > 50   ? "yes"
                    : most > 10 ? "partly"
                                : "no"});
}

void report_failures(const StudyResults& results, const StudyConfig& study, Page& page,
                     std::vector<Claim>& claims) {
  if (!results.any_measured("failures")) return;
  page.heading(2, "Failure signatures");
  add_tasks(results, study, page, claims);
  add_lengths(results, study, page, claims);
  add_gates(results, study, page, claims);
}

}  // namespace

extern const Study kFailures{
    .name = "failures",
    .question = "what does it break?",
    .measures =
        "recall from the context, lengths beyond training, saturation of the gates over "
        "training",
    .lengths = true,
    .measure = measure_failures,
    .report = report_failures};

}  // namespace rwkvx
