// The product with a Kronecker product, which is never formed: LoKr.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// y[:, begin : begin + L·K] += scale · (W1 ⊗ W2) x. Inputs: y (T, ≥ L·K), x (T, M·N), W1 (L, M), W2 (K, N).
/// Row l·K + k, column m·N + n of the product is W1[l, m] · W2[k, n].
struct KronAdd {
  static constexpr const char* kName = "kron_add";
  double scale = 1;
  int64_t begin = 0;
  Tensor x{}, W1{}, W2{}, z{};  // x (T·M, N), z = x W2ᵀ (T·M, K)

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& W1_in, const Tensor& W2_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Writes into y's memory: the op that made y must not need its value again.
inline Var kron_add(const Var& y, const Var& x, const Var& W1, const Var& W2, double scale, int64_t begin = 0) {
  return record(KronAdd{scale, begin}, y, x, W1, W2);
}

}  // namespace molt::ops
