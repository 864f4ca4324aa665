// Initial values as torch draws them, by our own generator.
#pragma once

#include <cmath>
#include <string>

#include "molt/autograd/var.h"
#include "molt/base/rng.h"

namespace molt::peft {

/// Uniform in ±bound, keyed by seed and name.
inline Tensor uniform_tensor(Shape shape, Dtype dtype, double bound, uint64_t seed, const std::string& name) {
  const Rng rng(seed, name);
  std::vector<double> values(static_cast<size_t>(shape_numel(shape)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = (2 * rng.uniform(i) - 1) * bound;
  return Tensor::from(values, std::move(shape)).to(dtype);
}

/// torch's kaiming_uniform_ with a = sqrt(5): ±1 / sqrt(columns).
inline Tensor kaiming(Shape shape, Dtype dtype, uint64_t seed, const std::string& name) {
  const double bound = 1 / std::sqrt(static_cast<double>(shape.back()));
  return uniform_tensor(std::move(shape), dtype, bound, seed, name);
}

/// Normal with a deviation.
inline Tensor normal_tensor(Shape shape, Dtype dtype, double deviation, uint64_t seed, const std::string& name) {
  const Rng rng(seed, name);
  std::vector<double> values(static_cast<size_t>(shape_numel(shape)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = deviation * rng.normal(i);
  return Tensor::from(values, std::move(shape)).to(dtype);
}

}  // namespace molt::peft
