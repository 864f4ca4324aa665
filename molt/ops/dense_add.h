// A dense trainable change of a frozen weight: y += x · Δᵀ, in place. For warm-ups that look at every entry; what stays
// after them is sparse (ops/sparse_columns.h).
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// Inputs: y (T, O), x (T, I), delta (O, I).
struct DenseAdd {
  static constexpr const char* kName = "dense_add";
  Tensor x{}, delta{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& delta_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Writes into y's memory: the op that made y must not need its value again.
inline Var dense_add(const Var& y, const Var& x, const Var& delta) { return record(DenseAdd{}, y, x, delta); }

}  // namespace molt::ops
