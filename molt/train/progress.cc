#include "molt/train/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

#include "molt/base/error.h"
#include "molt/base/format.h"

namespace molt::train {
namespace {

constexpr double kFrameSeconds = 0.1;
constexpr const char* kEraseToEnd = "\x1b[K";
constexpr int kLongestBar = 32, kShortestBar = 8;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Columns of UTF-8 text, one per code point: right for all this file writes itself.
int columns(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string repeat(std::string_view piece, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += piece;
  return out;
}

/// A number, right-aligned in `width` columns so that the line does not jump about.
std::string padded(int64_t value, size_t width) {
  std::string digits = std::to_string(value);
  if (digits.size() < width) digits.insert(0, width - digits.size(), ' ');
  return digits;
}

/// A bar of `width` columns, `share` of it full; half columns where Unicode allows.
std::string bar(double share, int width, bool unicode, bool colour) {
  const int halves = static_cast<int>(share * width * 2 + 1e-9), full = halves / 2;
  const bool half = halves % 2 && full < width;
  if (!unicode) {
    const int head = full < width && full > 0 ? 1 : 0;
    return str("[", repeat("=", full - head), repeat(">", head), repeat(" ", width - full), "]");
  }
  std::string done = repeat("━", full), rest;
  if (half) done += "╸";
  rest = repeat(colour ? "━" : "─", width - full - (half ? 1 : 0));
  return colour ? str("\x1b[36m", done, "\x1b[90m", rest, "\x1b[0m") : done + rest;
}

}  // namespace

Progress::Progress(ProgressOptions options) : options_(std::move(options)) {
  MOLT_CHECK(options_.sink, "progress: no sink");
  if (!options_.clock) options_.clock = steady_seconds;
}

Progress::~Progress() {
  try {
    finish();
  } catch (...) {  // a sink that fails must not end the program from a destructor
  }
}

void Progress::begin(std::string title, int64_t total, int64_t done) {
  finish();
  title_ = std::move(title);
  total_ = std::max<int64_t>(total, 0);
  pace_step_ = done;
  aside_.clear();
  status_ = {};
  status_.step = done;
  began_ = pace_time_ = options_.clock();
  last_draw_ = began_ - kFrameSeconds;
  if (!options_.tty) last_draw_ = began_;
  last_drawn_step_ = -1;
  pace_ = pace_weight_ = 0;
  last_work_ = all_work_ = {};
  running_ = true;
  drawn_ = false;
}

void Progress::note_pace(double now) {
  const int64_t steps = status_.step - pace_step_;
  if (steps <= 0) return;
  // Each step weighs 5 % of the average: about the last 60 steps count, and pauses (evaluations) spread out.
  const double keep = std::pow(0.95, static_cast<double>(steps));
  pace_ = pace_ * keep + (now - pace_time_) / static_cast<double>(steps) * (1 - keep);
  pace_weight_ = pace_weight_ * keep + (1 - keep);
  pace_time_ = now;
  pace_step_ = status_.step;
}

void Progress::note_work() {
  if (status_.tokens <= 0 || status_.tokens_per_second <= 0) return;
  const double tokens = static_cast<double>(status_.tokens), seconds = tokens / status_.tokens_per_second;
  all_work_ = {all_work_.tokens + tokens, all_work_.seconds + seconds};
  constexpr double kKeep = 0.9;
  last_work_ = {last_work_.tokens * kKeep + tokens, last_work_.seconds * kKeep + seconds};
}

double Progress::speed() const {
  const Work& work = status_.step >= total_ ? all_work_ : last_work_;
  return work.seconds > 0 ? work.tokens / work.seconds : status_.tokens_per_second;
}

double Progress::seconds_left() const {
  if (pace_weight_ <= 0 || total_ <= 0) return -1;
  return static_cast<double>(std::max<int64_t>(0, total_ - status_.step)) * pace_ / pace_weight_;
}

void Progress::update(const ProgressStatus& status) {
  if (!running_) return;
  status_ = status;
  const double now = options_.clock();
  note_pace(now);
  note_work();
  const bool last = status_.step >= total_;
  if (options_.tty) {
    if (last || now - last_draw_ >= kFrameSeconds) draw();
    return;
  }
  // The first step too: it says that the run has begun and how fast it is.
  const bool first = last_drawn_step_ < 0, tenth = status_.step - last_drawn_step_ >= std::max<int64_t>(1, total_ / 10);
  if (first || last || tenth || now - last_draw_ >= options_.plain_seconds) draw();
}

void Progress::aside(std::string text) {
  const bool over = text.empty();
  aside_ = std::move(text);
  if (running_ && options_.tty && drawn_ && (over || options_.clock() - last_draw_ >= kFrameSeconds)) draw();
}

void Progress::draw() {
  last_draw_ = options_.clock();
  last_drawn_step_ = status_.step;
  options_.sink(options_.tty ? str("\r", frame(), kEraseToEnd) : str(plain(), "\n"));
  drawn_ = true;
}

void Progress::message(std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  if (!options_.tty || !running_ || !drawn_) {
    options_.sink(std::string(text) + "\n");
    return;
  }
  // One write: the old line goes, the message takes its place, the line follows below.
  options_.sink(str("\r", kEraseToEnd, text, "\n", frame(), kEraseToEnd));
}

void Progress::finish() {
  if (!running_) return;
  running_ = false;
  if (options_.tty && drawn_) {
    options_.sink(str("\r", frame(), kEraseToEnd, "\n"));
  } else if (!options_.tty && last_drawn_step_ >= 0 && last_drawn_step_ != status_.step) {
    draw();
  }
}

std::string Progress::plain() const {
  const std::string total = std::to_string(total_);
  std::string line = str(title_, " ", padded(status_.step, total.size()), "/", total);
  if (status_.loss) line += "  loss " + format_fixed(*status_.loss, 4);
  if (status_.tokens_per_second > 0) line += "  " + format_count(speed()) + " tok/s";
  if (status_.memory_bytes > 0) line += "  " + format_bytes(status_.memory_bytes);
  if (status_.step >= total_) return line + "  took " + format_clock(pace_time_ - began_);
  if (const double left = seconds_left(); left >= 0) line += "  " + format_clock(left) + " left";
  return line;
}

std::string Progress::frame() const {
  const bool done = status_.step >= total_;
  const double share =
      total_ > 0 ? std::clamp(static_cast<double>(status_.step) / static_cast<double>(total_), 0.0, 1.0) : 1.0;
  const std::string separator = options_.unicode ? " · " : " | ", total = std::to_string(total_);

  // What the line must hold, then what it may; what does not fit is left out, the least dear first.
  const std::string counts = str(padded(status_.step, total.size()), "/", total);
  struct Field {
    std::string text;
    int rank;  // 0 stays longest
  };
  std::vector<Field> fields;
  if (status_.loss) fields.push_back({"loss " + format_fixed(*status_.loss, 4), 1});
  if (status_.tokens_per_second > 0) fields.push_back({format_count(speed()) + " tok/s", 2});
  if (status_.memory_bytes > 0) fields.push_back({format_bytes(status_.memory_bytes), 3});
  const double left = seconds_left();
  if (done) fields.push_back({"took " + format_clock(pace_time_ - began_), 0});
  if (!done && left >= 0) fields.push_back({format_clock(left) + " left", 0});
  if (!aside_.empty()) fields.push_back({aside_, 0});

  const int room = options_.width - 1;  // a full last column would wrap on some terminals
  const std::string percent = padded(static_cast<int64_t>(share * 100 + 1e-9), 3) + "%";
  auto length = [&](int bar_columns) {
    int sum = columns(title_) + 1 + columns(counts);
    if (bar_columns > 0) sum += bar_columns + (options_.unicode ? 0 : 2) + 1 + columns(percent) + 1;
    for (const Field& field : fields) sum += 3 + columns(field.text);
    return sum;
  };
  int rank = 3;
  while (length(kShortestBar) > room && !fields.empty()) {
    fields.erase(std::remove_if(fields.begin(), fields.end(), [&](const Field& f) { return f.rank == rank; }),
                 fields.end());
    --rank;
  }
  int bar_columns = std::min(kLongestBar, kShortestBar + room - length(kShortestBar));
  if (bar_columns < kShortestBar) bar_columns = 0;
  std::string line = title_ + " ";
  if (bar_columns > 0) line += bar(share, bar_columns, options_.unicode, options_.colour) + " " + percent + " ";
  line += counts;
  if (length(bar_columns) > room) return counts.substr(0, static_cast<size_t>(std::max(0, room)));  // hardly any room
  for (const Field& field : fields)
    line += (options_.colour ? "\x1b[90m" + separator + "\x1b[0m" : separator) + field.text;
  return line;
}

}  // namespace molt::train
