#include "molt/train/curve.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"

namespace molt::train {
namespace {

Curve finite(const Curve& curve) {
  Curve out;
  out.reserve(curve.size());
  std::copy_if(curve.begin(), curve.end(), std::back_inserter(out),
               [](const CurvePoint& p) { return std::isfinite(p.step) && std::isfinite(p.value); });
  return out;
}

}  // namespace

Curve smoothed(const Curve& curve, size_t radius) {
  Curve points = finite(curve);
  if (radius == 0 || points.empty()) return points;
  // A single 1e30 would lift its whole window, and would drown everything after it in the running sums.
  std::vector<double> values;
  for (const CurvePoint& p : points) values.push_back(p.value);
  const double low = quantile(values, 0.01), high = quantile(values, 0.99), reach = 2 * (high - low);
  for (CurvePoint& p : points) p.value = std::clamp(p.value, low - reach, high + reach);
  std::vector<double> sums(points.size() + 1, 0);
  for (size_t i = 0; i < points.size(); ++i) sums[i + 1] = sums[i] + points[i].value;
  Curve out = points;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t from = i - std::min(i, radius), to = std::min(i + radius, points.size() - 1);
    const double count = static_cast<double>(to - from + 1), mean = (sums[to + 1] - sums[from]) / count;
    const double middle = static_cast<double>(from + to) / 2;
    // The straight line of least squares through the window, at i. Where the window reaches equally far on both sides
    // that is its mean; near the ends the slope matters, or a falling curve would start too low.
    double slope = 0;
    if (i - from != to - i) {
      for (size_t j = from; j <= to; ++j) slope += (static_cast<double>(j) - middle) * (points[j].value - mean);
      slope /= count * (count * count - 1) / 12;
    }
    out[i].value = mean + slope * (static_cast<double>(i) - middle);
  }
  return out;
}

size_t smoothing_radius(size_t points) { return points < 30 ? 0 : std::max<size_t>(1, points / 40); }

Curve thinned(const Curve& curve, size_t buckets) {
  const Curve points = finite(curve);
  if (buckets == 0 || points.size() <= 2 * buckets) return points;
  Curve out{points.front()};
  for (size_t b = 0; b < buckets; ++b) {
    const auto from = points.begin() + static_cast<std::ptrdiff_t>(b * points.size() / buckets);
    const auto to = points.begin() + static_cast<std::ptrdiff_t>((b + 1) * points.size() / buckets);
    auto [low, high] = std::minmax_element(from, to, [](const auto& p, const auto& q) { return p.value < q.value; });
    if (high < low) std::swap(low, high);
    out.push_back(*low);
    if (high != low) out.push_back(*high);
  }
  out.push_back(points.back());
  return out;
}

double quantile(std::vector<double> values, double share) {
  MOLT_CHECK(!values.empty(), "quantile: no values");
  const auto at = static_cast<size_t>(std::llround(share * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

}  // namespace molt::train
