// Factors on the columns of an activation: IA3, and the magnitudes of DoRA.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// With k = factor / divisor (divisor undefined: 1), for W = |factor| columns from `begin` on:
/// out = k ∘ (y − shift) + shift, the other columns as they are. Inputs: y (T, ≥ W), factor (W), shift (W) or
/// undefined.
struct ScaleColumns {
  static constexpr const char* kName = "scale_columns";
  int64_t begin = 0;
  Tensor divisor{};  ///< a constant
  Tensor y{}, factor{}, shift{};

  Tensor forward(const Needs& needs, const Tensor& y_in, const Tensor& factor_in, const Tensor& shift_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Where no gradient of the factor is wanted it writes into y's memory: nobody else may read it. A factor equal to its
/// divisor changes no bit.
inline Var scale_columns(const Var& y, const Var& factor, int64_t begin = 0, const Var& shift = {},
                         const Tensor& divisor = {}) {
  return record(ScaleColumns{begin, divisor}, y, factor, shift);
}

/// x ∘ factor in new memory whatever is wanted: for values that others read too. x (T, W), factor (W).
Var scaled(const Var& x, const Var& factor);

}  // namespace molt::ops
