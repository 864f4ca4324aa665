// A product with few rows of a matrix: y[:, S] += x · delta. This is how SDT+
// trains the output channels of a frozen projection that belong to chosen
// channels, and nothing else. Runs on the kernels of sparse_columns.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

struct SparseRows {
  static constexpr const char* kName = "sparse_rows";
  IndexSetPtr rows;
  int64_t first_row = 0, size = 0;
  Tensor x{}, delta{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& delta_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// y (T, W), x (T, I), delta (I, S): the change of weight rows first_row + S,
/// transposed -> y with x · delta added to its columns first_row + S, S in [0,
/// size), in the memory of y: what made y must not need it again (a product
/// does not).
inline Var sparse_rows(const Var& y, const Var& x, const Var& delta, IndexSetPtr rows, int64_t first_row,
                       int64_t size) {
  return record(SparseRows{std::move(rows), first_row, size}, y, x, delta);
}

}  // namespace molt::ops
