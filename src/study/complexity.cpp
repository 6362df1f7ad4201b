#include <algorithm>
#include <cmath>

#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/cores/cost.h"
#include "rwkvx/report/plot.h"
#include "rwkvx/study/statistics.h"
#include "study/results.h"

namespace rwkvx {

nlohmann::ordered_json measure_complexity(const MeasureInput& input);  // complexity_measure.cpp
namespace {

using nlohmann::json;

// Operations per token and parameters of every variant of the ablation, counted.
void add_counts(const StudyResults& results, const std::string& data, Page& page) {
  ResultTable table;
  table.columns = {"variant",          "parameters",         "matrix operations",
                   "other operations", "all, over baseline", "state, floats"};
  double base = 0;
  for (const auto& [name, variant] : results.file().variants) {
    const auto seeds = results.seeds(data, {name});
    if (seeds.empty()) continue;
    auto config = variant.model;
    config.vocab_size = results.training(name, data, seeds.front())->at("vocab_size");
    const auto cost = count_cost(config);
    const double all = cost.matrix() + cost.elementwise();
    if (base == 0) base = all;
    table.rows.push_back(
        {name, count_text(cost.parameters()), count_text(std::llround(cost.matrix())),
         count_text(std::llround(cost.elementwise())),
         signed_text(100 * (all / base - 1), 3) + " %", count_text(cost.state_floats)});
  }
  page.heading(3, "Counted");
  page.text(
      "Operations of the forward pass per token, whatever the length: nothing in the model "
      "grows with the number of tokens before. Counted from the shapes; the tests hold the "
      "matrix operations to LibTorch's own count and the parameters to the model's.");
  page.table(table);
}

std::vector<double> quotients(const json& above, const json& below) {
  std::vector<double> out;
  for (std::size_t i = 0; i < std::min(above.size(), below.size()); ++i)
    out.push_back(above[i].get<double>() / below[i].get<double>());
  return out;
}

void add_times(const json& found, const std::string& data, Page& page, std::vector<Claim>& claims) {
  const auto lengths = found.at("lengths").get<std::vector<std::int64_t>>();
  struct Kind {
    const char *key, *title, *what;
  };
  const Kind kinds[] = {{"forward", "forward pass of T tokens", "seconds"},
                        {"train", "training step of one sequence of T tokens", "seconds"},
                        {"decode", "one token after T tokens", "seconds"}};
  ResultTable fits, ratios;
  fits.columns = {"time of", "model", "exponent of T", "95 %", "first T", "last T"};
  ratios.columns = {"time of", "enhanced ÷ baseline", "lowest", "highest"};
  for (const auto& kind : kinds) {
    std::vector<PlotLine> lines;
    std::vector<double> all;
    std::vector<double> sizes(lengths.begin(), lengths.end());
    std::string exponents;
    bool linear = true;
    for (const std::string model : {kBaseline, kEnhanced}) {
      std::vector<std::vector<double>> seconds;
      auto& line = lines.emplace_back();
      line.name = model;
      for (const auto length : lengths) {
        const auto& times = found.at("seconds").at(kind.key);
        const auto one = times.at(model).at(std::to_string(length)).get<std::vector<double>>();
        seconds.push_back(one);
        const auto [low, high] = std::minmax_element(one.begin(), one.end());
        line.points.push_back(
            {static_cast<double>(length), 1e3 * median(one), 1e3 * *low, 1e3 * *high});
        if (model == kEnhanced)
          for (const double q : quotients(times.at(model).at(std::to_string(length)),
                                          times.at(kBaseline).at(std::to_string(length))))
            all.push_back(q);
      }
      const auto fit = fit_exponent(sizes, seconds, 1000, /*seed=*/1);
      fits.rows.push_back({kind.title, model, fixed_text(fit.exponent, 3),
                           interval_text(fit.low, fit.high, 3), fixed_text(fit.first_size, 0),
                           fixed_text(fit.last_size, 0)});
      const double wanted = std::string(kind.key) == "decode" ? 0 : 1;
      linear = linear && fit.exponent < wanted + 0.1;
      exponents += (exponents.empty() ? "" : ", ") + model + " " + fixed_text(fit.exponent, 3) +
                   " " + interval_text(fit.low, fit.high, 3);
    }
    ratios.rows.push_back({kind.title, fixed_text(median(all), 3),
                           fixed_text(*std::min_element(all.begin(), all.end()), 3),
                           fixed_text(*std::max_element(all.begin(), all.end()), 3)});
    page.figure(std::string("time-") + kind.key + ".svg",
                svg_lines({std::string("Time: ") + kind.title, "T", "milliseconds", true,
                           std::string(kind.key) != "decode"},
                          lines),
                "Medians; the band is from the shortest to the longest, " + data + "'s models.");
    const bool decode = std::string(kind.key) == "decode";
    claims.push_back({decode ? "A token costs the same however many came before"
                             : std::string("Time grows linearly: ") + kind.title,
                      "exponent " + exponents, linear ? "yes" : "no"});
    if (decode)
      claims.push_back(
          {"Latency of a token rises by no more than 2.95 %",
           "ratio " + fixed_text(median(all), 3) + ", single pairs " + range_text(all, 3),
           median(all) <= 1.0295 ? "yes, in the median" : "no"});
  }
  page.text(
      "Exponents are slopes of the logarithms of median times by least squares; their "
      "intervals come from drawing the repetitions again. Short sequences carry a fixed "
      "cost, so slopes below 1 are usual.");
  page.table(fits);
  page.text(
      "Enhanced and baseline take turns; every repetition at every T gives one quotient. The "
      "enhancement's share falls with the width, as it grows with the channels and the rest "
      "with their square: the command rwkvx bench decode measures wider models.");
  page.table(ratios);
}

void add_batches(const json& found, Page& page) {
  ResultTable table;
  table.columns = {"threads", "sequences",          "baseline, ms",     "enhanced, ms",
                   "ratio",   "lowest and highest", "memory, baseline", "memory, enhanced"};
  for (const auto& row : found.at("batches")) {
    const auto base = row.at(kBaseline).get<std::vector<double>>(),
               more = row.at(kEnhanced).get<std::vector<double>>();
    const auto ratios = quotients(row.at(kEnhanced), row.at(kBaseline));
    const double batch = row.at("batch");
    const auto memory = [&](const char* model) {
      const auto& bytes = found.at("bytes").at(model);
      return bytes_text(bytes.at("weights").get<double>() +
                        batch * bytes.at("state").get<double>());
    };
    table.rows.push_back({std::to_string(row.at("threads").get<int>()), fixed_text(batch, 0),
                          fixed_text(1e3 * median(base), 3), fixed_text(1e3 * median(more), 3),
                          fixed_text(median(ratios), 3), range_text(ratios, 3), memory(kBaseline),
                          memory(kEnhanced)});
  }
  page.heading(3, "One step of several sequences");
  page.text("Memory is what a step reads: the weights and the sequences' states.");
  page.table(table);
}

void report_complexity(const StudyResults& results, const StudyConfig& study, Page& page,
                       std::vector<Claim>& claims) {
  bool begun = false;
  for (const auto& data : study.data) {
    const auto* found = results.measured("complexity", data, results.file().seeds.front());
    if (found == nullptr) continue;
    if (!begun) page.heading(2, "Complexity");
    begun = true;
    add_counts(results, data, page);
    page.heading(3, "Measured");
    add_times(*found, data, page, claims);
    add_batches(*found, page);
  }
}

}  // namespace

extern const Study kComplexity{
    .name = "complexity",
    .question = "is it linear, and what does it cost?",
    .measures =
        "counted operations and parameters; times of forward pass, training step and decoded "
        "token by length with fitted exponents; steps of several sequences by threads",
    .lengths = true,
    .first_seed = true,
    .alone = true,
    .measure = measure_complexity,
    .report = report_complexity};

}  // namespace rwkvx
