// The page that sets several methods side by side.
#include <algorithm>
#include <cmath>

#include "molt/base/format.h"
#include "molt/base/str.h"
#include "molt/train/chart.h"
#include "molt/train/html.h"
#include "molt/train/report.h"
#include "molt/train/sections.h"

namespace molt::train {
namespace {

std::optional<double> share_of(const MethodResult& m) {
  if (m.total_parameters <= 0 || m.trainable_parameters <= 0) return std::nullopt;
  return static_cast<double>(m.trainable_parameters) / static_cast<double>(m.total_parameters);
}

std::optional<double> score_of(const MethodResult& m, const std::string& name) {
  for (const auto& [metric, value] : m.scores) {
    if (metric == name) return value;
  }
  return std::nullopt;
}

template <class T>
std::optional<double> positive(T value) {
  return value > 0 ? std::optional<double>(static_cast<double>(value)) : std::nullopt;
}

std::string integer_text(double value) { return format_integer(static_cast<int64_t>(value)); }
std::string bytes_text(double value) { return format_bytes(static_cast<int64_t>(value)); }

// Columns that cards look for by name.
constexpr const char *kEvalLoss = "eval loss", *kShare = "share", *kTime = "time", *kMemory = "peak memory";

/// One column of the table: what it holds, how it is written, which end is better.
struct Column {
  std::string name;
  std::vector<std::optional<double>> values;
  std::vector<std::string> texts;
  bool lower;
  bool main = false;           // the score that counts: with a bar below each value
  std::vector<bool> out = {};  // rows out of competition

  std::optional<size_t> best() const {
    std::vector<std::optional<double>> competing = values;
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i]) competing[i].reset();
    }
    return best_in_column(competing, lower);
  }
};

/// The columns that have any value, the main score first. Methods that failed have none.
std::vector<Column> columns_of(const ComparisonReport& r, const std::string& main_score) {
  std::vector<Column> columns;
  auto collect = [&](auto value) {
    std::vector<std::optional<double>> values;
    for (const MethodResult& m : r.methods)
      values.push_back(m.failure.empty() ? std::optional<double>(value(m)) : std::optional<double>());
    return values;
  };
  auto add = [&](Column column) {
    if (std::any_of(column.values.begin(), column.values.end(), [](const auto& v) { return v.has_value(); }))
      columns.push_back(std::move(column));
  };
  auto add_score = [&](const std::string& name) {
    const auto values = collect([&](const MethodResult& m) { return score_of(m, name); });
    add({name, values, metric_column(values), lower_is_better(name), name == main_score});
  };
  auto add_cost = [&](const std::string& name, bool lower, std::string (*text)(double), auto value) {
    const auto values = collect(value);
    std::vector<std::string> texts;
    for (const auto& v : values) texts.push_back(v ? text(*v) : "");
    add({name, values, texts, lower});
  };

  add_score(main_score);
  std::vector<std::string> others;
  for (const MethodResult& m : r.methods) {
    for (const auto& [name, value] : m.scores) {
      if (name != main_score && std::find(others.begin(), others.end(), name) == others.end()) others.push_back(name);
    }
  }
  for (const std::string& name : others) add_score(name);
  const auto losses = collect([](const MethodResult& m) { return m.eval_loss; });
  add({kEvalLoss, losses, metric_column(losses), true});
  add_cost("trainable", true, integer_text, [](const MethodResult& m) { return positive(m.trainable_parameters); });
  add_cost(kShare, true, format_percent, share_of);
  add_cost(kTime, true, format_duration, [](const MethodResult& m) { return positive(m.seconds); });
  add_cost("tokens/s", false, rate_text, [](const MethodResult& m) { return positive(m.tokens_per_second); });
  add_cost(kMemory, true, bytes_text, [](const MethodResult& m) { return positive(m.peak_memory_bytes); });
  // Not to train needs the least memory, which is no news.
  const bool any_trains =
      std::any_of(r.methods.begin(), r.methods.end(), [](const MethodResult& m) { return m.trainable_parameters > 0; });
  if (any_trains && !columns.empty() && columns.back().name == kMemory) {
    for (const MethodResult& m : r.methods) columns.back().out.push_back(m.trainable_parameters <= 0);
  }
  return columns;
}

/// Bars start where the axis of a chart would: at 0, or below the smallest value when all lie close together.
double bar_share(const Column& column, double value) {
  double lo = value, hi = value;
  for (const auto& v : column.values) {
    if (v && std::isfinite(*v)) lo = std::min(lo, *v), hi = std::max(hi, *v);
  }
  if (lo > hi * 0.6 && hi > lo)
    lo -= (hi - lo) * 0.5;
  else
    lo = std::min(lo, 0.0);
  return hi > lo ? std::clamp((value - lo) / (hi - lo), 0.0, 1.0) : value == 0 ? 0.0 : 1.0;
}

std::string colour_of(size_t i) { return str("s", i % 8); }

