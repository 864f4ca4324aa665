// A low-rank product with factors between and behind its matrices: VeRA trains the factors alone, AdaLoRA all.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// y[:, begin : begin+O] += scale · b ∘ (B (d ∘ (A x))). Inputs: y (T, W), x (T, I), A (R, I), d (R), B (O, R), b (O)
/// or undefined (ones). Whatever needs no gradient costs none.
struct VectorLowRank {
  static constexpr const char* kName = "vector_low_rank";
  double scale = 1;
  int64_t begin = 0;
  Tensor x{}, A{}, diagonal{}, B{}, b{}, u{};  // u = x Aᵀ (T, R)

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& A_in, const Tensor& d_in,
                 const Tensor& B_in, const Tensor& b_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Writes into y's memory: the op that made y must not need its value again.
inline Var vector_low_rank(const Var& y, const Var& x, const Var& A, const Var& d, const Var& B, const Var& b,
                           double scale, int64_t begin = 0) {
  return record(VectorLowRank{scale, begin}, y, x, A, d, B, b);
}

}  // namespace molt::ops
