#include "molt/train/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/json.h"
#include "molt/base/rng.h"
#include "molt/train/axis.h"
#include "molt/train/html.h"

namespace molt::train {
namespace {

constexpr int kColours = 8;
constexpr size_t kBuckets = 360;  // a line of 1000 units shows no more

struct Box {
  double x, y, w, h;
};

std::string px(double value) { return format_fixed(value, 1); }

std::string colour_class(int colour) { return str("s", colour % kColours, colour >= kColours ? " dashed" : ""); }

double rounded(double value) {  // six digits are plenty for the read-out and keep the page small
  return std::stod(format_significant(value, 6));
}

struct Plot {
  Box box;
  Axis x, y;
  double px_x(double value) const { return box.x + box.w * x.place(value); }
  double px_y(double value) const { return box.y + box.h * (1 - y.place(value)); }
};

/// Grid lines, tick labels and the name of the x axis.
std::string axes_svg(const Plot& plot, const std::string& x_name, const std::vector<std::string>& x_labels) {
  std::string out = "<g class=\"grid\">";
  for (const double tick : plot.y.ticks)
    out += str("<path d=\"M", px(plot.box.x), " ", px(plot.px_y(tick)), "h", px(plot.box.w), "\"/>");
  out += "</g><g class=\"ticks\" text-anchor=\"end\">";
  for (const double tick : plot.y.ticks)
    out += str("<text x=\"", px(plot.box.x - 8), "\" y=\"", px(plot.px_y(tick) + 4), "\">",
               escape_html(tick_label(plot.y, tick)), "</text>");
  out += "</g><g class=\"ticks\" text-anchor=\"middle\">";
  const double foot = plot.box.y + plot.box.h;
  // A label that would run into the axis' name at the right end is left out.
  const double name_from = plot.box.x + plot.box.w - 7.0 * static_cast<double>(x_name.size()) - 14;
  for (size_t i = 0; i < plot.x.ticks.size(); ++i) {
    const double at = plot.px_x(plot.x.ticks[i]);
    out += str("<path class=\"tick\" d=\"M", px(at), " ", px(foot), "v4\"/>");
    if (at + 3.5 * static_cast<double>(x_labels[i].size()) < name_from)
      out += str("<text x=\"", px(at), "\" y=\"", px(foot + 18), "\">", escape_html(x_labels[i]), "</text>");
  }
  out += str("</g><path class=\"axis\" d=\"M", px(plot.box.x), " ", px(foot), "h", px(plot.box.w), "\"/>");
  out += str("<text class=\"axis-name\" text-anchor=\"end\" x=\"", px(plot.box.x + plot.box.w), "\" y=\"",
             px(foot + 18), "\">", escape_html(x_name), "</text>");
  return out;
}

std::string path_of(const Plot& plot, const Curve& points) {
  std::string d;
  for (const CurvePoint& p : points) {
    d += d.empty() ? 'M' : 'L';
    d += px(plot.px_x(p.step)) + ' ' + px(plot.px_y(p.value));
  }
  return d;
}

/// What the script needs to know: where the plot lies, its ranges, and the points.
Json plot_json(const Plot& plot) {
  return {{"box", {plot.box.x, plot.box.y, plot.box.w, plot.box.h}},
          {"x", {plot.x.lo, plot.x.hi}},
          {"y", {plot.y.lo, plot.y.hi}},
          {"log", plot.y.log}};
}

std::string figure(bool wide, const std::string& title, const std::string& unit, const std::string& legend,
                   const std::string& svg, const Json& data, const std::string& note) {
  std::string out = str("<figure class=\"chart", wide ? " wide" : "", "\"><figcaption><b>", escape_html(title), "</b>");
  if (!unit.empty()) out += str(" <span>", escape_html(unit), "</span>");
  out += str("</figcaption>", legend, "<div class=\"draw\">", svg, "</div>");
  if (!note.empty()) out += str("<p class=\"note\">", escape_html(note), "</p>");
  return out + str("<script type=\"application/json\">", script_json(data), "</script></figure>\n");
}

std::string svg_open(int width, int height, const std::string& description) {
  return str("<svg viewBox=\"0 0 ", width, " ", height, "\" role=\"img\" aria-label=\"", escape_html(description),
             "\">");
}

/// The range to show: everything, unless the highest or lowest 1 % of a long curve would take up more than half of it
/// (a spike, the first steps from a random start).
std::pair<double, double> shown_range(const std::vector<const ChartSeries*>& series) {
  double lo = std::numeric_limits<double>::infinity(), hi = -lo;
  for (const ChartSeries* s : series) {
    std::vector<double> values;
    for (const CurvePoint& p : s->points) values.push_back(p.value);
    double low = quantile(values, 0), high = quantile(values, 1);
    if (values.size() >= 100) {
      const double usual_low = quantile(values, 0.01), usual_high = quantile(values, 0.99);
      const double usual = usual_high - usual_low;
      if (high - usual_high > usual) high = usual_high + 0.1 * usual;
      if (usual_low - low > usual) low = usual_low - 0.1 * usual;
    }
    lo = std::min(lo, low), hi = std::max(hi, high);
  }
  return {lo, hi};
}

/// The series whose points were measured: beside a pale curve the plain ones are its averages.
std::vector<const ChartSeries*> measured(const std::vector<ChartSeries>& series) {
  using Style = ChartSeries::Style;
  const bool any_faint =
      std::any_of(series.begin(), series.end(), [](const ChartSeries& s) { return s.style == Style::kFaint; });
  std::vector<const ChartSeries*> out;
  for (const ChartSeries& s : series) {
    if (!any_faint || s.style != Style::kLine) out.push_back(&s);
  }
  return out;
}

double smallest_above_zero(const std::vector<const ChartSeries*>& series) {
  double least = std::numeric_limits<double>::infinity();
  for (const ChartSeries* s : series) {
    for (const CurvePoint& p : s->points) {
      if (p.value > 0) least = std::min(least, p.value);
    }
  }
  return least;
}

std::string points_are(size_t count, const char* what) {
  return str(format_integer(static_cast<int64_t>(count)), count == 1 ? " value is " : " values are ", what);
}

}  // namespace

std::string line_chart(const LineChart& chart) {
  std::vector<ChartSeries> series;
  size_t most = 0, not_finite = 0, beyond = 0;
  for (const ChartSeries& given : chart.series) {
    ChartSeries s = given;
    s.points = smoothed(given.points, 0);  // the finite ones
    most = std::max(most, s.points.size());
    not_finite += given.points.size() - s.points.size();
    if (!s.points.empty()) series.push_back(std::move(s));
  }
  if (most < 2) return "";

  const std::vector<const ChartSeries*> real = measured(series);
  auto [lo, hi] = shown_range(real);
  const double least = smallest_above_zero(real);
  Plot plot;
  const bool log = chart.may_be_log && lo >= 0 && hi / (lo > 0 ? lo : least) > 50;
  if (log) {
    plot.y = log_axis(std::max(lo > 0 ? lo : least, hi * 1e-6), hi * 1.1);
  } else {
    if (chart.from_zero) lo = std::min(lo, 0.0), hi = std::max(hi, lo == 0 && hi == 0 ? 1.0 : hi);
    plot.y = linear_axis(lo, hi, chart.height > 280 ? 6 : 4, true);
  }
  for (const ChartSeries* s : real) {
    for (const CurvePoint& p : s->points) beyond += p.value > plot.y.hi || p.value < plot.y.lo;
  }
  double first = series[0].points[0].step, last = first;
  for (ChartSeries& s : series) {
    for (CurvePoint& p : s.points) {
      first = std::min(first, p.step), last = std::max(last, p.step);
      if (log) p.value = std::max(p.value, plot.y.lo / 10);  // zero has no place on it
    }
  }
  size_t widest = 0;
  for (const double tick : plot.y.ticks) widest = std::max(widest, tick_label(plot.y, tick).size());
  const double left = 16 + 7.0 * static_cast<double>(widest), top = 10, right = 14, bottom = 28;
  plot.box = {left, top, chart.width - left - right, chart.height - top - bottom};
  plot.x = linear_axis(first, last, std::clamp(chart.width / 95, 3, 10), false);
  // There are no half steps.
  std::vector<double>& ticks = plot.x.ticks;
  ticks.erase(
      std::remove_if(ticks.begin(), ticks.end(), [](double tick) { return std::fabs(tick - std::round(tick)) > 1e-6; }),
      ticks.end());
  std::vector<std::string> x_labels;
  for (const double tick : ticks) x_labels.push_back(tick_label(plot.x, tick));

  const std::string clip = str("clip", hash_name(chart.title));  // titles differ within a page
  std::string svg = svg_open(chart.width, chart.height, chart.title) + axes_svg(plot, "step", x_labels);
  svg +=
      str("<clipPath id=\"", clip, "\"><rect x=\"", px(plot.box.x - 5), "\" y=\"", px(plot.box.y - 4), "\" width=\"",
          px(plot.box.w + 10), "\" height=\"", px(plot.box.h + 8), "\"/></clipPath><g clip-path=\"url(#", clip, ")\">");
  Json data = plot_json(plot);
  data["kind"] = "line";
  std::string legend = "<ul class=\"legend\">";
  std::vector<std::string> drawn(series.size());
  for (size_t i = 0; i < series.size(); ++i) {
    const ChartSeries& s = series[i];
    const Curve points = thinned(s.points, kBuckets);
    const bool faint = s.style == ChartSeries::Style::kFaint, dots = s.style == ChartSeries::Style::kDots;
    drawn[i] = str("<g class=\"series ", colour_class(s.colour), faint ? " faint" : "", "\" data-i=\"", i,
                   "\"><path d=\"", path_of(plot, points), "\"/>");
    if (dots && points.size() <= 60) {
      for (const CurvePoint& p : points)
        drawn[i] += str("<circle cx=\"", px(plot.px_x(p.step)), "\" cy=\"", px(plot.px_y(p.value)), "\" r=\"3.5\"/>");
    }
    drawn[i] += "</g>";
    legend += str("<li class=\"", colour_class(s.colour), faint ? " faint" : "", "\" data-i=\"", i, "\"><span>",
                  escape_html(s.name), "</span></li>");
    Json values = Json::array();
    for (const CurvePoint& p : points) values.push_back({rounded(p.step), rounded(p.value)});
    data["series"].push_back({{"name", s.name}, {"class", colour_class(s.colour)}, {"points", std::move(values)}});
  }
  for (const bool faint : {true, false}) {  // pale lines lie below the others
    for (size_t i = 0; i < series.size(); ++i) {
      if ((series[i].style == ChartSeries::Style::kFaint) == faint) svg += drawn[i];
    }
  }
  svg += "</g><g class=\"hover\"></g></svg>";
  legend += "</ul>";
  std::string note;
  auto add_note = [&](const std::string& text) { note += str(note.empty() ? "" : "; ", text); };
  if (log) add_note("logarithmic scale");
  if (beyond > 0) add_note(points_are(beyond, "beyond the axis"));
  if (not_finite > 0) add_note(points_are(not_finite, "not a finite number"));
  return figure(chart.wide, chart.title, chart.unit, series.size() > 1 ? legend : "", svg, data, note);
}

namespace {

bool overlap(const Box& a, const Box& b) {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/// Different shapes as well as colours, for eyes and printers that tell colours apart badly.
std::string marker(double x, double y, int colour) {
  const double r = 6;
  switch (colour % 4) {
    case 1:
      return str("<rect x=\"", px(x - r + 0.8), "\" y=\"", px(y - r + 0.8), "\" width=\"", px(2 * r - 1.6),
                 "\" height=\"", px(2 * r - 1.6), "\" rx=\"1.5\"/>");
    case 2:
      return str("<path d=\"M", px(x), " ", px(y - r - 1), "l", px(r + 1), " ", px(2 * r), "h", px(-2 * r - 2),
                 "z\"/>");
    case 3:
      return str("<path d=\"M", px(x), " ", px(y - r - 1.5), "l", px(r + 1.5), " ", px(r + 1.5), "l", px(-r - 1.5), " ",
                 px(r + 1.5), "l", px(-r - 1.5), " ", px(-r - 1.5), "z\"/>");
    default:
      return str("<circle cx=\"", px(x), "\" cy=\"", px(y), "\" r=\"", px(r), "\"/>");
  }
}

/// Places each label at the first of several spots around its point where it hits nothing; nowhere if all are taken.
std::string labels_svg(const ScatterChart& chart, const Plot& plot) {
  std::vector<Box> taken;
  for (const ScatterPoint& p : chart.points) taken.push_back({plot.px_x(p.x) - 8, plot.px_y(p.y) - 8, 16, 16});
  std::string out;
  for (const ScatterPoint& p : chart.points) {
    const double x = plot.px_x(p.x), y = plot.px_y(p.y), w = 7.6 * static_cast<double>(p.name.size()) + 4, h = 14;
    struct Spot {
      double x, y;  // of the text's anchor, on its middle line
      const char* anchor;
    };
    const Spot spots[] = {{x + 11, y, "start"},   {x - 11, y, "end"},       {x, y - 17, "middle"},
                          {x, y + 17, "middle"},  {x + 9, y - 13, "start"}, {x + 9, y + 13, "start"},
                          {x - 9, y - 13, "end"}, {x - 9, y + 13, "end"}};
    for (const Spot& spot : spots) {
      const double shift = spot.anchor[0] == 's' ? 0 : spot.anchor[0] == 'm' ? w / 2 : w;
      const Box box{spot.x - shift, spot.y - h / 2, w, h};
      const bool inside =
          box.x > plot.box.x && box.x + box.w < chart.width - 2 && box.y > 0 && box.y + box.h < plot.box.y + plot.box.h;
      if (!inside || std::any_of(taken.begin(), taken.end(), [&](const Box& b) { return overlap(b, box); })) continue;
      taken.push_back(box);
      out += str("<text class=\"label\" text-anchor=\"", spot.anchor, "\" x=\"", px(spot.x), "\" y=\"", px(spot.y + 4),
                 "\">", escape_html(p.name), "</text>");
      break;
    }
  }
  return out;
}

/// The points no other beats, as steps from the cheapest to the best.
std::string front_svg(const ScatterChart& chart, const Plot& plot) {
  std::vector<ScatterPoint> sorted = chart.points;
  auto better = [&](double a, double b) { return chart.lower_y_is_better ? a < b : a > b; };
  std::sort(sorted.begin(), sorted.end(),
            [&](const ScatterPoint& a, const ScatterPoint& b) { return a.x != b.x ? a.x < b.x : better(a.y, b.y); });
  std::string d;
  double best = 0;
  for (const ScatterPoint& p : sorted) {
    if (!d.empty() && !better(p.y, best)) continue;
    d += d.empty() ? str("M", px(plot.px_x(p.x)), " ", px(plot.px_y(p.y)))
                   : str("H", px(plot.px_x(p.x)), "V", px(plot.px_y(p.y)));
    best = p.y;
  }
  if (!d.empty()) d += str("H", px(plot.box.x + plot.box.w));
  return str("<path class=\"front\" d=\"", d, "\"/>");
}

}  // namespace

std::string scatter_chart(const ScatterChart& given) {
  ScatterChart chart = given;
  chart.points.erase(
      std::remove_if(chart.points.begin(), chart.points.end(),
                     [](const ScatterPoint& p) { return !(p.x > 0) || !std::isfinite(p.x) || !std::isfinite(p.y); }),
      chart.points.end());
  if (chart.points.empty()) return "";
  double x_lo = chart.points[0].x, x_hi = x_lo, y_lo = chart.points[0].y, y_hi = y_lo;
  for (const ScatterPoint& p : chart.points) {
    x_lo = std::min(x_lo, p.x), x_hi = std::max(x_hi, p.x);
    y_lo = std::min(y_lo, p.y), y_hi = std::max(y_hi, p.y);
  }
  Plot plot;
  const double margin = std::max(1.6, std::pow(x_hi / x_lo, 0.08));
  plot.x = log_axis(x_lo / margin, x_hi * margin);
  const double slack = (y_hi - y_lo) * 0.08;
  plot.y = linear_axis(y_lo - slack, y_hi + slack, 5, true);
  size_t widest = 0;
  for (const double tick : plot.y.ticks) widest = std::max(widest, tick_label(plot.y, tick).size());
  const double left = 16 + 7.0 * static_cast<double>(widest);
  plot.box = {left, 12, chart.width - left - 14, chart.height - 12.0 - 28};
  std::vector<std::string> x_labels;
  for (const double tick : plot.x.ticks) x_labels.push_back(format_significant(tick, 3));

  std::string svg = svg_open(chart.width, chart.height, chart.title) + axes_svg(plot, chart.x_label, x_labels);
  svg += front_svg(chart, plot);
  Json data = plot_json(plot);
  data["kind"] = "scatter";
  for (const ScatterPoint& p : chart.points) {
    const double x = plot.px_x(p.x), y = plot.px_y(p.y);
    svg += str("<g class=\"point ", colour_class(p.colour), "\">", marker(x, y, p.colour), "</g>");
    data["points"].push_back(
        {{"at", {rounded(x), rounded(y)}}, {"name", p.name}, {"class", colour_class(p.colour)}, {"lines", p.lines}});
  }
  svg += labels_svg(chart, plot) + "<g class=\"hover\"></g></svg>";
  return figure(chart.wide, chart.title, chart.y_label, "", svg, data,
                chart.points.size() > 1 ? "dashed: the best score within a budget of parameters" : "");
}

}  // namespace molt::train
