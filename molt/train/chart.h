// Drawings for the report: line charts over steps and a scatter of methods, as inline SVG whose colours are the page's
// variables (so they follow light, dark and print), with the data beside them for the script's hover read-out.
#pragma once

#include <string>
#include <vector>

#include "molt/train/curve.h"

namespace molt::train {

struct ChartSeries {
  enum class Style { kLine, kFaint, kDots };  ///< kFaint: thin and pale; kDots: a line with a dot at each point
  std::string name;
  Curve points;
  int colour = 0;  ///< index into the page's palette
  Style style = Style::kLine;
};

struct LineChart {
  std::string title, unit;
  std::vector<ChartSeries> series;
  int width = 520, height = 240;  ///< in the units of its text, 12 per line
  bool wide = false;              ///< takes a whole row of the page
  bool from_zero = false;         ///< the axis starts at 0
  bool may_be_log = false;        ///< a logarithmic axis where the values span more than a factor of 50
};

/// A <figure>. Empty where no series has two finite points. Rare values far outside the others are cut off and counted
/// in the caption.
std::string line_chart(const LineChart& chart);

struct ScatterPoint {
  std::string name;
  double x = 0, y = 0;
  int colour = 0;
  std::vector<std::string> lines;  ///< for the hover read-out
};

/// Points over a logarithmic x, labelled, with the front of points that no other beats in both (smaller x; better y).
struct ScatterChart {
  std::string title, x_label, y_label;
  std::vector<ScatterPoint> points;
  bool lower_y_is_better = false;
  int width = 520, height = 340;
  bool wide = false;  ///< takes a whole row of the page
};
std::string scatter_chart(const ScatterChart& chart);

}  // namespace molt::train
