#include "rwkvx/report/run_page.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>
#include <system_error>

#include "rwkvx/base/progress.h"
#include "rwkvx/report/html.h"
#include "rwkvx/report/page.h"
#include "rwkvx/report/plot.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr char kStyle[] =
    "<style>body{max-width:84rem}.plots{display:grid;gap:.2rem 1.4rem;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,23rem),1fr))}.plots "
    "svg{min-width:0;width:100%}figure{margin:0}.key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;"
    "margin:1rem 0;overflow-wrap:anywhere}.key svg,td svg{display:inline-block;min-width:0;"
    "width:28px;flex:none;margin:0 .4rem 0 0;vertical-align:middle}figcaption,.note{font-size:"
    ".85rem}summary{cursor:pointer}table{font-size:.9rem;white-space:nowrap}svg "
    ".line{stroke-width:1.6}"
    ".runs "
    "td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:7rem;max-width:16rem}</"
    "style>";

// Of more range than this, a curve of positive numbers is drawn on a log scale.
constexpr double kWideRange = 30;
constexpr std::size_t kMostDifferences = 40, kLongestSetting = 60;
constexpr double kGiB = 1073741824.0, kMiB = 1048576.0;

// How a field of the log is shown. Fields without a row have a plot of their own name at the end.
struct FieldRow {
  const char* field;
  const char* title;
  bool bytes = false;
  bool may_be_log = false;
};
constexpr FieldRow kFields[] = {
    {"loss", "Training loss, nats per token", false, true},
    {"valid_loss", "Validation loss, nats per token", false, true},
    {"ema_valid_loss", "Validation loss of the averaged weights", false, true},
    {"valid_perplexity", nullptr},  // says nothing that the loss does not
    {"rouge_l", "ROUGE-L of generated responses"},
    {"learning_rate", "Learning rate"},
    {"grad_norm", "Gradient norm, before clipping", false, true},
    {"tokens_per_second", "Tokens per second"},
    {"peak_memory_bytes", "Peak memory", true},
    {"peak_device_memory_bytes", "Peak memory on the GPU", true},
};

// What stands on the x axis.
struct XAxis {
  bool tokens;
  double unit;
  const char* label;
};

XAxis x_axis(const std::vector<RunLog>& runs, bool by_tokens) {
  if (!by_tokens) return {false, 1, "step"};
  double most = 0;
  for (const auto& run : runs)
    if (std::isfinite(run.last_tokens())) most = std::max(most, run.last_tokens());
  if (most >= 1e10) return {true, 1e9, "billion tokens"};
  return most >= 1e6 ? XAxis{true, 1e6, "million tokens"} : XAxis{true, 1, "tokens"};
}

PlotLine line_of(const LogSeries& series, const XAxis& axis, double unit) {
  PlotLine line;
  for (const auto& point : series.points()) {
    const double x = axis.tokens ? point.tokens / axis.unit : static_cast<double>(point.step);
    if (!std::isfinite(x)) continue;
    line.points.push_back({x, point.mean() / unit, point.low / unit, point.high / unit});
  }
  return line;
}

bool is_wide(const std::vector<PlotLine>& lines) {
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const auto& line : lines)
    for (const auto& point : line.points) {
      low = std::min({low, point.y, point.low});
      high = std::max({high, point.y, point.high});
    }
  return low > 0 && high > kWideRange * low;
}

std::string figure(const std::string& svg, const std::string& caption = "") {
  return "<figure>" + svg +
         (caption.empty() ? "" : "<figcaption>" + escape_html(caption) + "</figcaption>") +
         "</figure>\n";
}

