// Small products of trainables, before they meet an activation.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

struct ParamProduct {
  static constexpr const char* kName = "param_product";
  double scale = 1;
  Tensor a{}, b{};

  Tensor forward(const Needs& needs, const Tensor& a_in, const Tensor& b_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// scale · a b, a (M, R), b (R, N) -> (M, N).
inline Var param_product(const Var& a, const Var& b, double scale = 1) { return record(ParamProduct{scale}, a, b); }

/// Products of all pairs: of columns where `rows` is false, so out[i, r·S + s] = a[i, r] · b[i, s] for a (M, R), b (M,
/// S); of rows otherwise, so out[r·S + s, i] = a[r, i] · b[s, i] for a (R, M), b (S, M).
struct PairProducts {
  static constexpr const char* kName = "pair_products";
  bool rows = false;
  Tensor a{}, b{};

  Tensor forward(const Needs& needs, const Tensor& a_in, const Tensor& b_in);
  void backward(const Tensor& dy, Grads& d) const;
};

inline Var pair_products(const Var& a, const Var& b, bool rows) { return record(PairProducts{rows}, a, b); }

}  // namespace molt::ops
