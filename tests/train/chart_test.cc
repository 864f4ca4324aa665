// Axes, smoothing and thinning: the numbers behind the drawings.
#include "molt/train/chart.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "molt/train/axis.h"

namespace molt::train {
namespace {

std::vector<std::string> labels(const Axis& axis) {
  std::vector<std::string> out;
  for (const double tick : axis.ticks) out.push_back(tick_label(axis, tick));
  return out;
}

using Labels = std::vector<std::string>;

TEST(Axis, RoundTicks) {
  EXPECT_EQ(labels(linear_axis(0, 1, 5, true)), (Labels{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(labels(linear_axis(1, 1200, 5, false)), (Labels{"200", "400", "600", "800", "1000", "1200"}));
  EXPECT_EQ(labels(linear_axis(0, 2e-4, 4, true)), (Labels{"0", "5e-5", "1e-4", "1.5e-4", "2e-4"}));
  EXPECT_EQ(labels(linear_axis(0, 30000, 3, true)), (Labels{"0", "10k", "20k", "30k"}));
  EXPECT_EQ(labels(linear_axis(-1, 1, 4, true)), (Labels{"-1.0", "-0.5", "0", "0.5", "1.0"}));
}

TEST(Axis, WidenedAxesHoldTheirRange) {
  for (double lo = -3; lo < 3; lo += 0.37) {
    for (double extent = 1e-6; extent < 1e6; extent *= 7) {
      const Axis axis = linear_axis(lo, lo + extent, 5, true);
      EXPECT_LE(axis.lo, lo + 1e-5 * extent);
      EXPECT_GE(axis.hi, lo + extent * (1 - 1e-5));
      EXPECT_GE(axis.ticks.size(), 3u);
      EXPECT_LE(axis.ticks.size(), 8u);
    }
  }
}

TEST(Axis, RangesWithoutExtent) {
  for (const double value : {0.0, 2.5, -1e9, 1e-12}) {
    const Axis axis = linear_axis(value, value, 5, true);
    EXPECT_LT(axis.lo, axis.hi);
    EXPECT_GE(axis.ticks.size(), 2u);
    EXPECT_TRUE(std::isfinite(axis.place(value)));
  }
}

TEST(Axis, LogarithmicTicks) {
  EXPECT_EQ(labels(log_axis(0.005, 150)), (Labels{"0.01", "0.1", "1", "10", "100"}));
  EXPECT_EQ(labels(log_axis(1, 20)), (Labels{"1", "2", "5", "10", "20"}));
  const Axis axis = log_axis(1, 100);
  EXPECT_DOUBLE_EQ(axis.place(10), 0.5);
  EXPECT_LE(log_axis(1e-12, 1e12).ticks.size(), 9u);
}

TEST(Curve, SmoothingKeepsStraightLinesStraight) {
  Curve line;
  for (int i = 0; i < 50; ++i) line.push_back({static_cast<double>(i), 3.0 * i - 7});
  const Curve smooth = smoothed(line, 6);
  ASSERT_EQ(smooth.size(), line.size());
  // Sums of 50 values below 200: an error of some 1e-13 relative.
  for (size_t i = 0; i < line.size(); ++i) EXPECT_NEAR(smooth[i].value, line[i].value, 1e-10) << i;
}

TEST(Curve, SmoothingAveragesInside) {
  const Curve curve = {{1, 0}, {2, 3}, {3, 0}, {4, 6}, {5, 0}};
  EXPECT_DOUBLE_EQ(smoothed(curve, 1)[1].value, 1);
  EXPECT_DOUBLE_EQ(smoothed(curve, 1)[2].value, 3);
  EXPECT_EQ(smoothed({{1, 5}, {2, std::nan("")}}, 3).size(), 1u);
  EXPECT_TRUE(smoothed({}, 3).empty());
}

TEST(Curve, ThinningKeepsEndsAndPeaks) {
  Curve curve;
  for (int i = 0; i < 10000; ++i) curve.push_back({static_cast<double>(i), std::sin(i * 0.1)});
  curve[4321].value = 50;
  curve[77].value = -50;
  const Curve thin = thinned(curve, 100);
  EXPECT_LE(thin.size(), 202u);
  EXPECT_EQ(thin.front().step, 0);
  EXPECT_EQ(thin.back().step, 9999);
  EXPECT_TRUE(std::is_sorted(thin.begin(), thin.end(), [](auto& a, auto& b) { return a.step < b.step; }));
  EXPECT_TRUE(std::any_of(thin.begin(), thin.end(), [](auto& p) { return p.value == 50; }));
  EXPECT_TRUE(std::any_of(thin.begin(), thin.end(), [](auto& p) { return p.value == -50; }));
  EXPECT_EQ(thinned(curve, 5000).size(), curve.size()) << "short curves stay as they are";
}

TEST(Chart, NothingToDrawIsNoFigure) {
  LineChart chart;
  EXPECT_EQ(line_chart(chart), "");
  chart.series.push_back({"one point", {{1, 1}}});
  chart.series.push_back({"no numbers", {{1, std::nan("")}, {2, std::nan("")}}});
  EXPECT_EQ(line_chart(chart), "");
  chart.series.push_back({"two points", {{1, 1}, {2, 2}}});
  EXPECT_NE(line_chart(chart), "");
  EXPECT_EQ(scatter_chart({}), "");
  ScatterChart scatter;
  scatter.points.push_back({"nothing trainable", 0, 1, 0, {}});
  EXPECT_EQ(scatter_chart(scatter), "");
}

TEST(Chart, PointsLieWhereTheyBelong) {
  LineChart chart;
  chart.from_zero = true;
  chart.series.push_back({"a", {{0, 0}, {10, 5}, {20, 10}}, 0, ChartSeries::Style::kDots});
  const std::string svg = line_chart(chart);
  // The middle of three points on a line is the middle of the other two.
  std::vector<double> x, y;
  for (size_t at = svg.find("<circle cx=\""); at != std::string::npos; at = svg.find("<circle cx=\"", at + 1)) {
    x.push_back(std::stod(svg.substr(at + 12)));
    y.push_back(std::stod(svg.substr(svg.find("cy=\"", at) + 4)));
  }
  ASSERT_EQ(x.size(), 3u);
  EXPECT_NEAR(x[1], (x[0] + x[2]) / 2, 0.1) << "coordinates have one decimal";
  EXPECT_NEAR(y[1], (y[0] + y[2]) / 2, 0.1);
  EXPECT_GT(y[0], y[2]) << "y grows downwards in SVG";
}

TEST(Chart, WideRangesBecomeLogarithmicWhereAllowed) {
  LineChart chart;
  chart.series.push_back({"norm", {{1, 1000}, {2, 0}, {3, 0.5}}});
  EXPECT_EQ(line_chart(chart).find("logarithmic"), std::string::npos);
  chart.may_be_log = true;
  EXPECT_NE(line_chart(chart).find("logarithmic"), std::string::npos);
}

}  // namespace
}  // namespace molt::train
