// Curves over optimizer steps: smoothed for the eye, thinned so that a page stays small.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace molt::train {

struct CurvePoint {
  double step = 0;
  double value = 0;
};
using Curve = std::vector<CurvePoint>;

struct NamedCurve {
  std::string name;
  Curve points;
};

/// Each point on the straight line that fits best (least squares) through it and `radius` points on either side: inside
/// the curve that is the average, near its ends nothing is bent. Points that are not finite are left out; spikes of
/// long curves count as if they lay twice the width of the middle 98 % of the values outside of that.
Curve smoothed(const Curve& curve, size_t radius);

/// The radius that suits a curve: 1/40 of its points, 0 below 30 points.
size_t smoothing_radius(size_t points);

/// At most 2 * buckets + 2 points of a curve: both ends, and the smallest and the largest of each bucket. Points are
/// kept or dropped, never changed, so peaks survive. Points that are not finite are left out.
Curve thinned(const Curve& curve, size_t buckets);

/// The value below which a share of the values lies (0 the smallest, 1 the largest); no interpolation. Needs a value.
double quantile(std::vector<double> values, double share);

}  // namespace molt::train
