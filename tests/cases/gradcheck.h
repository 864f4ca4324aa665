// Compares an op's gradients with central differences, in double precision: the decisive test of a backward pass.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/base/rng.h"

namespace molt::testing {

/// Standard normal values, times `scale`, plus `shift`.
inline Tensor random_tensor(Shape shape, uint64_t seed, double scale = 1, double shift = 0, Dtype dtype = Dtype::kF64) {
  Tensor t = Tensor::empty(std::move(shape), Dtype::kF64);
  const Rng rng(seed);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = scale * rng.normal(static_cast<uint64_t>(i)) + shift;
  return t.to(dtype);
}

/// ‖a − b‖ / ‖b‖.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}
inline double relative_error(const Tensor& a, const Tensor& b) { return relative_error(a.values(), b.values()); }

/// f maps inputs (f64 tensors as Vars) to outputs. The scalar checked is Σ outputs · fixed random weights. Every input
/// must reach relative error < 1e-7 (central differences in double, step 1e-5, are exact to about 1e-9 here).
inline void check_gradients(const std::vector<Tensor>& inputs,
                            const std::function<std::vector<Var>(const std::vector<Var>&)>& f,
                            const std::vector<std::string>& names = {}, double tolerance = 1e-7) {
  auto name = [&](size_t i) { return i < names.size() ? names[i] : "input " + std::to_string(i); };
  auto weights = [](const Tensor& y, size_t k) { return random_tensor(y.shape(), 1000 + k); };
  auto objective = [&](const std::vector<Tensor>& at) {
    NoGrad no_grad;
    std::vector<Var> vars;
    for (const Tensor& t : at) vars.emplace_back(t.defined() ? t.clone() : t);
    double sum = 0;
    const auto ys = f(vars);
    for (size_t k = 0; k < ys.size(); ++k) {
      const auto y = ys[k].value().values(), w = weights(ys[k].value(), k).values();
      for (size_t i = 0; i < y.size(); ++i) sum += y[i] * w[i];
    }
    return sum;
  };

  std::vector<Var> leaves;
  for (const Tensor& t : inputs) leaves.push_back(t.defined() ? Var::leaf(t.clone()) : Var());
  const auto ys = f(leaves);
  for (size_t k = 0; k < ys.size(); ++k) {
    if (!ys[k].needs_grad()) continue;
    // Several outputs of one op must be seeded before it runs: seed all but the last, then run from the last.
    if (k + 1 < ys.size()) {
      detail::give_grad(*ys[k].node(), weights(ys[k].value(), k));
    } else {
      backward(ys[k], weights(ys[k].value(), k));
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    const Tensor grad = leaves[i].grad();
    ASSERT_TRUE(grad.defined()) << name(i) << ": no gradient arrived";
    std::vector<double> numeric;
    for (int64_t e = 0; e < inputs[i].numel(); ++e) {
      std::vector<Tensor> moved = inputs;
      moved[i] = inputs[i].clone();
      double& element = moved[i].data<double>()[e];
      const double at = element, h = 1e-5 * std::max(1.0, std::abs(at));
      element = at + h;
      const double up = objective(moved);
      element = at - h;
      numeric.push_back((up - objective(moved)) / (2 * h));
    }
    EXPECT_LT(relative_error(grad.values(), numeric), tolerance) << "gradient of " << name(i);
  }
}

}  // namespace molt::testing
