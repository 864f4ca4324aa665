// Where the time of a step goes: seconds per op and direction, for benches and reports. Off, it costs a test per op.
// Counted is the op's own time: that of ops it runs inside itself (recomputation, the head's chunks) is theirs.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace molt {

struct OpTime {
  std::string name;  ///< "section/op" inside a section
  bool backward = false;
  double seconds = 0;
  int64_t calls = 0;
};

/// Starts counting on this thread, from zero.
void start_op_times();
/// Stops, and returns what was counted, the longest first.
std::vector<OpTime> stop_op_times();

namespace detail {
inline thread_local bool op_times_on = false;
}

/// Counts from construction to destruction.
class TimedOp {
 public:
  TimedOp(const char* name, bool backward) {
    if (detail::op_times_on) begin(name, backward);
  }
  ~TimedOp() {
    if (name_) end();
  }
  TimedOp(const TimedOp&) = delete;
  TimedOp& operator=(const TimedOp&) = delete;

 private:
  void begin(const char* name, bool backward);
  void end();
  const char* name_ = nullptr;
  bool backward_ = false;
  double inner_ = 0;  // seconds of ops inside
  TimedOp* outer_ = nullptr;
  std::chrono::steady_clock::time_point start_{};
};

/// While one lives, names of ops are prefixed with "name/".
class TimedSection {
 public:
  explicit TimedSection(const char* name);
  ~TimedSection();
  TimedSection(const TimedSection&) = delete;
  TimedSection& operator=(const TimedSection&) = delete;

 private:
  const char* outer_;
};

}  // namespace molt
