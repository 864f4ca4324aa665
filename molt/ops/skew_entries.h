// The skew-symmetric part of square matrices, for methods that train whole ones (BOFT).
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// Input: M (B, K, K). Output (B, K (K − 1) / 2): the entries above the diagonal of (M − Mᵀ) / 2, row by row, as
/// ops::cayley takes them.
struct SkewEntries {
  static constexpr const char* kName = "skew_entries";
  int64_t size = 0;  ///< K

  Tensor forward(const Needs&, const Tensor& M);
  void backward(const Tensor& dv, Grads& d) const;
};

inline Var skew_entries(const Var& M) { return record(SkewEntries{}, M); }

}  // namespace molt::ops