// One field of all runs; nothing where no run has it.
std::string field_plot(const std::vector<RunLog>& runs, const FieldRow& row, const XAxis& axis) {
  std::vector<PlotLine> lines;
  double most = 0;
  for (const auto& run : runs)
    if (const auto* series = run.find(row.field))
      for (const auto& point : series->points()) most = std::max(most, point.high);
  const double unit = !row.bytes ? 1 : most >= kGiB ? kGiB : kMiB;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto* series = runs[i].find(row.field);
    if (series == nullptr) continue;
    lines.push_back(line_of(*series, axis, unit));
    lines.back().color = plot_color(i);
    lines.back().dashes = plot_dashes(i);
  }
  if (lines.empty()) return "";
  const std::string title = std::string(row.title) + (!row.bytes     ? ""
                                                      : unit == kGiB ? ", GiB"
                                                                     : ", MiB");
  return figure(svg_lines({.title = title,
                           .x_label = axis.label,
                           .y_label = "",
                           .y_is_log10 = row.may_be_log && is_wide(lines),
                           .small = true},
                          lines));
}

std::string field_plots(const std::vector<RunLog>& runs, const XAxis& axis) {
  std::string html;
  std::set<std::string> known;
  for (const auto& row : kFields) {
    known.insert(row.field);
    if (row.title != nullptr) html += field_plot(runs, row, axis);
  }
  std::set<std::string> others;
  for (const auto& run : runs)
    for (const auto& [name, series] : run.numbers())
      if (!known.contains(name)) others.insert(name);
  for (const auto& name : others) html += field_plot(runs, {name.c_str(), name.c_str()}, axis);
  return html;
}

// A piece of a run's line, for keys and tables.
std::string sample_of_line(std::size_t i) {
  const auto dashes = plot_dashes(i);
  return "<svg viewBox=\"0 0 28 10\" width=\"28\" height=\"10\" aria-hidden=\"true\"><path "
         "d=\"M1 5H27\" style=\"fill:none;stroke-width:3;stroke:" +
         plot_color(i) + (dashes.empty() ? "" : ";stroke-dasharray:" + dashes) + "\"/></svg>";
}

std::string key_of(const std::vector<std::string>& names) {
  std::string html = "<div class=\"key\">";
  for (std::size_t i = 0; i < names.size(); ++i)
    html += "<span>" + sample_of_line(i) + escape_html(names[i]) + "</span>";
  return html + "</div>\n";
}

// "rwkv7, 6 × 256" as far as the settings say so.
std::string model_text(const RunLog& run) {
  const auto& settings = run.settings();
  const auto value = [&](const char* path) {
    const auto found = settings.find(path);
    return found == settings.end() ? std::string() : found->second;
  };
  const auto core = value("model.core"), layers = value("model.n_layer"),
             width = value("model.n_embd"), shift = value("model.shift.kind");
  std::string text = core;
  if (!layers.empty() && !width.empty())
    text += (text.empty() ? "" : ", ") + layers + " × " + width;
  if (!shift.empty() && shift != "none") text += (text.empty() ? "" : ", ") + shift;
  return text.size() > kLongestSetting ? "" : text;
}

std::string count_or_dash(double value) {
  return std::isfinite(value) && std::abs(value) < 1e18 ? count_text(std::llround(value)) : "–";
}

std::string runs_table(const std::vector<RunLog>& runs, const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto& run = runs[i];
    const auto last = [&](const char* field) {
      const auto* series = run.find(field);
      return series == nullptr ? std::numeric_limits<double>::quiet_NaN() : series->last();
    };
    const double best = run.best_valid_loss(), memory = last("peak_memory_bytes");
    const double steps = run.setting_number("train.max_steps");
    auto step = run.last_step() < 0 ? "–" : count_text(run.last_step());
    if (steps > 0) step += " of " + count_or_dash(steps);
    rows.push_back(
        {names[i], step, number_text(last("loss")), number_text(last("valid_loss")),
         std::isfinite(best) ? number_text(best) + " at step " + count_text(run.best_step()) : "–",
         count_or_dash(run.last_tokens()), count_or_dash(last("tokens_per_second")),
         std::isfinite(memory) ? bytes_text(memory) : "–", model_text(run)});
  }
  return "<div class=\"runs\">" +
         html_table({"run", "step", "loss", "validation", "best validation", "tokens", "tokens/s",
                     "peak memory", "model"},
                    rows) +
         "</div>\n";
}

