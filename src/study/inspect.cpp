#include "rwkvx/study/inspect.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/report/html.h"
#include "rwkvx/report/page.h"
#include "rwkvx/report/table.h"
#include "rwkvx/study/gates.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

const std::vector<std::int64_t> kPositions{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024};

std::vector<double> numbers(const at::Tensor& values) {
  const auto flat = values.to(torch::kFloat64).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

ordered_json quantiles_of(const at::Tensor& of_channels) {
  auto values = numbers(of_channels);
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) { return nearest_quantile(values, share); };
  return {
      {"least", at(0)}, {"10 %", at(0.1)}, {"50 %", at(0.5)}, {"90 %", at(0.9)}, {"most", at(1)}};
}

// A shade for a value between the least and the largest one.
std::string shade(double value, double low, double high) {
  const double share = high > low ? (value - low) / (high - low) : 0.5;
  return "background:rgba(37,99,168," + fixed_text(0.05 + 0.75 * share, 2) + ")";
}

std::string visible(const std::string& piece) {
  std::string text;
  for (const char c : piece)
    if (c == '\n')
      text += "↵\n";
    else
      text += c;
  return escape_html(text);
}

std::string colored_text(const ordered_json& tokens, const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  std::string html = "<div style=\"white-space:pre-wrap;line-height:1.7\">";
  for (std::size_t i = 0; i < values.size(); ++i)
    html += "<span title=\"" + fixed_text(values[i], 4) + "\" style=\"" +
            shade(values[i], *low, *high) + "\">" + visible(tokens[i].get<std::string>()) +
            "</span>";
  return html + "</div><p>From " + fixed_text(*low, 4) + " (light) to " + fixed_text(*high, 4) +
         " (dark).</p>\n";
}

// Rows of numbers, each cell shaded between the least and the largest of its row.
std::string heat_table(const std::vector<std::string>& columns,
                       const std::vector<std::string>& names,
                       const std::vector<std::vector<double>>& rows) {
  std::string html = "<div class=\"wide\"><table><tr>";
  for (const auto& column : columns) html += "<th>" + escape_html(column) + "</th>";
  html += "</tr>\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto [low, high] = std::minmax_element(rows[r].begin(), rows[r].end());
    html += "<tr><td>" + escape_html(names[r]) + "</td>";
    for (const double value : rows[r])
      html += "<td style=\"" + shade(value, *low, *high) + "\">" + number_text(value, 3) + "</td>";
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

// Sites below one another, tokens side by side.
std::string gate_map(const ordered_json& sites, std::size_t tokens) {
  constexpr double kLabels = 110, kRow = 16;
  const double width = 720, cell = (width - kLabels) / static_cast<double>(tokens);
  const double height = kRow * static_cast<double>(sites.size()) + 4;
  std::string svg = "<div class=\"wide\"><svg viewBox=\"0 0 720 " + fixed_text(height, 0) +
                    "\" width=\"720\" role=\"img\" aria-label=\"gate by site and token\">";
  for (std::size_t r = 0; r < sites.size(); ++r) {
    const auto values = sites[r].at("gate").get<std::vector<double>>();
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const double y = kRow * static_cast<double>(r);
    svg += "<text x=\"0\" y=\"" + fixed_text(y + 12, 0) + "\">" +
           escape_html(sites[r].at("site").get<std::string>()) + "</text>";
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double share = *high > *low ? (values[i] - *low) / (*high - *low) : 0.5;
      svg += "<rect x=\"" + fixed_text(kLabels + cell * static_cast<double>(i), 2) + "\" y=\"" +
             fixed_text(y, 0) + "\" width=\"" + fixed_text(cell + 0.2, 2) +
             "\" height=\"15\" style=\"fill:var(--s0);opacity:" + fixed_text(share, 2) + "\"/>";
    }
  }
  return svg + "</svg></div>\n";
}

