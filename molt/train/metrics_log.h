// The log of a run: metrics.jsonl, one JSON object per line, appended as things happen.
// Goals: every line is whole or absent whatever kills the run; cut back to a checkpoint's step, a resumed run's log
// equals that of a run that was never interrupted (times and memory aside).
// Non-goals: drawing (report.h), other programs' formats (tensorboard.h).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace molt::train {

/// One optimizer step. `step` counts from 1.
struct StepRecord {
  int64_t step = 0;
  double epoch = 0;              ///< samples seen over samples in the training set
  double loss = 0;               ///< mean over the labelled tokens of the step, natural logarithm
  double lr = 0;                 ///< the first parameter group's
  double grad_norm = 0;          ///< before clipping
  int64_t tokens = 0;            ///< in this step, all ranks and micro-batches
  int64_t labelled_tokens = 0;   ///< those the loss is a mean over
  double tokens_per_second = 0;  ///< of this step
  double seconds = 0;            ///< spent in training so far, over all sessions of the run
  double memory_mib = 0;         ///< resident memory of the process
};

/// One evaluation after `step` steps: name of the data ("validation", "test") and its values in the order to show.
struct EvalRecord {
  int64_t step = 0;
  std::string name;
  std::vector<std::pair<std::string, double>> values;
};

/// Something worth keeping in words: a phase that begins, a resumption, a step that was skipped.
struct NoteRecord {
  int64_t step = 0;
  std::string text;
};

using MetricsRecord = std::variant<StepRecord, EvalRecord, NoteRecord>;

/// The step a record belongs to.
int64_t step_of(const MetricsRecord& record);

/// A record as one line of JSON without the line break: {"type":"step","step":1,"epoch":0.1,...}. Numbers that JSON
/// has no word for become the strings "NaN", "Infinity" and "-Infinity"; bytes that are no UTF-8 become U+FFFD.
std::string to_json_line(const MetricsRecord& record);

/// The inverse. `where` (file and line) opens the UsageError that anything else than a record gets.
MetricsRecord parse_metrics_line(const std::string& line, const std::string& where);

/// All records of a log. A last line without its line break (a run that was killed in mid-write) is left out; any
/// other malformed line throws UsageError with its number.
std::vector<MetricsRecord> read_metrics(const std::string& path);

/// Appends records to a log.
class MetricsLog {
 public:
  /// Begins an empty log; one that exists is emptied. Throws SystemError where the file cannot be made.
  static MetricsLog start(const std::string& path);

  /// Goes on after `last_step`: records of later steps and a torn last line are removed first, atomically, the rest is
  /// kept byte for byte. A missing file starts empty. A trainer therefore writes the checkpoint of a step after
  /// everything it logs for that step. Throws UsageError for a malformed log.
  /// What lies past `bytes` goes too: size() when the checkpoint was written.
  static MetricsLog resume(const std::string& path, int64_t last_step, int64_t bytes = INT64_MAX);

  MetricsLog(MetricsLog&& other) noexcept;
  MetricsLog& operator=(MetricsLog&& other) noexcept;
  ~MetricsLog();

  /// Appends one line and hands it to the system in one write, so that it outlives this process. Throws SystemError
  /// (no space left).
  void write(const MetricsRecord& record);

  /// Waits until what was written has reached the disk. Call before a checkpoint counts as complete.
  void sync();

  /// Bytes in the file. Throws SystemError.
  int64_t size() const;

  const std::string& path() const { return path_; }

 private:
  MetricsLog(std::string path, int flags);
  std::string path_;
  int fd_ = -1;
};

}  // namespace molt::train
