// Axes of drawings: a range, linear or logarithmic, with round values to mark.
#pragma once

#include <string>
#include <vector>

namespace molt::train {

struct Axis {
  double lo = 0, hi = 1;
  bool log = false;
  std::vector<double> ticks;

  /// Where a value lies: 0 at lo, 1 at hi, beyond them outside.
  double place(double value) const;
};

/// About `count` ticks at multiples of 1, 2 or 5 times a power of ten. With `widen` the ends move out to ticks. A range
/// without extent becomes one around its value.
Axis linear_axis(double lo, double hi, int count, bool widen);

/// Ticks at powers of ten, and at 2 and 5 times them where the range is short. Needs 0 < lo <= hi.
Axis log_axis(double lo, double hi);

/// How one of an axis' ticks is written beside the others: "0", "0.5", "1.5k", "2e-4".
std::string tick_label(const Axis& axis, double tick);

}  // namespace molt::train
