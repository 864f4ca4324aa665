// The product of MiSS (Kang, 2024): the input is folded into R sums, which one small matrix maps to the output.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// y[:, begin : begin+O] += u · D with u[t, j] = Σ_g x[t, g·R + j]. Inputs: y (T, W), x (T, I), D (R, O).
struct FoldedAdd {
  static constexpr const char* kName = "folded_add";
  int64_t begin = 0;
  int64_t inputs = 0;
  Tensor D{}, u{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x, const Tensor& D_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Writes into y's memory: the op that made y must not need its value again.
inline Var folded_add(const Var& y, const Var& x, const Var& D, int64_t begin = 0) {
  return record(FoldedAdd{begin}, y, x, D);
}

}  // namespace molt::ops