std::string setting_text(const RunLog& run, const std::string& path) {
  const auto found = run.settings().find(path);
  if (found == run.settings().end()) return "–";
  if (found->second.size() <= kLongestSetting) return found->second;
  return found->second.substr(0, kLongestSetting) + "…";
}

// The settings in which runs differ, a column for each run.
std::string differences(const std::vector<RunLog>& runs, const std::vector<std::string>& names) {
  std::set<std::string> paths;
  for (const auto& run : runs)
    for (const auto& [path, value] : run.settings()) paths.insert(path);
  paths.erase("train.output");
  std::vector<std::vector<std::string>> rows;
  std::size_t left_out = 0;
  for (const auto& path : paths) {
    const auto value = [&](const RunLog& run) {
      const auto found = run.settings().find(path);
      return found == run.settings().end() ? std::string() : found->second;
    };
    // A run without settings differs in nothing.
    const RunLog* first = nullptr;
    bool differs = false;
    for (const auto& run : runs) {
      if (run.settings().empty()) continue;
      if (first == nullptr) first = &run;
      differs = differs || value(run) != value(*first);
    }
    if (!differs) continue;
    if (rows.size() >= kMostDifferences) {
      ++left_out;
      continue;
    }
    rows.push_back({path});
    for (const auto& run : runs) rows.back().push_back(setting_text(run, path));
  }
  if (rows.empty()) return "";
  std::vector<std::string> columns = {"setting"};
  columns.insert(columns.end(), names.begin(), names.end());
  auto html = html_table(columns, rows, /*all_left=*/true);
  if (left_out > 0) html += "<p class=\"note\">and " + std::to_string(left_out) + " more</p>\n";
  return html_section("Settings that differ", html);
}

// From blue at the first block to red at the last one.
std::string depth_color(std::size_t i, std::size_t count) {
  const double share = count < 2 ? 0 : static_cast<double>(i) / static_cast<double>(count - 1);
  return "hsl(" + std::to_string(std::lround(230 * (1 - share))) + ",65%,52%)";
}

std::string gates_section(const RunLog& run, const std::string& name, const XAxis& axis) {
  const auto& gates = run.gates();
  std::vector<std::string> blocks;
  const auto block_of = [](const std::string& site) { return site.substr(0, site.rfind('.')); };
  for (const auto& [site, series] : gates)
    if (blocks.empty() || blocks.back() != block_of(site)) blocks.push_back(block_of(site));
  const auto plot = [&](const std::string& title, LogSeries GateSeries::*member) {
    std::vector<PlotLine> lines;
    std::size_t block = 0;
    for (const auto& [site, series] : gates) {
      while (block + 1 < blocks.size() && blocks[block] != block_of(site)) ++block;
      auto line = line_of(series.*member, axis, 1);
      line.color = depth_color(block, blocks.size());
      if (site.ends_with("ffn")) line.dashes = "5 3";
      lines.push_back(std::move(line));
    }
    return figure(
        svg_lines({.title = title, .x_label = axis.label, .y_label = "", .small = true}, lines));
  };
  std::vector<std::vector<std::string>> rows;
  for (const auto& [site, series] : gates)
    rows.push_back({site, number_text(series.mean.last()), number_text(series.low.last()),
                    number_text(series.high.last()), number_text(series.open.last()),
                    number_text(series.added.last())});
  return html_section(
      "Gates of " + name,
      "<p class=\"note\">On the first validation window. Colors go from blue at the first block to "
      "red at the last; att solid, ffn dashed.</p>\n<div class=\"plots\">" +
          plot("Mean of the gate", &GateSeries::mean) +
          plot("Share of gate values above 0.5", &GateSeries::open) +
          plot("Smallest gate", &GateSeries::low) + plot("Largest gate", &GateSeries::high) +
          plot("What the shift adds, relative to its input", &GateSeries::added) +
          "</div>\n<details><summary>Latest values</summary>" +
          html_table({"site", "mean", "min", "max", "open", "added"}, rows) + "</details>\n");
}

