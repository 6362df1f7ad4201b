#include <algorithm>
#include <cmath>
#include <span>

#include "rwkvx/base/statistics.h"
#include "rwkvx/report/plot.h"
#include "study/results.h"

namespace rwkvx {

nlohmann::ordered_json measure_boundaries(const MeasureInput& input);  // boundaries_measure.cpp
namespace {

using nlohmann::json;

// Kinds of places whose gates are compared, with what the report says of them.
struct PlaceTable {
  const char *heading, *text, *column;
  std::span<const char* const> kinds;
  const char *figure, *title;
  const char *claim, *places;  // "kinds of end"
};
constexpr const char* kEnds[] = {"word", "phrase", "sentence", "paragraph"};
constexpr const char* kMentions[] = {"first name", "later name", "name again"};
constexpr PlaceTable kTables[] = {
    {"Gates at borders",
     "The gate, mean over channels and sites, at the first token behind an end, against a "
     "matched token near by: behind a word's end against the inside of a word, behind the "
     "higher ends against the end of a plain word, so that white space follows in both. ",
     "end of a", kEnds, "gates.svg", "Gate of enhanced behind an end minus elsewhere",
     "The gate tells borders from other places", "kinds of end"},
    {"Gates at names",
     "The same at the last letter of the people's names in stories, where a model has read all of "
     "it: of a name's first mention and of later ones against the last letter of another word of "
     "as many letters near by, and of a name's second mention against its first (\"again\"), "
     "which are the same tokens. ",
     "mention", kMentions, "gates-names.svg", "Gate of enhanced at names minus elsewhere",
     "The gate tells names from other words", "kinds of mention"}};

// A kind of place in one data set and variant, over the seeds.
struct GateRow {
  std::string data, variant, level;
  std::vector<double> inside, difference, d, share;
  double worst_p = 0;
  std::int64_t pairs = 0;
};

std::vector<GateRow> gate_rows(const StudyResults& results, const StudyConfig& study,
                               std::span<const char* const> kinds) {
  std::vector<GateRow> rows;
  for (const auto& data : study.data)
    for (const auto& variant : study.variants)
      for (const std::string level : kinds) {
        GateRow row{data, variant, level, {}, {}, {}, {}};
        for (const auto seed : results.file().seeds) {
          const auto* found = results.measured("boundaries", data, seed);
          if (found == nullptr || !found->at("gates").contains(variant)) continue;
          const auto& gates = found->at("gates").at(variant);
          if (!gates.contains(level)) continue;
          const auto& gate = gates.at(level).at("gate");
          row.inside.push_back(gate.at("inside"));
          row.difference.push_back(gate.at("difference"));
          row.d.push_back(gate.at("d").is_number() ? gate.at("d").get<double>() : 0);
          row.share.push_back(gates.at(level).at("share").at("difference"));
          row.worst_p = std::max(row.worst_p, gate.at("p").get<double>());
          row.pairs = gate.at("n");
        }
        if (!row.inside.empty()) rows.push_back(std::move(row));
      }
  return rows;
}

void add_gates(const StudyResults& results, const StudyConfig& study, const PlaceTable& about,
               Page& page, std::vector<Claim>& claims) {
  const auto rows = gate_rows(results, study, about.kinds);
  if (rows.empty()) return;
  std::vector<double> ps;
  for (const auto& row : rows) ps.push_back(row.worst_p);
  const auto holm = holm_adjusted(ps);
  page.heading(3, about.heading);
  page.text(
      about.text +
      std::string("Means over the seeds; \"by seed\" is the range; d is Cohen's d of the paired "
                  "differences; p is the largest of the seeds' permutation tests, adjusted over "
                  "all rows. \"Added\" is the difference of the share that the shift adds to its "
                  "input."));
  ResultTable table;
  table.columns = {"data set",   "variant", about.column, "pairs",  "gate elsewhere",
                   "difference", "by seed", "d",          "p Holm", "added"};
  std::vector<PlotBar> bars;
  double largest = 0;
  std::size_t apart = 0, enhanced = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    const double mean = compensated_mean(row.difference);
    table.rows.push_back({row.data, row.variant, row.level, std::to_string(row.pairs),
                          fixed_text(compensated_mean(row.inside), 3), signed_text(mean, 3),
                          range_text(row.difference, 4), fixed_text(compensated_mean(row.d), 2),
                          p_text(holm[i]), signed_text(compensated_mean(row.share), 2)});
    if (row.variant != kEnhanced) continue;
    const auto [low, high] = std::minmax_element(row.difference.begin(), row.difference.end());
    bars.push_back({row.data + ", " + row.level, mean, *low, *high});
    ++enhanced;
    largest = std::max(largest, std::abs(mean));
    apart += holm[i] < 0.05 && (*low > 0 || *high < 0) ? 1 : 0;
  }
  page.table(table);
  if (enhanced == 0) return;
  page.figure(
      about.figure,
      svg_intervals({about.title, "gate (0 to 1), mean and range over the seeds", ""}, bars),
      "Gray ranges hold 0.");
  claims.push_back({about.claim,
                    std::to_string(apart) + " of " + std::to_string(enhanced) + " " + about.places +
                        " differ; largest difference " + number_text(largest, 2) +
                        " on a scale of 0 to 1",
                    apart == 0       ? "no difference found"
                    : largest < 0.05 ? "measurably, by little"
                                     : "yes"});
}

void add_perturbations(const StudyResults& results, const StudyConfig& study, Page& page,
                       std::vector<Claim>& claims) {
  struct Row {
    std::string place, group, kind;
    std::vector<double> base, more;
  };
  std::vector<Row> rows;
  std::vector<std::string> data_of;
  for (const auto& data : study.data) {
    const auto first = rows.size();
    for (const auto seed : results.file().seeds) {
      const auto* found = results.measured("boundaries", data, seed);
      if (found == nullptr) continue;
      for (const auto& one : found->at("perturbations")) {
        const std::string model = one.at("model");
        if (model != kBaseline && model != kEnhanced) continue;
        const std::string place = one.at("place"), group = one.at("group"), kind = one.at("kind");
        auto at = std::find_if(
            rows.begin() + static_cast<std::ptrdiff_t>(first), rows.end(), [&](const Row& row) {
              return row.place == place && row.group == group && row.kind == kind;
            });
        if (at == rows.end()) {
          rows.push_back({place, group, kind, {}, {}});
          data_of.push_back(data);
          at = rows.end() - 1;
        }
        auto& into = model == kBaseline ? at->base : at->more;
        for (const auto& change : one.at("changes")) into.push_back(change);
      }
    }
  }
  std::vector<PairedComparison> tests;
  std::vector<double> ps;
  for (const auto& row : rows) {
    tests.push_back(compare_paired(row.base, row.more, results.resamples(), /*seed=*/1));
    ps.push_back(tests.back().p_randomization);
  }
  if (rows.empty()) return;
  const auto holm = holm_adjusted(ps);
  page.heading(3, "Tokens changed");
  page.text(
      "How much the loss of a token rises, in nats, where three tokens before it are turned "
      "round, or the middle one of them is deleted or replaced: right before it (inside the "
      "kernel's window), just outside, and far away; the first by what lies in between. All "
      "seeds' tokens together; the test is paired, token by token.");
  ResultTable table;
  table.columns = {"data set", "tokens",   "what lies there", "change", "n",
                   "baseline", "enhanced", "difference",      "95 %",   "p Holm"};
  std::size_t inside = 0, inside_apart = 0, outside = 0, outside_apart = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& [place, group, kind, base, more] = rows[i];
    table.rows.push_back({data_of[i], place, group, kind, std::to_string(base.size()),
                          fixed_text(tests[i].mean_a, 3), fixed_text(tests[i].mean_b, 3),
                          signed_text(tests[i].difference, 3),
                          interval_text(tests[i].low, tests[i].high, 3), p_text(holm[i])});
    const bool window = group != "anywhere";
    (window ? inside : outside) += 1;
    (window ? inside_apart : outside_apart) += holm[i] < 0.05 ? 1 : 0;
  }
  page.table(table);
  claims.push_back({"Changes near by or far away act otherwise on enhanced than on the baseline",
                    std::to_string(inside_apart) + " of " + std::to_string(inside) +
                        " cases inside the window differ, " + std::to_string(outside_apart) +
                        " of " + std::to_string(outside) + " outside",
                    inside_apart + outside_apart == 0 ? "no difference found" : "in some cases"});
}

void report_boundaries(const StudyResults& results, const StudyConfig& study, Page& page,
                       std::vector<Claim>& claims) {
  if (!results.any_measured("boundaries")) return;
  page.heading(2, "Boundaries");
  for (const auto& table : kTables) add_gates(results, study, table, page, claims);
  add_perturbations(results, study, page, claims);
}

}  // namespace

extern const Study kBoundaries{
    .name = "boundaries",
    .question = "does the gate see borders?",
    .measures =
        "gates after the ends of words, phrases, sentences and paragraphs and at the names "
        "of stories' people, beside matched positions; losses where nearby or distant tokens are "
        "changed",
    .measure = measure_boundaries,
    .report = report_boundaries};

}  // namespace rwkvx
