#include "molt/ops/sparse_columns.h"

namespace molt::ops {

Tensor SparseColumns::forward(const Needs& needs, const Tensor& y, const Tensor& x, const Tensor& delta_in) {
  const int64_t count = static_cast<int64_t>(columns->size());
  MOLT_CHECK(y.rank() == 2 && x.rank() == 2 && x.dim(0) == y.dim(0), "sparse_columns: y ", shape_str(y.shape()), ", x ",
             shape_str(x.shape()));
  MOLT_CHECK(delta_in.rank() == 2 && delta_in.dim(1) == count && delta_in.dtype() == y.dtype(),
             "sparse_columns: delta ", shape_str(delta_in.shape()), " ", dtype_name(delta_in.dtype()), " for ", count,
             " columns and y of ", dtype_name(y.dtype()));
  MOLT_CHECK(columns->empty() || (columns->front() >= 0 && columns->back() < x.dim(1)),
             "sparse_columns: columns up to ", columns->empty() ? 0 : columns->back(), " of x ", shape_str(x.shape()));
  const Tensor target = y.col_range(first_col, delta_in.dim(0)), chosen = y.like({y.dim(0), count});
  sparse_columns_kernels.at(y.device()).forward(x, *columns, delta_in, chosen, target);
  if (needs.wants(2)) xs = chosen;
  if (needs.any()) delta = delta_in;
  return y;
}

void SparseColumns::backward(const Tensor& dy, Grads& d) const {
  const SparseColumnsKernels& kernels = sparse_columns_kernels.at(dy.device());
  const Tensor part = dy.col_range(first_col, delta.dim(0));
  if (d.wants(2)) kernels.delta_gradient(part, xs, d.out(2));
  if (d.wants(1)) kernels.x_gradient(part, delta, *columns, d.out(1));
  d.give(0, dy);
}

}  // namespace molt::ops
