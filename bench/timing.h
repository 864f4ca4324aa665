// How benches measure: the same work again and again for a while; the best and the middle of the times, and the least
// processor time, which other programs on the machine disturb less (on one thread: with more, waiting counts too).
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

namespace molt::bench {

struct Timing {
  double best_ms = 0, median_ms = 0, cpu_ms = 0;
  int repeats = 0;
};

inline double process_cpu_ms() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

/// Runs `setup` (not timed) and `work` (timed) in turn, for about `seconds` and at least five times after one warm-up.
template <class Setup, class Work>
Timing measure(double seconds, Setup&& setup, Work&& work) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  double cpu = 1e300;
  const auto start = Clock::now();
  for (int i = 0; i < 6 || std::chrono::duration<double>(Clock::now() - start).count() < seconds; ++i) {
    setup();
    const double cpu_before = process_cpu_ms();
    const auto before = Clock::now();
    work();
    if (i == 0) continue;
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - before).count());
    cpu = std::min(cpu, process_cpu_ms() - cpu_before);
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2], cpu, static_cast<int>(times.size())};
}

/// Prints a table for people, or one JSON object per line for programs.
class Report {
 public:
  explicit Report(bool json) : json_(json) {
    if (!json_)
      std::printf("%-34s %-28s %10s %10s %10s %12s\n", "op", "shape", "best ms", "median ms", "cpu ms", "tokens/s");
  }
  void line(const std::string& op, const std::string& shape, double tokens, const Timing& t) const {
    if (json_) {
      std::printf(
          "{\"op\": \"%s\", \"shape\": \"%s\", \"best_ms\": %.4f, \"median_ms\": %.4f, \"cpu_ms\": %.4f, \"repeats\": "
          "%d}\n",
          op.c_str(), shape.c_str(), t.best_ms, t.median_ms, t.cpu_ms, t.repeats);
    } else {
      std::printf("%-34s %-28s %10.3f %10.3f %10.3f %12.0f\n", op.c_str(), shape.c_str(), t.best_ms, t.median_ms,
                  t.cpu_ms, tokens / t.best_ms * 1e3);
    }
    std::fflush(stdout);
  }

 private:
  bool json_;
};

}  // namespace molt::bench
