#include "rwkvx/report/html.h"

#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

constexpr std::string_view kLightColors =
    ":root{color-scheme:light dark;--ink:#1c1e21;--paper:#fff;--line:#d5d8dd;--soft:#f3f4f6;"
    "--mark:#cfe8d4;--s0:#2563a8;--s1:#c2570c;--s2:#2e7d32;--s3:#8e3fa8;--s4:#8a6d00;--s5:#5f6b7a}";
constexpr std::string_view kStyle =
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--paper:#16181c;--line:#3a3f46;"
    "--soft:#22262b;--mark:#24533a;--s0:#6ea8e6;--s1:#f0975a;--s2:#7fc884;--s3:#cf8fe6;"
    "--s4:#d9bb4a;--s5:#a5b0bd}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);"
    "max-width:60rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;"
    "margin-top:2.2rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    ".wide{overflow-x:auto}th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);"
    "text-align:right}th:first-child,td:first-child,.texts td,.texts "
    "th{text-align:left}th{font-weight:600}"
    "code{font-size:.85em;overflow-wrap:anywhere;background:var(--soft);padding:.1em .3em}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin:.6rem 0 1.4rem}"
    ".pair>div{background:var(--soft);padding:.6rem .8rem;border-radius:4px;"
    "white-space:pre-wrap;overflow-wrap:anywhere}.pair b{display:block;font-size:.8rem}"
    "mark{background:var(--mark);color:inherit;border-radius:2px}"
    // On a narrow screen a plot is moved to and fro in its frame, its letters stay readable.
    "svg{display:block;min-width:672px;max-width:100%;height:auto;margin:1rem 0}"
    "@media(max-width:36rem){.pair{grid-template-columns:1fr}}";
constexpr std::string_view kPlotStyle =
    "svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .title{font-weight:600;"
    "font-size:14px}svg .axis{stroke:var(--line);stroke-width:1;fill:none}"
    "svg .line{fill:none;stroke-width:2}svg .error{stroke:var(--ink);stroke-width:1.5;fill:none}";

}  // namespace

std::string escape_html(std::string_view text) {
  const auto clean = replace_invalid_utf8(text);
  std::string html;
  for (const char c : clean) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default: {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f)
          html += "\ufffd";
        else
          html += c;
      }
    }
  }
  return html;
}

std::string html_page(std::string_view title, std::string_view body, std::string_view head) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>" +
         escape_html(title) + "</title><style>" + std::string(kLightColors) + std::string(kStyle) +
         std::string(kPlotStyle) + "</style>" + std::string(head) + "</head>\n<body><h1>" +
         escape_html(title) + "</h1>\n" + std::string(body) + "</body></html>\n";
}

std::string svg_file(std::string_view svg) {
  const auto begin = svg.find("<svg "), last = svg.rfind("</svg>");
  if (begin == std::string_view::npos || last == std::string_view::npos) return std::string(svg);
  svg = svg.substr(begin, last + 6 - begin);
  const auto end = svg.find('>');
  std::string file = "<svg xmlns=\"http://www.w3.org/2000/svg\" " +
                     std::string(svg.substr(5, end - 4)) + "<style>" + std::string(kPlotStyle) +
                     "</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>" +
                     std::string(svg.substr(end + 1));
  // Not every program that shows SVG knows variables.
  for (auto at = file.find("var(--"); at != std::string::npos; at = file.find("var(--", at)) {
    const auto close = file.find(')', at);
    const auto name = file.substr(at + 4, close - at - 4) + ":";  // "--s0:"
    const auto value = kLightColors.find(name) + name.size();
    const auto color = kLightColors.substr(value, kLightColors.find_first_of(";}", value) - value);
    file.replace(at, close + 1 - at, color);
  }
  return file;
}

std::string html_section(std::string_view heading, std::string_view body) {
  return "<h2>" + escape_html(heading) + "</h2>\n" + std::string(body) + "\n";
}

std::string html_table(const std::vector<std::string>& columns,
                       const std::vector<std::vector<std::string>>& rows, bool all_left) {
  std::string html =
      std::string("<div class=\"wide\"><table") + (all_left ? " class=\"texts\"" : "") + "><tr>";
  for (const auto& column : columns) html += "<th>" + escape_html(column) + "</th>";
  html += "</tr>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (const auto& cell : row) html += "<td>" + escape_html(cell) + "</td>";
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

}  // namespace rwkvx
