#include "molt/ops/gather_rows.h"

namespace molt::ops {

Tensor GatherRows::forward(const Needs&, const Tensor& x) {
  MOLT_CHECK(x.rank() == 2, "gather_rows: x is a matrix, got ", shape_str(x.shape()));
  for (const int64_t row : rows)
    MOLT_CHECK(row >= 0 && row < x.dim(0), "gather_rows: row ", row, " of a matrix of ", x.dim(0), " rows");
  Tensor y = x.like({static_cast<int64_t>(rows.size()), x.dim(1)});
  gather_rows_kernels.at(x.device()).forward(x, rows, y);
  return y;
}

void GatherRows::backward(const Tensor& dy, Grads& d) const {
  MOLT_CHECK(!d.rows(0), "gather_rows: x with a gradient for some rows only");
  gather_rows_kernels.at(dy.device()).backward(dy, rows, d.out(0));
}

}  // namespace molt::ops
