#include <algorithm>
#include <cmath>

#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/cores/cost.h"
#include "rwkvx/report/plot.h"
#include "study/results.h"

namespace rwkvx {
namespace {

struct Scored {
  std::vector<double> losses, perplexities, rouge1, rouge_l, bleu;
  double parameters = 0;
};

Scored scored(const StudyResults& results, const std::string& data, const std::string& variant) {
  Scored out;
  for (const auto seed : results.seeds(data, {variant})) {
    const auto& one = *results.training(variant, data, seed);
    out.parameters = one.at("parameters");
    out.losses.push_back(compensated_mean(values_at(one, {"window_losses"})));
    out.perplexities.push_back(std::exp(out.losses.back()));
    out.rouge1.push_back(100 * compensated_mean(values_at(one, {"scores", "rouge1"})));
    out.rouge_l.push_back(100 * compensated_mean(values_at(one, {"scores", "rougeL"})));
    out.bleu.push_back(one.at("scores").at("corpus_bleu"));
  }
  return out;
}

// Of a training step, over the baseline's: "1.012 (0.990 to 1.034)".
std::string step_time(const StudyResults& results, const std::string& variant) {
  const auto* study = find_study(results.file(), "complexity");
  if (study == nullptr) return "–";
  for (const auto& data : study->data) {
    const auto* found = results.measured("complexity", data, results.file().seeds.front());
    if (found == nullptr || !found->at("steps").contains(variant)) continue;
    const auto one = found->at("steps").at(variant).get<std::vector<double>>(),
               base = found->at("steps").at(kBaseline).get<std::vector<double>>();
    std::vector<double> ratios;
    for (std::size_t i = 0; i < one.size(); ++i) ratios.push_back(one[i] / base[i]);
    return fixed_text(median(ratios), 3) + " (" + range_text(ratios, 3) + ")";
  }
  return "–";
}

PlotLine training_curve(const StudyResults& results, const std::string& data,
                        const std::string& variant) {
  PlotLine line;
  line.name = variant;
  const auto seeds = results.seeds(data, {variant});
  for (const auto seed : seeds) {
    const auto& log = results.training(variant, data, seed)->at("log");
    for (std::size_t i = 0; i < log.at("steps").size(); ++i) {
      if (line.points.size() <= i) line.points.push_back({log.at("steps")[i].get<double>(), 0});
      line.points[i].y += log.at("losses")[i].get<double>() / static_cast<double>(seeds.size());
    }
  }
  return line;
}

// What is asked of the enhancement's parts.
struct Part {
  const char *question, *from, *to;
};
constexpr Part kParts[] = {
    {"The convolution alone lowers the loss", kBaseline, "convolution"},
    {"The gate alone lowers the loss", kBaseline, "gate"},
    {"A gate on the convolution lowers the loss further", "convolution", "no position"},
    {"Knowing the position lowers the loss further", "no position", kEnhanced},
    {"The whole enhancement lowers the loss", kBaseline, kEnhanced},
    {"It lowers the loss more than as many parameters elsewhere", "wider baseline", kEnhanced}};

bool is_part(const std::string& variant) {
  return std::ranges::any_of(
      kParts, [&](const Part& part) { return variant == part.from || variant == part.to; });
}

void add_parts(const StudyResults& results, const std::string& data, Page& page,
               std::vector<Claim>& claims) {
  std::vector<const Part*> there;
  std::vector<Difference> differences;
  std::vector<double> ps;
  for (const auto& part : kParts) {
    if (results.seeds(data, {part.from, part.to}).empty()) continue;
    there.push_back(&part);
    differences.push_back(compare_variants(results, data, part.from, part.to, {"window_losses"}));
    ps.push_back(differences.back().p);
  }
  if (there.empty()) return;
  const auto adjusted = holm_adjusted(ps);
  page.heading(3, "What each part adds, on " + data);
  ResultTable table;
  table.columns = {
      "from", "to",    "difference of the loss", "95 % over seeds and windows", "by seed",
      "d",    "p Holm"};
  for (std::size_t i = 0; i < there.size(); ++i) {
    const auto& paired = differences[i];
    table.rows.push_back({there[i]->from, there[i]->to, signed_text(paired.difference, 3),
                          interval_text(paired.low, paired.high, 4),
                          range_text(differences[i].by_seed, 4), fixed_text(paired.effect_size, 2),
                          p_text(adjusted[i])});
    const auto answer = verdict(differences[i], adjusted[i]);
    claims.push_back({std::string(there[i]->question) + " (" + data + ")",
                      signed_text(paired.difference, 3) + " nats, seeds " +
                          range_text(differences[i].by_seed, 4) + ", p Holm " + p_text(adjusted[i]),
                      (answer == "lower"    ? "yes"
                       : answer == "higher" ? "no: it is higher"
                                            : answer) +
                          (paired.by_seed.size() == 1 ? ", with this one seed" : ""),
                      difference_numbers(paired)});
  }
  page.table(table);
}

// Variants of the enhancement that are no parts of it, beside the default one: a better default is
// below it on every text, with an interval clear of zero.
void add_defaults(const StudyResults& results, const StudyConfig& study, Page& page,
                  std::vector<Claim>& claims) {
  struct Compared {
    std::string variant, data;
    Difference difference;
  };
  std::vector<Compared> all;
  std::vector<double> ps;
  for (const auto& variant : study.variants) {
    const bool everywhere = std::ranges::all_of(study.data, [&](const auto& data) {
      return !results.seeds(data, {kEnhanced, variant}).empty();
    });
    if (is_part(variant) || !everywhere) continue;
    for (const auto& data : study.data) {
      all.push_back(
          {variant, data, compare_variants(results, data, kEnhanced, variant, {"window_losses"})});
      ps.push_back(all.back().difference.p);
    }
  }
  if (all.empty()) return;
  const auto adjusted = holm_adjusted(ps);
  page.heading(3, "Variants beside the default enhancement");
  ResultTable table;
  table.columns = {"variant", "data",  "loss minus that of enhanced", "95 % over seeds and windows",
                   "by seed", "p Holm"};
  for (std::size_t begin = 0; begin < all.size(); begin += study.data.size()) {
    bool one_seed = false;
    std::size_t below = 0;
    std::string others;  // names of data
    for (std::size_t i = begin; i < begin + study.data.size(); ++i) {
      const auto& [variant, data, difference] = all[i];
      table.rows.push_back({variant, data, signed_text(difference.difference, 3),
                            interval_text(difference.low, difference.high, 4),
                            range_text(difference.by_seed, 4), p_text(adjusted[i])});
      if (difference.high < 0)
        ++below;
      else
        others += (others.empty() ? "" : ", ") + data;
      one_seed = one_seed || difference.by_seed.size() == 1;
    }
    std::string answer = others.empty() ? "yes" : "no: not on " + others;
    if (one_seed) answer += ", with this one seed";
    claims.push_back({all[begin].variant + " is below enhanced on every text",
                      "on " + std::to_string(below) + " of " + std::to_string(study.data.size()) +
                          " with an interval clear of zero",
                      answer,
                      {}});
  }
  page.text("Over the same seeds and windows; negative is better than \"enhanced\".");
  page.table(table);
}

void report_ablation(const StudyResults& results, const StudyConfig& study, Page& page,
                     std::vector<Claim>& claims) {
  page.heading(2, "Ablation");
  for (const auto& data : study.data) {
    if (results.seeds(data, {kBaseline}).empty()) continue;
    const auto base = scored(results, data, kBaseline);
    ResultTable losses, texts;
    losses.columns = {"variant",    "parameters",     "loss, nats per token",
                      "perplexity", "minus baseline", "95 % over seeds and windows",
                      "by seed",    "p Holm",         "step time"};
    texts.columns = {"variant",
                     "ROUGE-1",
                     "ROUGE-L",
                     "BLEU",
                     "ROUGE-L minus baseline",
                     "95 % over seeds and prompts",
                     "by seed",
                     "p Holm"};
    std::vector<std::string> names;
    std::vector<Difference> of_loss, of_rouge;
    std::vector<double> p_loss, p_rouge;
    for (const auto& variant : study.variants) {
      if (variant == kBaseline || results.seeds(data, {kBaseline, variant}).empty()) continue;
      names.push_back(variant);
      of_loss.push_back(compare_variants(results, data, kBaseline, variant, {"window_losses"}));
      of_rouge.push_back(compare_variants(results, data, kBaseline, variant, {"scores", "rougeL"}));
      p_loss.push_back(of_loss.back().p);
      p_rouge.push_back(of_rouge.back().p);
    }
    const auto holm_loss = holm_adjusted(p_loss), holm_rouge = holm_adjusted(p_rouge);
    std::vector<PlotBar> bars;
    const auto add = [&](const std::string& variant, std::size_t i, bool compared) {
      const auto one = scored(results, data, variant);
      const std::string more = fixed_text(100 * (one.parameters / base.parameters - 1), 2);
      std::vector<std::string> row = {
          variant, count_text(std::llround(one.parameters)) + " (+" + more + " %)",
          spread_text(one.losses, 4), spread_text(one.perplexities, 3)};
      std::vector<std::string> text_row = {variant, spread_text(one.rouge1, 2),
                                           spread_text(one.rouge_l, 2), spread_text(one.bleu, 2)};
      if (compared) {
        const auto &loss = of_loss[i], &rouge = of_rouge[i];
        row.insert(row.end(),
                   {signed_text(loss.difference, 3), interval_text(loss.low, loss.high, 4),
                    range_text(of_loss[i].by_seed, 4), p_text(holm_loss[i])});
        auto seeds = of_rouge[i].by_seed;
        for (auto& value : seeds) value *= 100;
        text_row.insert(text_row.end(), {signed_text(100 * rouge.difference, 3),
                                         interval_text(100 * rouge.low, 100 * rouge.high, 2),
                                         range_text(seeds, 2), p_text(holm_rouge[i])});
        bars.push_back({variant, loss.difference, loss.low, loss.high});
      } else {
        row.insert(row.end(), {"", "", "", ""});
        text_row.insert(text_row.end(), {"", "", "", ""});
      }
      row.push_back(step_time(results, variant));
      losses.rows.push_back(row);
      texts.rows.push_back(text_row);
    };
    add(kBaseline, 0, false);
    for (std::size_t i = 0; i < names.size(); ++i) add(names[i], i, true);
    page.heading(3, "Loss on " + data);
    page.text(
        "Mean ± standard deviation over the seeds. The interval and p are of a hierarchical "
        "bootstrap over the seeds and the windows of the test text (of one seed alone: over the "
        "windows); \"by seed\" is the range of the differences of single seeds. Step "
        "time is that of a batch's gradients over the baseline's, by turns, from the "
        "complexity study: median and range.");
    page.table(losses);
    page.figure("ablation-" + data + ".svg",
                svg_intervals({"Loss minus the baseline's, " + data,
                               "nats per token, 95 % over seeds and windows", ""},
                              bars),
                "Below 0 is better. Gray intervals hold 0.");
    std::vector<PlotLine> curves;
    for (const std::string variant : {"baseline", "convolution", "gate", "enhanced"})
      if (!results.seeds(data, {variant}).empty())
        curves.push_back(training_curve(results, data, variant));
    page.figure("curves-" + data + ".svg",
                svg_lines({"Training loss, " + data, "step", "nats per token", false}, curves),
                "Means over the seeds.");
    page.heading(3, "Continuations on " + data);
    page.table(texts);
    add_parts(results, data, page, claims);
  }
  add_defaults(results, study, page, claims);
}

}  // namespace

extern const Study kAblation{
    .name = "ablation",
    .question = "what does each part of the enhancement add?",
    .measures =
        "loss, perplexity, BLEU, ROUGE-1 and -L of continuations, parameters, training speed",
    .repeats = true,
    .without_enhanced = true,
    .report = report_ablation};

}  // namespace rwkvx
