// Plots as SVG elements for a report's page, whose style they use.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace rwkvx {

struct PlotBar {
  std::string label;
  double value = 0, low = 0, high = 0;  // low < high: an interval is drawn
};

struct PlotPoint {
  double x = 0, y = 0, low = 0, high = 0;  // low < high: part of the band around the line
};

struct PlotLine {
  std::string name;
  std::vector<PlotPoint> points;  // in the order of x
  std::string color = {};         // of CSS; empty: the page's color of this place among the lines
  std::string dashes = {};        // SVG's stroke-dasharray
};

struct PlotText {
  std::string title, x_label, y_label;
  bool x_is_log2 = false;   // for positive x
  bool y_is_log10 = false;  // svg_lines alone, for positive y
  // svg_lines alone: a small plot fits a narrow screen and fills what it stands in, without a key
  // and with dots on few points only.
  bool small = false;
};

// What a report colors its i-th line or bar with, and from the seventh on how it is dashed.
std::string plot_color(std::size_t i);
std::string plot_dashes(std::size_t i);

// Steps of 1, 2 or 5 times a power of ten that cover [low, high] with about `count` of them; both
// ends lie on a step.
std::vector<double> plot_ticks(double low, double high, int count = 5);

// Bars lying below one another, from 0, with the numbers beside them. Values that are not finite
// are shown as a dash.
std::string svg_bars(const PlotText& text, const std::vector<PlotBar>& bars);

// Intervals lying below one another, with a line at 0; those that do not hold 0 stand out.
std::string svg_intervals(const PlotText& text, const std::vector<PlotBar>& intervals);

// Lines with points, bands, axes and a key. Points that are not finite are left out; without any
// point the plot says so.
std::string svg_lines(const PlotText& text, const std::vector<PlotLine>& lines);

}  // namespace rwkvx
