#include "rwkvx/report/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string_view>

#include "rwkvx/base/utf8.h"
#include "rwkvx/report/html.h"

namespace rwkvx {
namespace {

constexpr double kWidth = 720, kHeight = 340, kTop = 40, kBottom = 52, kLeft = 64, kRight = 26;
constexpr double kSmallWidth = 390, kSmallHeight = 260;
constexpr std::size_t kColors = 6, kMostDots = 40;

// Coordinates with one digit, so that a page's bytes do not hang on the last bits.
std::string place(double value) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.1f", value);
  return digits;
}

std::string shown(double value) {
  char digits[64];
  const bool whole = std::abs(value) < 1e7 && value == std::round(value);
  std::snprintf(digits, sizeof digits, whole ? "%.0f" : "%.4g", value);
  return digits;
}

std::string text_at(double x, double y, const std::string& anchor, const std::string& text,
                    const std::string& more = "") {
  return "<text x=\"" + place(x) + "\" y=\"" + place(y) + "\" text-anchor=\"" + anchor + "\"" +
         more + ">" + escape_html(text) + "</text>";
}

// About what a text takes in the plots' 12 pixels; no font is known here, so rather too much.
double text_width(std::u32string_view text) {
  double width = 0;
  for (const char32_t code : text)
    width += code >= 0x1100                                                ? 13
             : code == 'W' || code == 'M' || code == 'm' || code == '%'    ? 12
             : (code >= 'A' && code <= 'Z') || code >= 0x80 || code == 'w' ? 10
                                                                           : 7;
  return width;
}

std::u32string code_points(std::string_view text) {
  std::vector<std::uint32_t> codes;
  decode_utf8(replace_invalid_utf8(text), codes);
  return {codes.begin(), codes.end()};
}

// `text`, or its two ends where it is wider than `width`: names of files often differ in one only.
std::string shortened(const std::string& text, double width) {
  const auto whole = code_points(text);
  if (text_width(whole) <= width) return text;
  std::string left, right;
  double used = 13;
  for (std::size_t i = 0, k = whole.size(); i < k;) {
    const bool at_left = left.size() < right.size();
    const char32_t code = at_left ? whole[i++] : whole[--k];
    used += text_width({&code, 1});
    if (used > width) break;
    std::string one;
    append_utf8(code, one);
    at_left ? left += one : right.insert(0, one);
  }
  return left + "…" + right;
}

// A name with its whole text for who points at it.
std::string name_at(double x, double y, const std::string& anchor, const std::string& name,
                    double width) {
  const auto shown = shortened(name, width);
  auto html = text_at(x, y, anchor, shown);
  if (shown != name) html.insert(html.rfind("</text>"), "<title>" + escape_html(name) + "</title>");
  return html;
}

// Room for the labels at the left of rows, so that much of a narrow screen is left for the rows.
double label_room(const std::vector<PlotBar>& rows) {
  double room = 60;
  for (const auto& row : rows) room = std::max(room, 12 + text_width(code_points(row.label)));
  return std::min(room, 270.0);
}

std::string line_at(double x1, double y1, double x2, double y2, const std::string& kind) {
  return "<line x1=\"" + place(x1) + "\" y1=\"" + place(y1) + "\" x2=\"" + place(x2) + "\" y2=\"" +
         place(y2) + "\" class=\"" + kind + "\"/>";
}

std::string color(std::size_t i) { return plot_color(i); }

std::string close_svg() { return "</svg></div>\n"; }
std::string open_svg(double height, const std::string& title, double width = kWidth) {
  return "<div class=\"wide\"><svg viewBox=\"0 0 " + place(width) + " " + place(height) +
         "\" width=\"" + place(width) +
         "\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"" +
         escape_html(title) + "\">" + text_at(0, 16, "start", title, " class=\"title\"");
}

bool finite(const PlotPoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }
bool has_band(const PlotPoint& point) {
  return std::isfinite(point.low) && std::isfinite(point.high) && point.low < point.high;
}

}  // namespace

std::string plot_color(std::size_t i) { return "var(--s" + std::to_string(i % kColors) + ")"; }

std::string plot_dashes(std::size_t i) {
  constexpr const char* kDashes[] = {"", "6 3", "2 2", "8 3 2 3"};
  return kDashes[i / kColors % std::size(kDashes)];
}

std::vector<double> plot_ticks(double low, double high, int count) {
  if (!(low < high)) {
    const double room = low == 0 ? 1 : std::abs(low) * 0.1;
    low -= room;
    high += room;
  }
  const double rough = (high - low) / std::max(count, 1);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double times : {1.0, 2.0, 5.0})
    if (times * power >= rough * 0.999) {
      step = times * power;
      break;
    }
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  std::vector<double> ticks;
  for (double k = first; k <= last && ticks.size() < 100; ++k) ticks.push_back(k * step);
  return ticks;
}

