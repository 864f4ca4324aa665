// The report of a run, and of several runs side by side: one HTML page that needs nothing but a browser.
// Goals: self-contained (styles, drawings and a little script inside; a content policy forbids anything else), readable
// in light and dark and on paper, safe whatever a model generated (every text is escaped). The trainer fills plain
// structs; what it leaves empty is left out of the page. Non-goals: watching a run live (tensorboard.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "molt/train/curve.h"
#include "molt/train/metrics_log.h"

namespace molt::train {

/// One generated answer.
struct SampleRow {
  std::string prompt, expected, generated;
  std::optional<bool> correct;  ///< absent where right and wrong make no sense
};

/// A label and its value, shown in the order given.
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Everything a run's page can show. Absent or empty members are left out.
struct RunReport {
  std::string title;    ///< such as the task or the run's name
  std::string created;  ///< time, as iso_time()
  std::string status;   ///< "finished", "stopped at step 300: loss is nan", ...
  bool ok = true;       ///< colours the status
  std::string model, method, task;

  int64_t trainable_parameters = 0, total_parameters = 0;  ///< total counts what the method added too
  int64_t base_parameters = 0;                             ///< without what the method added
  std::string score_name;                                  ///< the metric that chooses the best checkpoint
  std::optional<double> best_score;
  std::optional<int64_t> best_step;
  int64_t steps = 0;
  double epochs = 0;
  double tokens_per_second = 0;
  int64_t tokens = 0;
  int64_t peak_memory_bytes = 0;
  double wall_seconds = 0;

  Curve train_loss, learning_rate, grad_norm, throughput;
  std::vector<NamedCurve> eval_loss;  ///< one per evaluated data set
  std::vector<EvalRecord> evaluations;
  std::vector<NoteRecord> notes;
  std::vector<SampleRow> samples;
  std::string recipe;  ///< as resolved, YAML
  Facts environment;   ///< version, host, processor, ISA, threads, seed, ...
};

/// Fills from a run's log: curves, evaluations, notes, steps, epochs, tokens, tokens per second, wall time, peak memory
/// (the larger of the log's and what is there already) and, where the log has values called `score_name`, the best of
/// them with its step.
void add_metrics(RunReport& report, const std::vector<MetricsRecord>& records);

/// One method's run within a comparison.
struct MethodResult {
  std::string name;    ///< short, such as "lora r=8"
  std::string detail;  ///< a line more, such as its targets
  int64_t trainable_parameters = 0, total_parameters = 0;
  std::vector<std::pair<std::string, double>> scores;  ///< of the best checkpoint
  std::optional<double> eval_loss;
  double seconds = 0;
  int64_t peak_memory_bytes = 0;
  double tokens_per_second = 0;
  Curve train_loss, eval_loss_curve;
  std::string failure;  ///< why there is no result; empty where there is one
  std::string link;     ///< address of the run's own report, relative to this page
};

struct ComparisonReport {
  std::string title, created;
  std::string model, task;
  std::string score_name;  ///< the main one of MethodResult::scores; the first method's first score if empty
  std::vector<MethodResult> methods;
  std::string recipe;
  Facts environment;
};

/// Whether a smaller value of a metric is the better one, by its name: losses, perplexities, error rates.
bool lower_is_better(const std::string& metric);

/// The pages. They depend on their argument alone.
std::string report_page(const RunReport& report);
std::string report_page(const ComparisonReport& report);

}  // namespace molt::train
