#include "molt/ops/sparse_rows.h"

#include "molt/ops/sparse_columns.h"

namespace molt::ops {

Tensor SparseRows::forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& delta_in) {
  const int64_t count = static_cast<int64_t>(rows->size());
  MOLT_CHECK(y.rank() == 2 && x_in.rank() == 2 && x_in.dim(0) == y.dim(0), "sparse_rows: y ", shape_str(y.shape()),
             ", x ", shape_str(x_in.shape()));
  MOLT_CHECK(delta_in.shape() == (Shape{x_in.dim(1), count}) && delta_in.dtype() == y.dtype(), "sparse_rows: delta ",
             shape_str(delta_in.shape()), " ", dtype_name(delta_in.dtype()), " for ", count, " rows, x ",
             shape_str(x_in.shape()), " and y of ", dtype_name(y.dtype()));
  MOLT_CHECK(rows->empty() || (rows->front() >= 0 && rows->back() < size), "sparse_rows: rows up to ",
             rows->empty() ? 0 : rows->back(), " of ", size);
  // The gradient towards the input of a product with few columns is this
  // product.
  sparse_columns_kernels.at(y.device()).x_gradient(x_in, delta_in, *rows, {y.col_range(first_row, size), true});
  if (needs.wants(2)) x = x_in;
  if (needs.any()) delta = delta_in;
  return y;
}

void SparseRows::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(1) || d.wants(2)) {
    const SparseColumnsKernels& kernels = sparse_columns_kernels.at(dy.device());
    const Tensor part = dy.col_range(first_row, size), chosen = dy.like({dy.dim(0), delta.dim(1)});
    if (d.wants(1)) {
      const GradOut dx = d.out(1);
      Tensor to = dx.tensor;
      if (!dx.accumulate) to.fill(0);
      kernels.forward(part, *rows, delta, chosen, to);  // takes the chosen columns on its way
    } else {
      for (size_t s = 0; s < rows->size(); ++s) {
        Tensor column = chosen.col_range(static_cast<int64_t>(s), 1);
        column.copy_from(part.col_range((*rows)[s], 1));
      }
    }
    if (d.wants(2)) kernels.delta_gradient(x, chosen, d.out(2));
  }
  d.give(0, dy);
}

}  // namespace molt::ops
