#include "molt/train/axis.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"
#include "molt/base/format.h"

namespace molt::train {

double Axis::place(double value) const {
  if (log) return (std::log(value) - std::log(lo)) / (std::log(hi) - std::log(lo));
  return (value - lo) / (hi - lo);
}

Axis linear_axis(double lo, double hi, int count, bool widen) {
  MOLT_CHECK(std::isfinite(lo) && std::isfinite(hi) && lo <= hi && count > 0, "axis: from ", lo, " to ", hi);
  // Below this the ticks would differ only in digits a double does not have.
  const double least = std::max(std::fabs(lo), std::fabs(hi)) * 1e-9;
  if (hi - lo <= least) {
    const double half = lo == 0 ? 0.5 : std::fabs(lo) * 0.1;
    lo -= half, hi += half;
  }
  const double rough = (hi - lo) / count, power = std::pow(10, std::floor(std::log10(rough)));
  const double ratio = rough / power;
  const double step = power * (ratio < 1.2 ? 1 : ratio < 2.4 ? 2 : ratio < 6 ? 5 : 10);
  Axis axis;
  axis.lo = widen ? std::floor(lo / step + 1e-6) * step : lo;
  axis.hi = widen ? std::ceil(hi / step - 1e-6) * step : hi;
  const double first = std::ceil(axis.lo / step - 1e-6), last = std::floor(axis.hi / step + 1e-6);
  for (double i = first; i <= last; ++i) axis.ticks.push_back(i == 0 ? 0 : i * step);
  return axis;
}

Axis log_axis(double lo, double hi) {
  MOLT_CHECK(lo > 0 && lo <= hi && std::isfinite(hi), "axis: logarithmic from ", lo, " to ", hi);
  Axis axis;
  axis.log = true;
  axis.lo = lo == hi ? lo / 2 : lo, axis.hi = lo == hi ? hi * 2 : hi;
  const double decades = std::log10(axis.hi / axis.lo);
  const int every = std::max(1, static_cast<int>(decades / 6));  // very long ranges mark every few decades only
  for (int power = static_cast<int>(std::floor(std::log10(axis.lo))); power <= std::log10(axis.hi); ++power) {
    if (power % every != 0) continue;
    for (const double digit : {1.0, 2.0, 5.0}) {
      if (digit > 1 && decades > 2.2) break;
      const double tick = digit * std::pow(10, power);
      if (tick >= axis.lo * (1 - 1e-9) && tick <= axis.hi * (1 + 1e-9)) axis.ticks.push_back(tick);
    }
  }
  return axis;
}

std::string tick_label(const Axis& axis, double tick) {
  if (tick == 0) return "0";
  const double largest = std::max(std::fabs(axis.lo), std::fabs(axis.hi));
  if (axis.log) {
    if (tick >= 1e6) return format_significant(tick / 1e6, 3) + "M";
    if (tick >= 1e4) return format_significant(tick / 1e3, 3) + "k";
    return format_significant(tick, 3);
  }
  const double step = axis.ticks.size() > 1 ? axis.ticks[1] - axis.ticks[0] : std::fabs(tick);
  const double unit = largest >= 1e6 ? 1e6 : largest >= 1e4 ? 1e3 : 1;
  if (largest < 1e-3 || largest >= 1e10) return format_significant(tick, 3);
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step / unit) - 1e-6)), 0, 12);
  return format_fixed(tick / unit, decimals) + (unit == 1e6 ? "M" : unit == 1e3 ? "k" : "");
}

}  // namespace molt::train
