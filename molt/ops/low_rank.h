// The low-rank update of LoRA (Hu et al., 2021), added in place to some columns of a product.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// y[:, begin : begin+O] += scale · (x Aᵀ) Bᵀ. Inputs: y (T, W), x (T, I), A (R, I), B (O, R).
struct LowRank {
  static constexpr const char* kName = "low_rank";
  double scale = 1;
  int64_t begin = 0;
  bool done = false;
  Tensor x{}, A{}, B{}, u{};  // u = x Aᵀ (T, R)

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& A_in, const Tensor& B_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Writes into y's memory: the op that made y must not need its value again. `done`: an earlier run has.
inline Var low_rank(const Var& y, const Var& x, const Var& A, const Var& B, double scale, int64_t begin = 0,
                    bool done = false) {
  return record(LowRank{scale, begin, done}, y, x, A, B);
}

}  // namespace molt::ops