std::string gates_section(const ordered_json& inspection) {
  const auto& sites = inspection.at("sites");
  const auto& tokens = inspection.at("tokens");
  if (sites.empty()) return "<p>This model has no shift.</p>\n";
  std::vector<double> mean(tokens.size());
  std::vector<std::vector<std::string>> rows;
  for (const auto& site : sites) {
    const auto gate = site.at("gate").get<std::vector<double>>();
    const auto share = site.at("share").get<std::vector<double>>();
    double sum = 0, added = 0;
    for (std::size_t i = 0; i < gate.size(); ++i) {
      mean[i] += gate[i] / static_cast<double>(sites.size());
      sum += gate[i], added += share[i];
    }
    const auto [low, high] = std::minmax_element(gate.begin(), gate.end());
    const auto count = static_cast<double>(gate.size());
    rows.push_back({site.at("site"), fixed_text(sum / count, 4), fixed_text(*low, 4),
                    fixed_text(*high, 4), fixed_text(added / count, 4)});
  }
  std::string html = html_section(
      "Gate, mean over sites and channels",
      "<p>The darker a token, the more of the shift goes on.</p>\n" + colored_text(tokens, mean));
  html += html_section("Gate by site and token",
                       "<p>Each row from its least (white) to its largest value.</p>\n" +
                           gate_map(sites, tokens.size()));
  return html +
         html_table({"site", "mean gate", "least", "largest", "added, share of the input"}, rows);
}

// Quantiles over the channels, a row for each layer; nothing where a model has none.
std::string layers_section(const std::string& title, const ordered_json& layers,
                           const std::string& member) {
  if (layers.empty()) return "";
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : layers) {
    auto& row = rows.emplace_back();
    row.push_back(std::to_string(one.at("layer").get<std::int64_t>()));
    for (const auto& item : one.at(member).items())
      row.push_back(number_text(item.value().get<double>(), 3));
  }
  return html_section(title,
                      "<p>Over the channels of each layer.</p>\n" +
                          html_table({"layer", "least", "10 %", "50 %", "90 %", "most"}, rows));
}

}  // namespace

ordered_json inspect_model(RwkvImpl& model, const Tokenizer& tokenizer, std::string_view text) {
  const auto placed = place_tokens(tokenizer, text);
  if (placed.ids.empty()) throw DataError("the text", "has no tokens");
  auto tokens = ordered_json::array(), sites = ordered_json::array(),
       kernels = ordered_json::array(), lives = ordered_json::array(),
       rates = ordered_json::array();
  for (const auto id : placed.ids) tokens.push_back(replace_invalid_utf8(tokenizer.piece(id)));
  for (const auto& site : read_gates(model, placed.row()))
    sites.push_back({{"site", site.name},
                     {"gate", numbers(site.gate.mean(1))},
                     {"share", numbers(site.share)}});
  for (std::int64_t layer = 0; layer < model.config().n_layer; ++layer) {
    const auto& block = model.block(layer);
    for (const auto& [name, site] : block.shifts()) {
      const auto taps = taps_by_position(model.config(), site, kPositions);
      if (!taps.empty())
        kernels.push_back(
            {{"site", block_prefix(layer) + name}, {"positions", kPositions}, {"taps", taps}});
    }
    if (const auto found = block.half_lives(); found.defined())
      lives.push_back({{"layer", layer}, {"tokens", quantiles_of(found)}});
    if (const auto found = block.in_context_rates(); found.defined())
      rates.push_back({{"layer", layer}, {"rates", quantiles_of(found)}});
  }
  return {{"tokens", tokens},
          {"sites", sites},
          {"kernels", kernels},
          {"half_lives", lives},
          {"in_context_rates", rates}};
}

std::string inspection_page(const ordered_json& inspection, const std::string& title) {
  std::string body = gates_section(inspection);
  std::string kernels;
  for (const auto& kernel : inspection.at("kernels")) {
    std::vector<std::string> columns{"position"}, names;
    for (std::size_t lag = 0; lag < kernel.at("taps")[0].size(); ++lag)
      columns.push_back("lag " + std::to_string(lag));
    std::vector<std::vector<double>> rows;
    for (std::size_t i = 0; i < kernel.at("positions").size(); ++i) {
      names.push_back(std::to_string(kernel.at("positions")[i].get<std::int64_t>()));
      rows.push_back(kernel.at("taps")[i].get<std::vector<double>>());
    }
    kernels += "<h3>" + escape_html(kernel.at("site").get<std::string>()) + "</h3>\n" +
               heat_table(columns, names, rows);
  }
  if (!kernels.empty())
    body += html_section("Kernel by position",
                         "<p>Root mean square over the channels of each tap, times what the "
                         "position makes of it; lag 0 is the current token.</p>\n" +
                             kernels);
  body += layers_section("Half-life of the memory, tokens", inspection.at("half_lives"), "tokens");
  body += layers_section("In-context learning rate", inspection.at("in_context_rates"), "rates");
  return html_page(title, body);
}

}  // namespace rwkvx