namespace {

// What bars and intervals share: labels at the left, a scale below, 0 on it.
class Rows {
 public:
  // `room` is left at the right; `zero` is the kind of the line at 0.
  Rows(const PlotText& text, const std::vector<PlotBar>& rows, double height, double room,
       const char* zero)
      : labels_(label_room(rows)), right_(kWidth - room) {
    double low = 0, high = 0;
    for (const auto& row : rows)
      for (const double value : {row.value, row.low, row.high})
        if (std::isfinite(value)) low = std::min(low, value), high = std::max(high, value);
    ticks_ = plot_ticks(low, low == high ? low + 1 : high);
    const double bottom = kTop + height * static_cast<double>(rows.size());
    svg = open_svg(bottom + 44, text.title);
    for (const double tick : ticks_)
      svg += line_at(x_of(tick), kTop - 6, x_of(tick), bottom, tick == 0 ? zero : "axis") +
             text_at(x_of(tick), bottom + 16, "middle", shown(tick));
    svg += text_at((labels_ + right_) / 2, bottom + 36, "middle", text.x_label);
  }
  double x_of(double value) const {
    return labels_ +
           (right_ - labels_) * (value - ticks_.front()) / (ticks_.back() - ticks_.front());
  }
  std::string label(const PlotBar& row, double middle) const {
    return name_at(labels_ - 8, middle + 4, "end", row.label, labels_ - 12);
  }
  std::string svg;

 private:
  double labels_, right_;
  std::vector<double> ticks_;
};

}  // namespace

std::string svg_bars(const PlotText& text, const std::vector<PlotBar>& bars) {
  constexpr double kRow = 26;
  const Rows rows(text, bars, kRow, /*room=*/70, /*zero=*/"axis");
  std::string svg = rows.svg;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const auto& bar = bars[i];
    const double y = kTop + kRow * static_cast<double>(i), middle = y + 9, zero = rows.x_of(0);
    svg += rows.label(bar, middle);
    if (!std::isfinite(bar.value)) {
      svg += text_at(zero + 6, middle + 4, "start", "–");
      continue;
    }
    const double value = rows.x_of(bar.value), low = rows.x_of(bar.low), high = rows.x_of(bar.high);
    svg += "<rect x=\"" + place(std::min(zero, value)) + "\" y=\"" + place(y) + "\" width=\"" +
           place(std::abs(value - zero)) + "\" height=\"18\" style=\"fill:" + color(i) + "\"/>";
    if (std::isfinite(bar.low) && std::isfinite(bar.high) && bar.low < bar.high)
      svg += line_at(low, middle, high, middle, "error") +
             line_at(low, middle - 4, low, middle + 4, "error") +
             line_at(high, middle - 4, high, middle + 4, "error");
    svg += text_at(std::max({zero, value, high}) + 6, middle + 4, "start", shown(bar.value));
  }
  return svg + close_svg();
}

std::string svg_intervals(const PlotText& text, const std::vector<PlotBar>& intervals) {
  constexpr double kRow = 24;
  const Rows rows(text, intervals, kRow, /*room=*/24, /*zero=*/"error");
  std::string svg = rows.svg;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const auto& one = intervals[i];
    const double y = kTop + kRow * static_cast<double>(i) + 9;
    svg += rows.label(one, y);
    if (!std::isfinite(one.value)) continue;
    const bool apart = one.low > 0 || one.high < 0;
    const std::string ink = color(apart ? 0 : 5);
    svg += "<path class=\"line\" style=\"stroke:" + ink + ";stroke-width:3\" d=\"M" +
           place(rows.x_of(one.low)) + " " + place(y) + "L" + place(rows.x_of(one.high)) + " " +
           place(y) + "\"/><circle cx=\"" + place(rows.x_of(one.value)) + "\" cy=\"" + place(y) +
           "\" r=\"5\" style=\"fill:" + ink + "\"/>";
  }
  return svg + close_svg();
}