std::string table_section(const ComparisonReport& r, const std::vector<Column>& columns) {
  std::string out = "<h2>Results</h2>\n<div class=\"panel\"><table><thead><tr><th>Method</th>";
  for (const Column& column : columns) out += column_head(column.name);
  out += "</tr></thead><tbody>\n";
  for (size_t i = 0; i < r.methods.size(); ++i) {
    const MethodResult& m = r.methods[i];
    std::string name = escape_html(m.name);
    if (!m.link.empty()) name = str("<a href=\"", escape_html(m.link), "\">", name, "</a>");
    out += str("<tr><td><div class=\"method\"><span class=\"dot ", colour_of(i), "\"></span><div><strong>", name,
               "</strong>");
    if (!m.detail.empty()) out += str("<small>", escape_html(m.detail), "</small>");
    out += "</div></div></td>";
    if (!m.failure.empty()) {
      out += str("<td class=\"failed\" colspan=\"", std::max<size_t>(1, columns.size()), "\">", escape_html(m.failure),
                 "</td></tr>\n");
      continue;
    }
    for (const Column& column : columns) {
      out += "<td class=\"num\">";
      if (const auto& value = column.values[i]) {
        const auto best = column.best();
        // What reads the same counts the same: two runs of "11 min 40 s" are both marked.
        const std::string text = escape_html(column.texts[i]);
        out += best && column.texts[i] == column.texts[*best] ? str("<span class=\"best\">", text, "</span>") : text;
        if (column.main && std::isfinite(*value))
          out += str("<span class=\"under ", colour_of(i),
                     "\"><i style=\"width:", format_fixed(bar_share(column, *value) * 100, 1), "%\"></i></span>");
      }
      out += "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::vector<Card> summary(const ComparisonReport& r, const std::vector<Column>& columns) {
  std::vector<Card> cards;
  auto add = [&](const Column& column, const std::string& title) {
    const auto best = column.best();
    if (!best) return;
    Card card{title, column.texts[*best], r.methods[*best].name, {}, column.main};
    if (column.name == kShare) card.share = column.values[*best];
    cards.push_back(card);
  };
  for (const Column& column : columns) {
    if (column.main) add(column, "Best " + column.name);
    if (column.name == kEvalLoss) add(column, "Lowest eval loss");
    if (column.name == kShare) add(column, "Fewest trainable");
    if (column.name == kTime) add(column, "Shortest training");
    if (column.name == kMemory) add(column, "Least memory");
  }
  return cards;
}

std::string overlay(const ComparisonReport& r, const std::string& title, const std::string& unit,
                    Curve MethodResult::*curve, bool smooth, bool wide) {
  LineChart chart;
  chart.title = title, chart.unit = unit;
  chart.wide = wide;
  chart.width = wide ? 1080 : 520, chart.height = 340;
  for (size_t i = 0; i < r.methods.size(); ++i) {
    const Curve& points = r.methods[i].*curve;
    const Curve shown = smooth ? smoothed(points, 2 * smoothing_radius(points.size())) : points;
    chart.series.push_back({r.methods[i].name, shown, static_cast<int>(i),
                            smooth ? ChartSeries::Style::kLine : ChartSeries::Style::kDots});
  }
  return line_chart(chart);
}

std::string charts_section(const ComparisonReport& r, const std::string& main_score) {
  ScatterChart scatter;
  const std::string score_name = main_score.empty() ? kEvalLoss : main_score;
  scatter.title = score_name + " against trainable share";
  scatter.y_label = lower_is_better(score_name) ? "lower is better" : "higher is better";
  scatter.x_label = "% trainable";
  scatter.lower_y_is_better = lower_is_better(score_name);
  for (size_t i = 0; i < r.methods.size(); ++i) {
    const MethodResult& m = r.methods[i];
    const auto share = share_of(m), score = main_score.empty() ? m.eval_loss : score_of(m, main_score);
    if (!share || !score || !m.failure.empty()) continue;
    scatter.points.push_back(
        {m.name,
         *share * 100,
         *score,
         static_cast<int>(i),
         {str(score_name, " ", metric_text(*score)),
          str(format_integer(m.trainable_parameters), " trainable (", format_percent(*share), ")")}});
  }
  const auto evaluation = [&](bool wide) {
    return overlay(r, "Evaluation loss", "nats per labelled token", &MethodResult::eval_loss_curve, false, wide);
  };
  // Two stand side by side; one alone takes the row.
  std::string left = scatter_chart(scatter), right = evaluation(left.empty());
  if (right.empty()) {
    scatter.wide = true, scatter.width = 1080;
    left = scatter_chart(scatter);
  }
  const std::string all =
      left + right +
      overlay(r, "Training loss", "smoothed, nats per labelled token", &MethodResult::train_loss, true, true);
  return all.empty() ? "" : str("<h2>Curves</h2>\n<div class=\"charts\">", all, "</div>\n");
}

}  // namespace

std::string report_page(const ComparisonReport& r) {
  const std::string title = r.title.empty() ? "A comparison of methods" : r.title;
  std::string main_score = r.score_name;
  for (const MethodResult& m : r.methods) {
    if (main_score.empty() && !m.scores.empty()) main_score = m.scores[0].first;
  }
  const std::vector<Column> columns = columns_of(r, main_score);
  const auto failed =
      std::count_if(r.methods.begin(), r.methods.end(), [](const MethodResult& m) { return !m.failure.empty(); });
  const std::string status = failed > 0 ? str(failed, " of ", r.methods.size(), " failed") : "";
  std::string body =
      header_section(title, status, failed == 0, {r.model, r.task, str(r.methods.size(), " methods"), r.created});
  body += "<main>\n" + cards_section(summary(r, columns)) + table_section(r, columns) + charts_section(r, main_score) +
          background_section(r.recipe, r.environment) + "</main>\n" + footer_section(r.created);
  return html_page(title, body);
}

}  // namespace molt::train
