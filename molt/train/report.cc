// The page of one run.
#include "molt/train/report.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "molt/base/format.h"
#include "molt/base/str.h"
#include "molt/train/chart.h"
#include "molt/train/html.h"
#include "molt/train/sections.h"

namespace molt::train {
namespace {

std::string step_text(double step) { return "at step " + format_integer(static_cast<int64_t>(step)); }

std::vector<Card> summary(const RunReport& r) {
  std::vector<Card> cards;
  auto add = [&](const std::string& name, const std::string& value, const std::string& more) {
    cards.push_back({name, value, more, {}, false});
  };
  if (r.best_score) {
    add("Best " + (r.score_name.empty() ? "score" : r.score_name), metric_text(*r.best_score),
        r.best_step ? step_text(static_cast<double>(*r.best_step)) : "");
    cards.back().main = true;
  }
  if (!r.eval_loss.empty() && r.score_name != "loss") {
    const Curve curve = thinned(r.eval_loss[0].points, r.eval_loss[0].points.size());  // the finite points
    const auto best = std::min_element(curve.begin(), curve.end(),
                                       [](const CurvePoint& p, const CurvePoint& q) { return p.value < q.value; });
    if (best != curve.end())
      add("Lowest " + r.eval_loss[0].name + " loss", metric_text(best->value), step_text(best->step));
  }
  const auto count = [](int64_t n) { return format_count(static_cast<double>(n)); };
  if (!r.model.empty()) add("Model", r.model, r.base_parameters > 0 ? count(r.base_parameters) + " parameters" : "");
  if (!r.method.empty()) add("Method", r.method, r.task);
  if (r.total_parameters > 0) {
    const double share = static_cast<double>(r.trainable_parameters) / static_cast<double>(r.total_parameters);
    add("Trainable", format_percent(share), of_total(r.trainable_parameters, r.total_parameters));
    cards.back().share = std::clamp(share, 0.0, 1.0);
  }
  if (r.tokens_per_second > 0)
    add("Tokens per second", rate_text(r.tokens_per_second), r.tokens > 0 ? count(r.tokens) + " tokens in all" : "");
  if (r.peak_memory_bytes > 0) add("Peak memory", format_bytes(r.peak_memory_bytes), "resident");
  if (r.wall_seconds > 0) {
    std::string more = r.steps > 0 ? format_integer(r.steps) + " steps" : "";
    if (r.epochs > 0)
      more += str(more.empty() ? "" : ", ", format_significant(r.epochs, 3), r.epochs == 1 ? " epoch" : " epochs");
    add("Training time", format_duration(r.wall_seconds), more);
  }
  return cards;
}

LineChart small_chart(const std::string& title, const std::string& unit, const Curve& curve, int colour, bool smooth,
                      bool may_be_log) {
  LineChart chart;
  chart.title = title, chart.unit = unit;
  chart.from_zero = true, chart.may_be_log = may_be_log;
  const size_t radius = smooth ? smoothing_radius(curve.size()) : 0;
  if (radius > 0) {
    chart.series.push_back({"smoothed", smoothed(curve, radius), colour, ChartSeries::Style::kLine});
    chart.series.push_back({"each step", curve, colour, ChartSeries::Style::kFaint});
  } else {
    chart.series.push_back({title, curve, colour, ChartSeries::Style::kLine});
  }
  return chart;
}

LineChart loss_chart(const RunReport& r) {
  LineChart chart;
  chart.title = "Loss", chart.unit = "nats per labelled token";
  chart.wide = true, chart.width = 1080, chart.height = 340;
  const size_t radius = smoothing_radius(r.train_loss.size());
  if (radius > 0)
    chart.series.push_back({"train, smoothed", smoothed(r.train_loss, radius), 0, ChartSeries::Style::kLine});
  chart.series.push_back({radius > 0 ? "train, each step" : "train", r.train_loss, 0,
                          radius > 0 ? ChartSeries::Style::kFaint : ChartSeries::Style::kLine});
  int colour = 1;
  for (const NamedCurve& curve : r.eval_loss)
    chart.series.push_back({curve.name, curve.points, colour++, ChartSeries::Style::kDots});
  return chart;
}

/// The course of the score that counts, one line per data set.
LineChart score_chart(const RunReport& r) {
  LineChart chart;
  if (r.score_name.empty() || r.score_name == "loss") return chart;
  chart.title = r.score_name, chart.unit = lower_is_better(r.score_name) ? "lower is better" : "higher is better";
  for (const EvalRecord& eval : r.evaluations) {
    for (const auto& [name, value] : eval.values) {
      if (name != r.score_name) continue;
      auto found = std::find_if(chart.series.begin(), chart.series.end(),
                                [&](const ChartSeries& s) { return s.name == eval.name; });
      if (found == chart.series.end()) {
        const int colour = 1 + static_cast<int>(chart.series.size());
        found = chart.series.insert(found, {eval.name, {}, colour, ChartSeries::Style::kDots});
      }
      found->points.push_back({static_cast<double>(eval.step), value});
    }
  }
  return chart;
}

std::string curves_section(const RunReport& r) {
  std::vector<LineChart> small = {score_chart(r), small_chart("Learning rate", "", r.learning_rate, 2, false, false),
                                  small_chart("Gradient norm", "before clipping", r.grad_norm, 3, true, true),
                                  small_chart("Speed", "tokens per second", r.throughput, 5, true, false)};
  small.erase(std::remove_if(small.begin(), small.end(), [](const LineChart& c) { return line_chart(c).empty(); }),
              small.end());
  const std::string loss = line_chart(loss_chart(r));
  if (loss.empty() && small.empty()) return "";
  // Three stand side by side rather than leave a hole.
  std::string out = str("<h2>Curves</h2>\n<div class=\"charts", small.size() == 3 ? " three" : "", "\">", loss);
  for (LineChart& chart : small) {
    if (small.size() == 3) chart.width = 340, chart.height = 210;
    out += line_chart(chart);
  }
  return out + "</div>\n";
}

/// One row per evaluation, one column per metric that any of them has; the best of each data set's column is marked.
std::string evaluations_section(const RunReport& r) {
  if (r.evaluations.empty()) return "";
  std::vector<std::string> metrics;
  for (const EvalRecord& eval : r.evaluations) {
    for (const auto& [name, value] : eval.values) {
      if (std::find(metrics.begin(), metrics.end(), name) == metrics.end()) metrics.push_back(name);
    }
  }
  const size_t rows = r.evaluations.size();
  std::vector<std::vector<std::string>> cells(rows, std::vector<std::string>(metrics.size()));
  for (size_t m = 0; m < metrics.size(); ++m) {
    std::vector<std::optional<double>> column(rows);
    for (size_t i = 0; i < rows; ++i) {
      for (const auto& [name, value] : r.evaluations[i].values) {
        if (name == metrics[m]) column[i] = value;
      }
    }
    const std::vector<std::string> texts = metric_column(column);
    // Each data set by itself: a value on one says nothing about another.
    for (size_t i = 0; i < rows; ++i) {
      std::vector<std::optional<double>> same = column;
      for (size_t j = 0; j < rows; ++j) {
        if (r.evaluations[j].name != r.evaluations[i].name) same[j].reset();
      }
      const bool best = best_in_column(same, lower_is_better(metrics[m])) == i;
      cells[i][m] = best ? str("<span class=\"best\">", escape_html(texts[i]), "</span>") : escape_html(texts[i]);
    }
  }
  std::string out = "<h2>Evaluations</h2>\n<div class=\"panel tall\"><table><thead><tr><th>Step</th><th>Data</th>";
  for (const std::string& name : metrics) out += column_head(name);
  out += "</tr></thead><tbody>\n";
  for (size_t i = 0; i < rows; ++i) {
    out += str("<tr><td>", format_integer(r.evaluations[i].step), "</td><td>", escape_html(r.evaluations[i].name),
               "</td>");
    for (const std::string& cell : cells[i]) out += str("<td class=\"num\">", cell, "</td>");
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string samples_section(const RunReport& r) {
  if (r.samples.empty()) return "";
  const auto judged =
      std::count_if(r.samples.begin(), r.samples.end(), [](const SampleRow& s) { return s.correct.has_value(); });
  const auto right =
      std::count_if(r.samples.begin(), r.samples.end(), [](const SampleRow& s) { return s.correct.value_or(false); });
  std::string out = "<h2>Samples";
  if (judged > 0) {
    out += str(" <span class=\"chip\">", right, " of ", judged, " right</span>");
    out +=
        "<span class=\"tools\"><button type=\"button\" data-show=\"all\" aria-pressed=\"true\">All</button>"
        "<button type=\"button\" data-show=\"wrong\" aria-pressed=\"false\">Wrong only</button></span>";
  }
  out +=
      "</h2>\n<div class=\"panel\"><table class=\"samples\"><thead><tr><th class=\"n "
      "num\">#</th><th>Prompt</th><th>Expected</th><th>Generated</th>";
  if (judged > 0) out += "<th class=\"m\"></th>";
  out += "</tr></thead><tbody>\n";
  for (size_t i = 0; i < r.samples.size(); ++i) {
    const SampleRow& s = r.samples[i];
    const bool is_right = s.correct.value_or(false);
    const MarkedPair texts = is_right ? MarkedPair{escape_html(s.expected), escape_html(s.generated)}
                                      : mark_difference(s.expected, s.generated);
    out += str("<tr", is_right ? " data-ok=\"1\"" : "", "><td class=\"n num\">", i + 1, "</td><td><div class=\"text\">",
               escape_html(s.prompt), "</div></td><td><div class=\"text\">", texts.expected,
               "</div></td><td><div class=\"text\">", texts.generated, "</div></td>");
    if (judged > 0) {
      out += "<td class=\"m\">";
      if (s.correct)
        out +=
            is_right ? "<span class=\"verdict right\">✓ right</span>" : "<span class=\"verdict wrong\">✗ wrong</span>";
      out += "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string notes_section(const RunReport& r) {
  if (r.notes.empty()) return "";
  std::string out = "<h2>Notes</h2>\n<div class=\"panel\"><ul class=\"notes\">";
  for (const NoteRecord& note : r.notes)
    out += str("<li><span>step ", format_integer(note.step), "</span>", escape_html(note.text), "</li>");
  return out + "</ul></div>\n";
}

}  // namespace

bool lower_is_better(const std::string& metric) {
  std::string name = metric;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* word : {"loss", "perplexity", "ppl", "error", "outside"}) {
    if (name.find(word) != std::string::npos) return true;
  }
  return name == "wer" || name == "cer" || name == "ter";
}

void add_metrics(RunReport& report, const std::vector<MetricsRecord>& records) {
  const bool lower = lower_is_better(report.score_name);
  double busy = 0, memory_mib = 0, counted = 0;
  for (const MetricsRecord& record : records) {
    if (const auto* step = std::get_if<StepRecord>(&record)) {
      const auto at = static_cast<double>(step->step);
      report.train_loss.push_back({at, step->loss});
      report.learning_rate.push_back({at, step->lr});
      report.grad_norm.push_back({at, step->grad_norm});
      report.throughput.push_back({at, step->tokens_per_second});
      report.steps = step->step, report.epochs = step->epoch;
      report.tokens += step->tokens;
      report.wall_seconds = std::max(report.wall_seconds, step->seconds);
      memory_mib = std::max(memory_mib, step->memory_mib);
      if (step->tokens_per_second > 0 && std::isfinite(step->tokens_per_second)) {
        counted += static_cast<double>(step->tokens);
        busy += static_cast<double>(step->tokens) / step->tokens_per_second;
      }
    } else if (const auto* eval = std::get_if<EvalRecord>(&record)) {
      // Judging at the end says again what the last evaluation has said, and more, where both look at the same data.
      const auto in_it = [&](const EvalRecord& before) {
        return before.step == eval->step && before.name == eval->name && before.values.size() <= eval->values.size() &&
               std::equal(before.values.begin(), before.values.end(), eval->values.begin());
      };
      const bool again = !report.evaluations.empty() && in_it(report.evaluations.back());
      if (again) report.evaluations.pop_back();
      report.evaluations.push_back(*eval);
      for (const auto& [name, value] : eval->values) {
        if (name == "loss" && !again) {
          auto found = std::find_if(report.eval_loss.begin(), report.eval_loss.end(),
                                    [&](const NamedCurve& c) { return c.name == eval->name; });
          if (found == report.eval_loss.end()) found = report.eval_loss.insert(found, {eval->name, {}});
          found->points.push_back({static_cast<double>(eval->step), value});
        }
        if (report.score_name.empty() || name != report.score_name || !std::isfinite(value)) continue;
        if (!report.best_score || (lower ? value < *report.best_score : value > *report.best_score)) {
          report.best_score = value;
          report.best_step = eval->step;
        }
      }
    } else {
      report.notes.push_back(std::get<NoteRecord>(record));
    }
  }
  if (busy > 0) report.tokens_per_second = counted / busy;
  if (std::isfinite(memory_mib))
    report.peak_memory_bytes = std::max(report.peak_memory_bytes, static_cast<int64_t>(memory_mib * 1024 * 1024));
}

std::string report_page(const RunReport& r) {
  const std::string title = r.title.empty() ? "A training run" : r.title;
  std::string body = header_section(title, r.status, r.ok, {r.model, r.method, r.task, r.created});
  body += "<main>\n" + cards_section(summary(r)) + curves_section(r) + evaluations_section(r) + samples_section(r) +
          notes_section(r) + background_section(r.recipe, r.environment) + "</main>\n" + footer_section(r.created);
  return html_page(title, body);
}

}  // namespace molt::train