std::string svg_lines(const PlotText& text, const std::vector<PlotLine>& lines) {
  const double width = text.small ? kSmallWidth : kWidth;
  const double base = text.small ? kSmallHeight : kHeight;
  double left = 0, right = 0, low = 0, high = 0;
  bool any = false;
  const auto x_value = [&](double x) { return text.x_is_log2 ? std::log2(x) : x; };
  const auto y_value = [&](double y) { return text.y_is_log10 ? std::log10(y) : y; };
  for (const auto& line : lines)
    for (const auto& point : line.points) {
      if (!finite(point) || !std::isfinite(x_value(point.x)) || !std::isfinite(y_value(point.y)))
        continue;
      const double x = x_value(point.x);
      const double least = y_value(has_band(point) ? std::min(point.y, point.low) : point.y);
      const double most = y_value(has_band(point) ? std::max(point.y, point.high) : point.y);
      left = any ? std::min(left, x) : x, right = any ? std::max(right, x) : x;
      low = any ? std::min(low, least) : least, high = any ? std::max(high, most) : most;
      any = true;
    }
  // The key: names one after another, with a new row where the next does not fit.
  constexpr double kMark = 18, kBetween = 20;
  struct Place {
    double x, y;
  };
  std::vector<Place> key;
  double key_x = kLeft, key_y = base + 10;
  for (const auto& line : lines) {
    if (text.small) break;
    const double room =
        std::min(kMark + text_width(code_points(line.name)), width - kRight - kLeft);
    if (key_x > kLeft && key_x + room > width - kRight) key_x = kLeft, key_y += 18;
    key.push_back({key_x, key_y});
    key_x += room + kBetween;
  }
  const double height = text.small ? base : key_y + 18;
  std::string svg = open_svg(height, text.title, width);
  if (!any) return svg + text_at(kLeft, kTop + 20, "start", "no points") + close_svg();
  auto ticks = plot_ticks(low, high);
  if (text.y_is_log10) {  // powers of ten
    ticks.clear();
    for (double power = std::floor(low); power <= std::ceil(high); ++power) ticks.push_back(power);
    if (ticks.size() == 1) ticks.push_back(ticks.front() + 1);
  }
  if (left == right) left -= 1, right += 1;
  const double bottom = base - kBottom;
  const auto x_of = [&](double x) {
    return kLeft + (width - kRight - kLeft) * (x_value(x) - left) / (right - left);
  };
  const auto y_of = [&](double y) {
    return bottom - (bottom - kTop) * (y_value(y) - ticks.front()) / (ticks.back() - ticks.front());
  };
  for (const double tick : ticks) {
    const double y = text.y_is_log10 ? std::pow(10, tick) : tick;
    svg += line_at(kLeft, y_of(y), width - kRight, y_of(y), "axis") +
           text_at(kLeft - 8, y_of(y) + 4, "end", shown(y));
  }
  const auto mark = [&](double value) {
    svg += line_at(x_of(value), bottom, x_of(value), bottom + 5, "axis") +
           text_at(x_of(value), bottom + 19, "middle", shown(value));
  };
  if (text.x_is_log2) {
    const double step = std::max(1.0, std::ceil((right - left) / 12));
    for (double k = std::ceil(left - 1e-9); k <= right + 1e-9; k += step) mark(std::exp2(k));
  } else {
    for (const double tick : plot_ticks(left, right, text.small ? 4 : 8))
      if (tick >= left - 1e-9 && tick <= right + 1e-9) mark(tick);
  }
  svg += text_at((kLeft + width - kRight) / 2, bottom + 40, "middle", text.x_label);
  svg += text_at(-(kTop + bottom) / 2, 14, "middle", text.y_label, " transform=\"rotate(-90)\"");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string upper, lower, path, dots;
    const auto ink = lines[i].color.empty() ? color(i) : lines[i].color;
    const bool dotted = !text.small || lines[i].points.size() <= kMostDots;
    for (const auto& point : lines[i].points) {
      if (!finite(point) || !std::isfinite(x_value(point.x)) || !std::isfinite(y_value(point.y)))
        continue;
      const auto x = place(x_of(point.x));
      path += (path.empty() ? "M" : "L") + x + " " + place(y_of(point.y));
      if (dotted)
        dots += "<circle cx=\"" + x + "\" cy=\"" + place(y_of(point.y)) + "\" r=\"" +
                (text.small ? "2" : "3") + "\" style=\"fill:" + ink + "\"/>";
      if (!has_band(point)) continue;
      upper += x + "," + place(y_of(point.high)) + " ";
      lower = x + "," + place(y_of(point.low)) + " " + lower;
    }
    if (!upper.empty())
      svg += "<polygon points=\"" + upper + lower + "\" style=\"fill:" + ink + ";opacity:.18\"/>";
    const auto dashes = lines[i].dashes.empty() ? "" : ";stroke-dasharray:" + lines[i].dashes;
    svg += "<path class=\"line\" style=\"stroke:" + ink + dashes + "\" d=\"" + path + "\"/>" + dots;
    if (text.small) continue;
    const auto [x, y] = key[i];
    svg += "<rect x=\"" + place(x) + "\" y=\"" + place(y - 9) +
           "\" width=\"12\" height=\"10\" style=\"fill:" + ink + "\"/>" +
           name_at(x + kMark, y, "start", lines[i].name, width - kRight - kLeft - kMark);
  }
  return svg + close_svg();
}

}  // namespace rwkvx