std::string notes(const std::vector<RunLog>& runs, const std::vector<std::string>& names,
                  bool by_tokens) {
  std::string html;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    std::string note;
    if (runs[i].skipped() > 0)
      note = count_text(runs[i].skipped()) + " of " + count_text(runs[i].lines()) +
             " lines are not log lines of a run and were skipped";
    else if (runs[i].lines() == 0)
      note = "nothing is logged yet";
    else if (by_tokens && !std::isfinite(runs[i].last_tokens()))
      note = "the log has no tokens; use --x steps";
    if (!note.empty())
      html += "<p class=\"note\">" + escape_html(names[i] + ": " + note) + "</p>\n";
  }
  return html;
}

}  // namespace

std::vector<std::string> run_names(const std::vector<RunLog>& runs) {
  std::vector<std::vector<std::string>> parts;
  for (const auto& run : runs) {
    std::error_code ignored;
    auto path = fs::absolute(run.directory(), ignored).lexically_normal();
    auto& list = parts.emplace_back();
    for (const auto& part : path)
      if (!part.empty() && part != "/") list.push_back(part.string());
    if (list.empty()) list.push_back("/");
  }
  std::vector<std::size_t> taken(runs.size(), 1);
  const auto name = [&](std::size_t i) {
    const auto& list = parts[i];
    std::string text;
    for (auto k = list.size() - taken[i]; k < list.size(); ++k)
      text += (text.empty() ? "" : "/") + list[k];
    return text;
  };
  for (bool again = true; again;) {
    again = false;
    std::map<std::string, std::vector<std::size_t>> same;
    for (std::size_t i = 0; i < runs.size(); ++i) same[name(i)].push_back(i);
    for (const auto& [text, which] : same) {
      if (which.size() < 2) continue;
      for (const auto i : which)
        if (taken[i] < parts[i].size()) ++taken[i], again = true;
    }
  }
  std::vector<std::string> names;
  for (std::size_t i = 0; i < runs.size(); ++i) names.push_back(name(i));
  return names;
}

std::string run_page(const std::vector<RunLog>& runs, const RunPageOptions& options) {
  const auto names = run_names(runs);
  const auto axis = x_axis(runs, options.by_tokens);
  std::string body;
  if (options.reload_seconds > 0)
    body += "<p class=\"note\">The run is being followed: this page reloads every " +
            std::to_string(options.reload_seconds) + " seconds.</p>\n";
  body += runs_table(runs, names) + notes(runs, names, options.by_tokens);
  if (runs.size() > 1) body += key_of(names);
  const auto plots = field_plots(runs, axis);
  body += plots.empty() ? "<p>Nothing to plot yet.</p>\n"
                        : "<div class=\"plots\">" + plots + "</div>\n";
  bool merged = false;
  for (const auto& run : runs)
    for (const auto& [name, series] : run.numbers())
      merged = merged || (!series.points().empty() && series.points().front().count > 1);
  if (merged)
    body +=
        "<p class=\"note\">Long curves show means of neighboring values, and their range as a "
        "band.</p>\n";
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (!runs[i].gates().empty()) body += gates_section(runs[i], names[i], axis);
  if (runs.size() > 1) body += differences(runs, names);
  std::string head = kStyle;
  if (options.reload_seconds > 0)
    head +=
        "<meta http-equiv=\"refresh\" content=\"" + std::to_string(options.reload_seconds) + "\">";
  return html_page(runs.size() == 1 ? "Training of " + names.front()
                                    : "Training of " + std::to_string(runs.size()) + " runs",
                   body, head);
}

}  // namespace rwkvx
