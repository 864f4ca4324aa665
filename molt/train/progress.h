// The line that shows how far a run is. On a terminal one line is redrawn in place, at most ten times per second;
// elsewhere (a file, a batch system's log) a plain line is written now and then.
// Goals: no flicker (each frame is one write that overwrites the old text and erases only what is left of it), never a
// wrapped line, other messages never tear it. Non-goals: knowing what a terminal is; the program says so.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace molt::train {

/// What a frame shows; what is absent or zero is left out.
struct ProgressStatus {
  int64_t step = 0;
  std::optional<double> loss = {};
  double tokens_per_second = 0;
  int64_t memory_bytes = 0;  ///< resident memory
  int64_t tokens = 0;        ///< of this step; if given, speeds are averaged: over the last steps, at the end over all
};

struct ProgressOptions {
  /// Gets whole frames and lines; the only way out.
  std::function<void(std::string_view)> sink = {};
  bool tty = false;
  bool colour = true;         ///< on a terminal
  bool unicode = true;        ///< on a terminal; ASCII otherwise
  int width = 80;             ///< columns of the terminal
  double plain_seconds = 60;  ///< without a terminal: a line after so much time or a tenth of the steps
  /// Seconds on a clock that never goes back; std::chrono::steady_clock unless given.
  std::function<double()> clock = {};
};

class Progress {
 public:
  explicit Progress(ProgressOptions options);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Ends the line, so that what the program prints next starts on its own.
  ~Progress();

  /// Begins a job of `total` steps, `done` of which are behind already (a resumed run), under a short title ("train",
  /// "eval"). The line of an earlier job is finished first.
  void begin(std::string title, int64_t total, int64_t done = 0);

  /// Shows where the job is. Cheap when it is too early for a new frame; the last step is always shown.
  void update(const ProgressStatus& status);

  /// Writes a message as lines of its own: above the progress line on a terminal.
  void message(std::string_view text);

  /// What the job is busy with between two steps, such as "validating 40 %", at the line's end; empty: nothing any
  /// more. Without a terminal it is not shown.
  void aside(std::string text);

  /// Shows the last status and leaves the line behind.
  void finish();

  void set_width(int columns) { options_.width = columns; }

  /// Seconds until the job is done by the pace of the last steps; negative while unknown.
  double seconds_left() const;

 private:
  std::string frame() const;
  std::string plain() const;
  void draw();
  void note_pace(double now);
  void note_work();
  double speed() const;

  ProgressOptions options_;
  std::string title_, aside_;
  int64_t total_ = 0;
  bool running_ = false, drawn_ = false;
  ProgressStatus status_;
  double began_ = 0, last_draw_ = 0;
  int64_t last_drawn_step_ = -1;
  // Seconds per step as a moving average over updates, with the weight seen so far to correct its start from zero.
  double pace_ = 0, pace_weight_ = 0, pace_time_ = 0;
  int64_t pace_step_ = 0;
  struct Work {
    double tokens = 0, seconds = 0;
  };
  Work last_work_, all_work_;
};

}  // namespace molt::train
